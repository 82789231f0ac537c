"""Every node announces its apps; all nodes end up with the same locations (docs/spec/events.md §4.1, §9)."""

from __future__ import annotations

from trionode.sim.scenario import Scenario
from trionode.sim.world import World, WorldPlan

ANNOUNCED_S = 3600.0 + 600.0
"""A node announces when it has twelve peers; who was not linked yet hears it in the next hourly round."""


async def story(world: World) -> None:
    await world.start_all()
    await world.until(world.knows_all, ANNOUNCED_S, "all nodes list the apps of all nodes")
    # An hourly round later nothing has changed.
    await world.sleep(3700)
    await world.until(world.knows_all, 60, "all nodes still agree after the next round")


CONVERGE = Scenario(
    name="converge",
    summary="16 nodes converge on the same locations after every node announced",
    story=story,
    plan=WorldPlan(nodes=16, apps_from_start=True),
)
