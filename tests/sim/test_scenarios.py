"""Every scenario passes at its full size."""

from __future__ import annotations

import pytest

from trionode.errors import ConfigError
from trionode.sim.scenario import run_scenario
from trionode.sim.scenarios import CONTAINERS, SCENARIOS, SUITES, scenario_named
from trionode.sim.scenarios.hashes import STORIES
from trionode.sim.scenarios.reorgs import REORGS

HASH_STORIES = {scenario.name for scenario in (*STORIES, *REORGS)}
"""Smaller worlds, told in test_hash_scenarios."""

ACCEPTANCE = [scenario.name for scenario in SUITES]

ON_MACHINES = {scenario.name for scenario in CONTAINERS}
"""Told in test_container_stories."""

SHORT = [name for name in SCENARIOS if name not in ("hour", *HASH_STORIES, *ACCEPTANCE, *ON_MACHINES)]


@pytest.mark.parametrize("name", SHORT)
def test_scenario(name: str) -> None:
    report = run_scenario(scenario_named(name), seed=20)
    assert report.nodes == 16
    assert report.delivered > 1000
    assert report.checks > 1000


@pytest.mark.parametrize("name", ACCEPTANCE)
def test_acceptance_suite_with_the_times_of_the_real_network(name: str) -> None:
    report = run_scenario(scenario_named(name), seed=20)
    assert report.nodes == SCENARIOS[name].plan.nodes


@pytest.mark.timeout(900)
def test_one_hour_of_a_hundred_nodes() -> None:
    report = run_scenario(scenario_named("hour"), seed=20)
    assert report.nodes == 100
    assert report.virtual_s >= 3600


def test_an_unknown_scenario_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no scenario 'nope'") as caught:
        scenario_named("nope")
    assert "converge" in caught.value.remedy


def test_too_few_nodes_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 4 nodes"):
        run_scenario(scenario_named("converge"), seed=1, nodes=3)
