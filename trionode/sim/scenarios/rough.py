"""Lost, doubled and overtaken messages all the time; the nodes still agree (safety under faults).

Faults go on from the first link to the end of the first two announcement rounds. Then the weather turns
calm and agreement is demanded (liveness): a run proves nothing if it may fail for ever.
"""

from __future__ import annotations

from trionode.sim.conditions import ROUGH
from trionode.sim.scenario import Scenario
from trionode.sim.world import World, WorldPlan


async def story(world: World) -> None:
    await world.start_all()
    await world.until(world.knows_all, 2 * 3600 + 1200, "all nodes agree in spite of 2 % loss and reordering")
    await world.sleep(1800)
    world.heal()
    await world.sleep(3700)
    await world.until(world.knows_all, 600, "all nodes agree in calm weather")


ROUGH_WEATHER = Scenario(
    name="rough",
    summary="2 % loss, duplication and reordering do not keep 16 nodes from agreeing",
    story=story,
    plan=WorldPlan(nodes=16, apps_from_start=True, conditions=ROUGH, clock_skew_ms=5_000),
)
