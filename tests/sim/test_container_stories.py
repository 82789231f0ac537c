"""Acceptance suites and stories about containers pass with the times of the real network (testnet.md §8)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import trio

from trionode.plans.spawn import Steps, _Round
from trionode.plans.spawnneeds import Announce
from trionode.sim.scenario import RunFailed, run_scenario
from trionode.sim.scenarios import HOSTING, SCENARIOS

SEEDS = range(1, 4)
"""`trionode sim run turmoil --seeds A-B` and scripts/nightly run more of them."""

PROGRAM = """
from trionode.sim.scenario import run_scenario
from trionode.sim.scenarios import scenario_named
print(run_scenario(scenario_named("crowd"), seed=3, nodes=8).trace)
"""


@pytest.mark.parametrize("name", [scenario.name for scenario in HOSTING])
def test_story(name: str) -> None:
    report = run_scenario(SCENARIOS[name], seed=20)
    assert report.nodes == SCENARIOS[name].plan.nodes


@pytest.mark.parametrize("seed", SEEDS)
def test_after_hours_of_troubles_every_app_is_where_it_should_be(seed: int) -> None:
    assert run_scenario(SCENARIOS["turmoil"], seed=seed).virtual_s > 2 * 3600


def test_nodes_that_do_not_mind_each_other_take_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(self: _Round) -> Steps:
        yield Announce(self.choice.app, self.kind.address)
        return None

    async def keep(*_: object) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("trionode.plans.spawn._Round.claim", hasty)
    monkeypatch.setattr("trionode.containers.spawning.world.SpawnWorld.remove_own", keep)
    with pytest.raises(RunFailed, match=r"runs \d times since 420 s"):
        run_scenario(SCENARIOS["crowd"], seed=3, nodes=8)


def test_eight_nodes_share_sixteen_apps() -> None:
    """100 nodes and 200 apps: `trionode sim run crowd`, part of scripts/nightly."""
    assert run_scenario(SCENARIOS["crowd"], seed=3, nodes=8).nodes == 8


def test_a_failure_names_seed_and_replay_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trionode.sim.scenarios.crowd.LONGEST_S", 60.0)
    with pytest.raises(RunFailed, match="with seed 20") as caught:
        run_scenario(SCENARIOS["crowd"], seed=20, nodes=8)
    assert "trionode sim run crowd --seed 20 --nodes 8" in (caught.value.remedy or "")


@pytest.mark.process
def test_same_seed_same_trace_whatever_the_hash_seed() -> None:
    traces = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=290,
        ).stdout
        for hash_seed in ("1", "4711")
    }
    assert len(traces) == 1
    assert all(len(trace.strip()) == 64 for trace in traces)
