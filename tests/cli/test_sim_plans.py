"""`trionode sim run` without a name, `plan`, `replay` and `shrink`."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from trionode.cli.sim import command
from trionode.errors import ConfigError
from trionode.sim.runs import many
from trionode.sim.runs.draw import draw_plan
from trionode.sim.runs.many import Outcome
from trionode.sim.runs.plan import Down, RunPlan, read_plan

SMALL = RunPlan(seed=7, nodes=4, outbound=2, time_scale=0.06, weather_s=60.0, apps=(("a",),))


def invoke(*arguments: str, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    assert result.return_value == code
    return result.stdout, result.stderr


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(SMALL.text)
    return path


@pytest.fixture
def fails_with_a_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every plan in which some node dies counts as failed; nothing is really run."""

    def outcome_of(plan: RunPlan, *, replay: str = "") -> Outcome:
        dies = any(isinstance(step, Down) for step in plan.steps)
        remedy = f"replay it with `{replay or many.replay_command(plan.seed)}`"
        return Outcome(
            seed=plan.seed,
            nodes=plan.nodes,
            problem="somebody died" if dies else "",
            remedy=remedy,
            trace=("1 the end",),
        )

    monkeypatch.setattr(many, "outcome_of", outcome_of)


def test_the_plan_of_a_seed_is_printed_as_json() -> None:
    out, _ = invoke("plan", "--seed", "12")
    assert msgspec.json.decode(out, type=RunPlan) == draw_plan(12)


def test_a_plan_file_is_replayed(plan_file: Path) -> None:
    out, _ = invoke("replay", str(plan_file))
    assert "passed: 4 nodes" in out


@pytest.mark.usefixtures("fails_with_a_death")
def test_a_failure_names_seed_and_replay_command() -> None:
    seed = next(seed for seed in range(100) if any(isinstance(s, Down) for s in draw_plan(seed).steps))
    out, err = invoke("run", "--seed", str(seed), code=1)
    assert f"seed {seed}: somebody died" in err
    assert f"trionode sim replay --seed {seed}" in err
    assert "0 passed, 1 failed" in out
    _, err = invoke("replay", "--seed", str(seed), "--trace", "5", code=1)
    assert "1 the end" in err


@pytest.mark.usefixtures("fails_with_a_death")
def test_many_seeds_for_programs() -> None:
    out, _ = invoke("run", "--seeds", "1-20", "--jobs", "1", "--json", code=1)
    told = json.loads(out)
    assert told["runs"] == 20
    assert 0 < len(told["failed"]) < 20


@pytest.mark.usefixtures("fails_with_a_death")
def test_a_failing_plan_is_cut_down(tmp_path: Path) -> None:
    seed = next(seed for seed in range(100) if any(isinstance(s, Down) for s in draw_plan(seed).steps))
    _, err = invoke("shrink", "--seed", str(seed), "--out", str(tmp_path / "small.json"))
    small = read_plan(tmp_path / "small.json")
    assert len(small.steps) == 1
    assert small.nodes == 4
    assert "smallest: somebody died" in err


def test_a_plan_that_passes_cannot_be_cut_down(plan_file: Path) -> None:
    with pytest.raises(ConfigError, match="does not fail"):
        invoke("shrink", str(plan_file))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("replay",), "which plan"),
        (("run", "--nodes", "5"), "the plan says how many"),
        (("run", "converge", "--seeds", "1-3", "--seed", "4"), "goes alone"),
        (("run", "nope", "--seeds", "1-3"), "no scenario"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(arguments: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        invoke(*arguments)
