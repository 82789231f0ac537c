"""One virtual hour of a hundred nodes: links, pings, announcements, changes, a few deaths and returns."""

from __future__ import annotations

import trio

from trionode.sim.conditions import Conditions
from trionode.sim.scenario import Scenario
from trionode.sim.world import World, WorldPlan, app

HOUR_S = 3600.0


async def story(world: World) -> None:
    await world.stand_up()
    changes = 0
    while world.now_s < HOUR_S - 420:
        await world.sleep(world.rng.uniform(60, 180))
        node = world.rng.choice(world.nodes)
        if world.rng.random() < 0.5:
            changes += 1
            node.apps.replace((*node.apps.apps(), app(f"later{changes}")))
            await world.until(world.knows_all, 120, f"all nodes list the new app of {node.name}")
        else:
            await world.kill(node)
            await world.sleep(20)
            await world.start(node)
    await trio.sleep_until(HOUR_S)


HOUR = Scenario(
    name="hour",
    summary="one hour of virtual gossip of 100 nodes",
    story=story,
    plan=WorldPlan(
        nodes=100,
        start_spacing_s=0.2,
        tick_ms=5,
        conditions=Conditions(pong_grid_ms=50),
    ),
)
