"""Half and half for ten minutes, with changes on both sides; after the cut all agree again.

What was announced during the cut reaches the other half with the next hourly announcement of the node
concerned (docs/spec/events.md §9), so agreement may take that long.
"""

from __future__ import annotations

from trionode.sim.scenario import Scenario, ScenarioError
from trionode.sim.world import World, WorldPlan, app

CUT_S = 600.0
NEXT_ROUND_S = 3600.0 + 600.0


async def story(world: World) -> None:
    await world.stand_up()
    half = len(world.nodes) // 2
    left, right = world.nodes[:half], world.nodes[half:]
    world.partition(left, right)
    await world.sleep(60)
    left[0].apps.replace((*left[0].apps.apps(), app("left")))
    right[0].apps.replace((*right[0].apps.apps(), app("right")))
    await world.sleep(CUT_S - 60)
    if world.agreed():
        raise ScenarioError("both halves agree although nothing can cross the cut")
    world.heal()
    await world.until(world.knows_all, NEXT_ROUND_S, "both halves agree after the cut healed")


PARTITION = Scenario(
    name="partition",
    summary="a partition 8|8 for 10 virtual minutes heals to the same view",
    story=story,
    plan=WorldPlan(nodes=16),
)
