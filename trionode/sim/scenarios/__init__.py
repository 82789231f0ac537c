"""Scenarios by name. One file each: a short story told to a `World`, and how its world is built."""

from __future__ import annotations

from trionode.errors import ConfigError
from trionode.sim.scenario import Scenario
from trionode.sim.scenarios.containers_gone import GONE
from trionode.sim.scenarios.containers_kept import KEPT
from trionode.sim.scenarios.converge import CONVERGE
from trionode.sim.scenarios.crowd import CROWDS
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
from trionode.sim.scenarios.suites_boot import SUITES as BOOT_SUITES
from trionode.sim.scenarios.suites_chain import SUITES as CHAIN_SUITES
from trionode.sim.scenarios.suites_containers import SUITES as CONTAINER_SUITES
from trionode.sim.scenarios.suites_orchestrator import SUITES as ORCHESTRATOR_SUITES
from trionode.sim.scenarios.suites_spawning import SUITES as SPAWNING_SUITES
from trionode.sim.scenarios.suites_sync import SUITES as SYNC_SUITES
from trionode.sim.scenarios.turmoil import DAYS

SUITES: tuple[Scenario, ...] = (*CHAIN_SUITES, *ORCHESTRATOR_SUITES, *BOOT_SUITES, *SYNC_SUITES)
"""The acceptance suites of docs/spec/testnet.md §8, with the times of the real network."""

HOSTING: tuple[Scenario, ...] = (*SPAWNING_SUITES, *CONTAINER_SUITES, *KEPT, *GONE)
"""Acceptance suites and stories about containers, with the times of the real network."""

CONTAINERS: tuple[Scenario, ...] = (*HOSTING, *CROWDS, *DAYS)
"""Everything that happens on machines with engines."""

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
        *SUITES,
        *CONTAINERS,
    )
}


def scenario_named(name: str) -> Scenario:
    """The scenario of this name. Raises ConfigError, naming the ones there are."""
    found = SCENARIOS.get(name)
    if found is None:
        raise ConfigError(f"no scenario {name!r}", remedy=f"use one of {', '.join(SCENARIOS)}")
    return found
