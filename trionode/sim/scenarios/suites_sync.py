"""Acceptance suites 03, 05, 22 and 26 with the times of the real network: peers, blocks, state sync.

Facts: docs/spec/testnet.md §8, docs/spec/lifecycle.md §7, §8, docs/spec/events.md §10.
"""

from __future__ import annotations

from trionode.sim.scenario import Scenario
from trionode.sim.scenarios.registering import announce, app_messages, check_same, knows, pay
from trionode.sim.scenarios.watching import Journal, check
from trionode.sim.world import World, WorldPlan

KINDS = ("apprunning", "appinstalling", "apperrors")
ELIGIBLE_S = 7_500.0
"""A peer must be up for 125 minutes before it is asked for state."""


async def explorer(world: World) -> None:
    """03: blocks are read as they come, by all nodes alike."""
    journal = Journal(world)
    await world.start_all()
    mark = journal.mark()
    for node in world.nodes:
        await journal.next(node, "block:processed", 140, after=mark)
    await world.sleep(1_200)
    heights = {node.running.explorer.scanned_height for node in world.nodes}
    check(len(heights) == 1, f"the nodes have read up to {sorted(heights)}")
    check(heights == {world.chain.height}, "the nodes have not read the last block")


async def peering(world: World) -> None:
    """05: everybody finds outbound peers within two minutes, only listed ones and not itself."""
    await world.start_all()
    await world.until(
        lambda: all(node.running.peers.table.outbound for node in world.nodes), 120, "all have outbound peers"
    )
    listed = {node.ip for node in world.nodes}
    for node in world.nodes:
        peers = {peer.ip for peer in node.running.peers.table}
        check(peers <= listed - {node.ip}, f"{node.name} has the peers {peers}")


async def late_joiner(world: World) -> None:
    """22, 26: who comes late learns from three peers what runs where, and which apps there are."""
    journal = Journal(world)
    *early, late = world.nodes
    for node in early:
        await world.start(node)
        await world.sleep(world.plan.start_spacing_s)
    await world.until(lambda: all(world.peers(node) >= 12 for node in early), 900, "early nodes have peers")
    world.start_apps(*early)
    await world.sleep(ELIGIBLE_S - 600)
    messages = app_messages(world, 3)
    await announce(early[0], messages)
    await world.sleep(30)
    pay(world, messages)
    await world.until(lambda: all(knows(node, messages) for node in early), 300, "early nodes know the apps")
    await world.sleep(ELIGIBLE_S - world.now_s + 120)
    mark = journal.mark()
    await world.start(late)
    requested = await journal.next(late, "ephemeralSync:requested", 120, after=mark)
    check(journal.entries[requested].data["peerCount"] >= 3, "fewer than three peers were asked")
    complete = await journal.next(late, "ephemeralSync:allComplete", 90, after=mark)
    for kind in KINDS:
        check(journal.entries[complete].data[kind] >= 3, f"{kind} was answered by fewer than three")
    chunks = journal.found(late, "sync:chunkVerified", mark, syncType="apprunning")
    check(any(journal.entries[place].data["verified"] > 0 for place in chunks), "no chunk held anything")
    await journal.phase(late, "READY", 400, after=mark)
    check(world.agreed(), f"{late.name} does not list what the others do")
    check(bool(world.locations(late)), "there is nothing to list")
    await world.until(lambda: knows(late, messages), 200, f"{late.name} knows the apps")
    await check_same(world, messages, world.nodes)
    check((await late.registry_store.hash_counts()).missing == 0, f"{late.name} misses messages")


SUITES = (
    Scenario(
        name="suite-03",
        summary="blocks are read by all nodes alike",
        story=explorer,
        plan=WorldPlan(nodes=2),
        min_nodes=2,
    ),
    Scenario(
        name="suite-05",
        summary="five nodes find each other",
        story=peering,
        plan=WorldPlan(nodes=5, start_spacing_s=0),
    ),
    Scenario(
        name="suite-22-26",
        summary="a late joiner gets the state from three peers over signed sync",
        story=late_joiner,
        plan=WorldPlan(nodes=15, start_spacing_s=0.1),
        min_nodes=14,
    ),
)
