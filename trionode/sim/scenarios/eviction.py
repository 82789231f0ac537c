"""A node leaves the list while it runs, and comes back (docs/spec/events.md §8).

Its daemon goes on saying CONFIRMED, as one does that lags behind: a node cannot vouch for itself once
its key is in nobody's list. One neighbour is cut off from everybody meanwhile: who has lost its own network
judges nobody, and catches up when it is back.
"""

from __future__ import annotations

from trionode.sim.node import SimNode
from trionode.sim.scenario import Scenario, ScenarioError
from trionode.sim.world import World, WorldPlan

MARGIN_S = 200.0
"""A block for the list, and the way of the news."""


async def story(world: World) -> None:
    await world.stand_up()
    sweep_s = world.plan.settings.monitors.node_interval_s
    victim, hermit, *_ = world.rng.sample(world.nodes, 2)
    world.partition([hermit], [node for node in world.nodes if node is not hermit])
    await world.sleep(180)
    world.chain.remove_node(victim.address)
    world.note(f"{victim.name} is delisted")
    others = [node for node in world.nodes if node not in (victim, hermit)]
    await world.until(
        lambda: not any(_lists(world, node, victim) for node in others),
        sweep_s + MARGIN_S,
        f"{victim.name} is gone from the views of all who could sweep",
    )
    if not _lists(world, hermit, victim):
        raise ScenarioError(f"{hermit.name} evicted a node although it reached nobody")
    world.heal()
    await world.until(
        lambda: not _lists(world, hermit, victim),
        2 * sweep_s + MARGIN_S,
        f"{hermit.name} evicts {victim.name} once it is back",
    )
    world.chain.restore_node(victim.address)
    world.note(f"{victim.name} is listed again")
    await world.until(world.knows_all, 3600 + MARGIN_S, "everybody lists everybody again")
    gone = [node.name for node in world.nodes if not node.apps.apps()]
    if gone:
        raise ScenarioError(f"{gone} lost their apps although they were confirmed all the time")


def _lists(world: World, node: SimNode, other: SimNode) -> bool:
    return any(ip == other.address for _, ip in world.locations(node))


EVICTION = Scenario(
    name="eviction",
    summary="a delisted node vanishes from all views within a sweep; a node that is cut off evicts nobody",
    story=story,
    plan=WorldPlan(nodes=16, clock_skew_ms=5_000),
)
