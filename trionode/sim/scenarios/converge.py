"""Every node announces its apps; all nodes end up with the same locations (docs/spec/events.md §4.1, §9)."""

from __future__ import annotations

from trionode.sim.scenario import Scenario
from trionode.sim.world import World, WorldPlan

FIRST_ANNOUNCEMENTS_S = 1200.0
"""Links come up within the first discovery passes; an announcement follows the twelfth peer."""


async def story(world: World) -> None:
    await world.start_all()
    await world.until(world.knows_all, FIRST_ANNOUNCEMENTS_S, "all nodes list the apps of all nodes")
    # An hourly round later nothing has changed.
    await world.sleep(3700)
    await world.until(world.knows_all, 60, "all nodes still agree after the next round")


CONVERGE = Scenario(
    name="converge",
    summary="16 nodes converge on the same locations after every node announced",
    story=story,
    plan=WorldPlan(nodes=16),
    min_nodes=14,
)
