"""Plans that are kept: each once showed something, and says what in its own words (tests/sim/plans)."""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path

import msgspec
import pytest

from trionode.errors import ConfigError
from trionode.sim.runs.carry import carry_out
from trionode.sim.runs.draw import MAX_APART_MS, draw_plan
from trionode.sim.runs.many import outcome_of, run_seeds
from trionode.sim.runs.plan import Cut, Down, Join, LiarPlan, RunPlan, read_plan
from trionode.sim.runs.shrink import keep_nodes, shrink, smaller_plans

PLANS = sorted((Path(__file__).parent / "plans").glob("*.json"))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_kept_plan_passes_and_says_why_it_is_kept(path: Path) -> None:
    plan = read_plan(path)
    assert plan.because.endswith(".")
    assert plan.text == path.read_text(encoding="utf-8"), "rewrite it with RunPlan.text"
    carry_out(plan)


def test_a_plan_survives_being_written_and_read() -> None:
    for seed in range(200):
        plan = draw_plan(seed)
        assert msgspec.json.decode(plan.text, type=RunPlan) == plan
        assert draw_plan(seed) == plan


def test_what_is_drawn_is_a_network_that_can_agree() -> None:
    for seed in range(500):
        plan = draw_plan(seed)
        assert 16 <= plan.nodes <= 200
        assert max(plan.skews_ms) - min(plan.skews_ms) <= MAX_APART_MS
        assert all(abs(skew_ms) <= 90_000 for skew_ms in plan.skews_ms)
        assert {step.node for step in plan.steps if isinstance(step, Join)} == set(plan.late)


def test_the_same_seed_gives_the_same_run() -> None:
    plan = keep_nodes(draw_plan(4), list(range(8)))
    assert outcome_of(plan).digest == outcome_of(plan).digest


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "no plan"),
        ('{"seed": 1, "nodes": 4, "steps": [{"do": "join", "at_s": 1, "node": 4}]}', "speaks of node 4"),
        ('{"seed": 1, "nodes": 4, "steps": [{"do": "dance", "at_s": 1}]}', "no plan"),
    ],
)
def test_a_damaged_plan_is_refused_in_a_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        read_plan(path)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_plan(Path("/nowhere/plan.json"))


# --- cutting down -----------------------------------------------------------------------------------


def test_what_does_not_matter_goes() -> None:
    plan = draw_plan(9)
    cut = Cut(at_s=100.0, among=(3, 7), for_s=20.0)
    plan = msgspec.structs.replace(
        plan, steps=(*plan.steps, cut), liars=(LiarPlan(number=0, tricks=("evict", "forge")),)
    )

    def fails(candidate: RunPlan) -> bool:
        cuts = [step for step in candidate.steps if isinstance(step, Cut) and len(step.among) == 2]
        return bool(cuts) and any("evict" in liar.tricks for liar in candidate.liars)

    small = shrink(plan, fails)
    assert fails(small)
    assert small.nodes == 4
    assert len(small.steps) == 1
    assert small.liars == (LiarPlan(number=0, tricks=("evict",)),)
    assert not any(small.apps)
    assert not small.skews_ms


def test_every_smaller_plan_is_a_plan() -> None:
    rng = random.Random(5)
    for seed in range(40):
        plan = draw_plan(seed)
        for smaller in rng.sample(list(smaller_plans(plan)), 5):
            assert msgspec.json.decode(smaller.text, type=RunPlan) == smaller
            named = {node for step in smaller.steps for node in step.nodes} | set(smaller.late)
            assert all(node < smaller.nodes for node in named)


def test_the_number_of_tries_is_bounded() -> None:
    tries = 0

    def fails(candidate: RunPlan) -> bool:
        nonlocal tries
        tries += 1
        return False

    shrink(draw_plan(9), fails, max_tries=7)
    assert tries == 7


# --- many -------------------------------------------------------------------------------------------


def test_a_failure_names_the_seed_and_the_replay_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from trionode.sim.runs import carry

    monkeypatch.setattr(carry, "REJOIN_S", -1.0)
    plan = msgspec.structs.replace(
        keep_nodes(draw_plan(4), list(range(5))), steps=(Down(at_s=10.0, node=0, for_s=5.0),), liars=()
    )
    monkeypatch.setattr(carry, "MARGIN_S", 0.0)
    outcome = outcome_of(plan)
    assert not outcome.passed
    assert "seed 4" in outcome.problem
    assert "trionode sim replay --seed 4" in outcome.remedy


@pytest.mark.process
@pytest.mark.timeout(900)
def test_seeds_run_side_by_side_and_each_is_told() -> None:
    outcomes = sorted(run_seeds([2, 3, 4], 2), key=lambda outcome: outcome.seed)
    assert [outcome.seed for outcome in outcomes] == [2, 3, 4]
    assert all(outcome.passed for outcome in outcomes)


@pytest.mark.process
@pytest.mark.timeout(900)
def test_a_process_that_dies_costs_only_the_run_it_was_at() -> None:
    outcomes = []
    for outcome in run_seeds([2, 3, 4, 5], 2):
        outcomes.append(outcome)
        if len(outcomes) == 1:
            multiprocessing.active_children()[0].kill()
    lost = [outcome for outcome in outcomes if not outcome.passed]
    assert sorted(outcome.seed for outcome in outcomes) == [2, 3, 4, 5]
    assert len(lost) == 1
    assert "ended with -9" in lost[0].problem
    assert f"--seed {lost[0].seed}" in lost[0].remedy
