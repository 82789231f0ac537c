"""Acceptance suites 09, 21, 27 on simulated machines with the times of the real network: the spawner.

Facts: docs/spec/testnet.md §8, docs/spec/lifecycle.md §11.
"""

from __future__ import annotations

from trionode.sim.appspecs import AppPlan
from trionode.sim.scenario import Scenario
from trionode.sim.scenarios.hosting import Stage, world_plan
from trionode.sim.scenarios.watching import Journal, check
from trionode.sim.world import World


async def spawning(world: World) -> None:
    """09: an app is registered and taken by as many nodes as it wants."""
    stage, journal = Stage(world), Journal(world)
    await stage.ready()
    shop = AppPlan(name="shop")
    mark = journal.mark()
    await stage.register(shop)
    await world.until(lambda: len(stage.hosts(shop)) >= 3, 4 * 3600, "three nodes run the app")
    hosts = stage.hosts(shop)
    for node in hosts:
        check(bool(journal.found(node, "app:installed", mark, name="shop")), f"{node.name} told nobody")
    await world.sleep(3600)
    check(len(stage.hosts(shop)) == 3, f"{len(stage.hosts(shop))} nodes run the app")


SUITES = (
    Scenario(
        name="suite-09",
        summary="a registered app is taken by as many nodes as it wants",
        story=spawning,
        plan=world_plan(10),
    ),
)
