"""A node loses its power; its apps vanish everywhere at the exact expiry (docs/spec/events.md §1, §6)."""

from __future__ import annotations

import trio

from trionode.sim.scenario import Scenario, ScenarioError
from trionode.sim.world import World, WorldPlan


async def story(world: World) -> None:
    await world.stand_up()
    victim = world.nodes[world.rng.randrange(len(world.nodes))]
    expiry_ms = world.plan.settings.appstate.running_expiry_ms
    await world.power_cut(victim)
    await world.sleep(5)
    # The last announcement may still have been under way: every survivor knows its own expiry.
    survivors = world.up()
    for node in survivors:
        last_ms = max(at_ms for (_, ip), at_ms in world.locations(node).items() if ip == victim.address)
        if last_ms + expiry_ms <= node.clock.now_ms():
            raise ScenarioError(f"{node.name} lists {victim.name} longer than the expiry")
    async with trio.open_nursery() as nursery:
        for node in survivors:
            last_ms = max(at for (_, ip), at in world.locations(node).items() if ip == victim.address)
            wait_s = (last_ms + expiry_ms - node.clock.now_ms()) / 1000
            nursery.start_soon(_watch, world, node.number, victim.address, wait_s)
    await world.until(world.knows_all, 60, "the survivors agree without the dead node")


async def _watch(world: World, number: int, address: str, wait_s: float) -> None:
    """A millisecond before the expiry the node is listed, one after it is not."""
    node = world.nodes[number]
    await world.sleep(wait_s - 0.001)
    if not _lists(world, number, address):
        raise ScenarioError(f"{node.name} dropped {address} before its expiry")
    await world.sleep(0.002)
    if _lists(world, number, address):
        raise ScenarioError(f"{node.name} still lists {address} after its expiry")


def _lists(world: World, number: int, address: str) -> bool:
    return any(ip == address for _, ip in world.locations(world.nodes[number]))


DEATH = Scenario(
    name="death",
    summary="a killed node's apps disappear at the exact expiry everywhere",
    story=story,
    plan=WorldPlan(nodes=16, clock_skew_ms=20_000),
)
