"""kill -9 and start again: what was acknowledged is still there, and the peers take the node back."""

from __future__ import annotations

from trionode.sim.scenario import Scenario, ScenarioError
from trionode.sim.world import World, WorldPlan


async def story(world: World) -> None:
    await world.stand_up()
    victims = world.rng.sample(world.nodes, 3)
    before = {node.name: world.locations(node) for node in victims}
    await world.kill(*victims)
    await world.sleep(120)
    await world.start(*victims)
    for node in victims:
        if world.locations(node) != before[node.name]:
            raise ScenarioError(f"{node.name} came back with other locations than it had stored")
    enough = min(world.plan.settings.peers.threshold_reached, len(world.nodes) - 1)
    await world.until(
        lambda: all(world.peers(node) >= enough for node in victims), 900, "the restarted nodes have peers"
    )
    await world.until(world.knows_all, 600, "all nodes agree after the restarts")


RESTART = Scenario(
    name="restart",
    summary="three nodes killed with kill -9 come back with what they had stored",
    story=story,
    plan=WorldPlan(nodes=16),
    min_nodes=6,
)
