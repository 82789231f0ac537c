"""One virtual hour of a hundred nodes: links, announcements, pings, changes, a few deaths and returns."""

from __future__ import annotations

import trio

from trionode.sim.scenario import Scenario
from trionode.sim.world import World, WorldPlan, app

HOUR_S = 3600.0


async def story(world: World) -> None:
    await world.start_all()
    await world.until(world.knows_all, 1500, "all nodes list the apps of all nodes")
    changes = 0
    while world.now_s < HOUR_S - 300:
        await world.sleep(world.rng.uniform(60, 180))
        node = world.rng.choice(world.nodes)
        if world.rng.random() < 0.5:
            changes += 1
            node.apps.replace((*node.apps.apps(), app(f"later{changes}")))
        else:
            await world.kill(node)
            await world.sleep(20)
            await world.start(node)
    await world.until(world.knows_all, 240, "all nodes agree on what changed during the hour")
    await trio.sleep_until(HOUR_S)


HOUR = Scenario(
    name="hour",
    summary="one hour of virtual gossip of 100 nodes",
    story=story,
    plan=WorldPlan(nodes=100, start_spacing_s=0.2, tick_ms=5),
    min_nodes=14,
)
