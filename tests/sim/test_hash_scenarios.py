"""The stories of the hash sync hold, and tell the same twice (docs/spec/registry.md §12)."""

from __future__ import annotations

import pytest

from trionode.sim.scenario import Scenario, run_scenario
from trionode.sim.scenarios.hashes import CUT_OFF, STORIES
from trionode.sim.scenarios.reorgs import REORGS


@pytest.mark.parametrize("scenario", [*STORIES, *REORGS], ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_story_holds(scenario: Scenario, seed: int) -> None:
    assert run_scenario(scenario, seed=seed).delivered > 0


def test_a_run_can_be_told_again() -> None:
    first, second = (run_scenario(CUT_OFF, seed=3) for _ in range(2))
    assert (first.trace, first.trace_lines) == (second.trace, second.trace_lines)
