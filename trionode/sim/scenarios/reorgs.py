"""Stories of a chain that is reorganised while nodes follow it and one still syncs.

Facts: docs/spec/registry.md §9 (restore, reorg), §12. Payments of the replaced blocks stand in other
blocks afterwards; every node must end with the rows of the new chain and no others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trionode.sim.node import SimNode
from trionode.sim.scenario import Scenario, ScenarioError
from trionode.sim.scenarios.registering import (
    BLOCK_S,
    SMALL_NETWORK,
    announce,
    app_messages,
    check_same,
    knows,
    pay,
    stand,
)
from trionode.sim.world import World, WorldPlan

APPS = 12
DEPTHS = (1, 10, 99)
PLAN = WorldPlan(nodes=8, settings=SMALL_NETWORK, block_interval_s=BLOCK_S)


def reorganised(depth_blocks: int) -> Callable[[World], Awaitable[None]]:
    """The story of one reorganisation of `depth_blocks` in the middle of a late node's first sync."""

    async def story(world: World) -> None:
        *early, late = world.nodes
        await stand(world, early)
        messages = app_messages(world, APPS)
        await announce(early[0], messages)
        await world.sleep(30)
        pay(world, messages)
        await world.until(lambda: all(knows(node, messages) for node in early), 120, "early nodes know")
        await world.start(late)
        await world.sleep(2)
        old_tip = world.chain.height
        before = await _payments(early[0])
        world.note(f"reorganised by {depth_blocks}")
        world.chain.reorg(depth_blocks, extra=2, fate="shift")
        replaced = {row for row in before if row[2] > old_tip - depth_blocks}

        def follows(node: SimNode) -> bool:
            return node.running.explorer.scanned_height > old_tip and knows(node, messages)

        await world.until(
            lambda: all(follows(node) for node in world.nodes), 900, "every node follows the new chain"
        )
        await world.sleep(2 * BLOCK_S)
        await check_same(world, messages, world.nodes)
        first, *others = [await _payments(node) for node in world.nodes]
        if any(other != first for other in others):
            raise ScenarioError(f"after a reorganisation of {depth_blocks} nodes differ about the payments")
        if replaced & set(first):
            raise ScenarioError("a payment of a replaced block is still remembered in it")
        if len(first) != APPS or any(txid not in _transactions(world, height) for _, txid, height in first):
            raise ScenarioError("a payment stands in a block that does not hold it")

    return story


async def _payments(node: SimNode) -> list[tuple[str, str, int]]:
    """(app hash, txid, height) of every payment a node knows, sorted."""
    return sorted((row.hash, row.txid, row.height) for row in await node.registry_store.hashes())


def _transactions(world: World, height: int) -> set[str]:
    return {transaction["txid"] for transaction in world.chain.blocks.block(height)["tx"]}


REORGS = tuple(
    Scenario(
        name=f"reorg-{depth}",
        summary=f"the chain replaces {depth} block{'s' if depth > 1 else ''} while a node syncs: all agree",
        story=reorganised(depth),
        plan=PLAN,
        min_nodes=5,
    )
    for depth in DEPTHS
)
