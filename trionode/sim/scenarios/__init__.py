"""Scenarios by name. One file each: a short story told to a `World`, and how its world is built."""

from __future__ import annotations

from trionode.errors import ConfigError
from trionode.sim.scenario import Scenario
from trionode.sim.scenarios.converge import CONVERGE
from trionode.sim.scenarios.death import DEATH
from trionode.sim.scenarios.eviction import EVICTION
from trionode.sim.scenarios.flood import FLOOD
from trionode.sim.scenarios.hashes import STORIES
from trionode.sim.scenarios.hour import HOUR
from trionode.sim.scenarios.partition import PARTITION
from trionode.sim.scenarios.reorgs import REORGS
from trionode.sim.scenarios.restart import RESTART
from trionode.sim.scenarios.rough import ROUGH_WEATHER
from trionode.sim.scenarios.standing import STANDING

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        CONVERGE,
        PARTITION,
        DEATH,
        ROUGH_WEATHER,
        FLOOD,
        RESTART,
        HOUR,
        EVICTION,
        STANDING,
        *STORIES,
        *REORGS,
    )
}


def scenario_named(name: str) -> Scenario:
    """The scenario of this name. Raises ConfigError, naming the ones there are."""
    found = SCENARIOS.get(name)
    if found is None:
        raise ConfigError(f"no scenario {name!r}", remedy=f"use one of {', '.join(SCENARIOS)}")
    return found
