"""Stories of the hash sync: however a node came to miss messages, and whatever its peers do, it gets them.

Facts: docs/spec/registry.md §12, docs/spec/testnet.md §8 (suites 07 and 26).
"""

from __future__ import annotations

import msgspec

from trionode.registry.rows import HashRow
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
    seed_registry,
    stand,
)
from trionode.sim.world import World, WorldPlan
from trionode.sync.bulk import LIST_PATH

MANY = 600
"""More than are asked for one by one: lists of peers are read."""

VERY_MANY = 4_200
"""More than two batches."""

AUDIT_BLOCKS = 40
AUDITED = msgspec.structs.replace(
    SMALL_NETWORK,
    explorer=msgspec.structs.replace(
        SMALL_NETWORK.explorer, rebuild_period_blocks=AUDIT_BLOCKS // SMALL_NETWORK.explorer.pon_speedup
    ),
)
"""The audit of payments every 20 minutes instead of every five days."""

PLAN = WorldPlan(nodes=8, settings=SMALL_NETWORK, block_interval_s=BLOCK_S)


async def late_joiner(world: World) -> None:
    """Apps are registered while one node is not there; it joins and knows them soon."""
    *early, late = world.nodes
    await stand(world, early)
    messages = app_messages(world, 12)
    await announce(early[0], messages)
    await world.sleep(30)
    pay(world, messages)
    await world.until(lambda: all(knows(node, messages) for node in early), 120, "early nodes know the apps")
    await world.start(late)
    await world.until(lambda: knows(late, messages), 170, f"{late.name} knows the apps registered before")
    await check_same(world, messages, world.nodes)


async def late_joiner_bulk(world: World) -> None:
    """The same with more messages than are asked for one by one: peers' lists are read."""
    *early, late = world.nodes
    messages = app_messages(world, MANY)
    await seed_registry(world, messages, early, [late])
    await stand(world, early)
    await world.start(late)
    await world.until(lambda: knows(late, messages), 170, f"{late.name} knows all apps")
    await check_same(world, messages, world.nodes)


async def cut_off(world: World) -> None:
    """A node is cut off while apps are registered and paid for; back again it learns of them."""
    *rest, cut = world.nodes
    await stand(world, world.nodes)
    world.partition(rest, [cut])
    messages = app_messages(world, 12)
    await announce(rest[0], messages)
    await world.sleep(30)
    pay(world, messages)
    await world.until(lambda: all(knows(node, messages) for node in rest), 120, "the rest knows the apps")
    await world.sleep(300)
    if knows(cut, messages[:1]):
        raise ScenarioError(f"{cut.name} knows an app that nobody could tell it of")
    world.heal()
    await world.until(lambda: knows(cut, messages), 900, f"{cut.name} knows the apps after the cut")
    await check_same(world, messages, world.nodes)


async def row_reset(world: World) -> None:
    """Payments count as unresolved although their messages are stored: the audit of a block finds out."""
    await stand(world, world.nodes)
    messages = app_messages(world, 6)
    await announce(world.nodes[0], messages)
    await world.sleep(30)
    pay(world, messages)
    await world.until(lambda: all(knows(node, messages) for node in world.nodes), 120, "all know the apps")
    victim = world.nodes[-1]
    store = victim.registry_store
    rows = await store.hash_rows(message.hash for message in messages)
    await store.update_hashes(
        HashRow.found(row.txid, row.height, row.hash, row.value_sat) for row in rows.values()
    )
    asked = victim.running.counters["hashsync.runs"]
    await world.until(
        lambda: victim.running.counters["hashsync.runs"] > asked,
        (AUDIT_BLOCKS + 2) * BLOCK_S,
        f"{victim.name} looks for its rows",
    )
    await world.sleep(60)
    await check_same(world, messages, world.nodes)


async def all_peers_lie(world: World) -> None:
    """Every list of messages is forged: nothing false is kept, single requests get the true ones."""
    *early, late = world.nodes
    messages = app_messages(world, MANY)
    await seed_registry(world, messages, early, [late])
    await stand(world, early)
    for node in early:
        world.http.manners[node.ip] = "lie"
    await world.start(late)
    await world.until(
        lambda: late.running.hash_sync.last is not None, 900, f"{late.name} ended its first run"
    )
    last = late.running.hash_sync.last
    if last is None or any(outcome.resolved for outcome in last.streamed):
        raise ScenarioError(f"{late.name} believed a forged list")
    await world.until(lambda: knows(late, messages), 3600, f"{late.name} got the true messages one by one")
    await check_same(world, messages, world.nodes)


async def one_peer_stalls(world: World) -> None:
    """The first list that is asked for stalls: it is given up, and the next peer's is read."""
    *early, late = world.nodes
    messages = app_messages(world, MANY)
    await seed_registry(world, messages, early, [late])
    await stand(world, early)
    for node in early:
        world.http.manners[node.ip] = "stall"
    await world.start(late)
    while not (lists := lists_asked(world, late)) and late.running.hash_sync.last is None:
        await world.sleep(1)
    # with no fit peer at hand no list is read, and single requests follow at once
    world.http.manners = dict.fromkeys(lists[:1], "stall")
    await world.until(lambda: knows(late, messages), 900, f"{late.name} knows all apps")
    if len(lists_asked(world, late)) > 2:
        raise ScenarioError(f"{late.name} went on reading lists after a whole one")
    await check_same(world, messages, world.nodes)


def lists_asked(world: World, node: SimNode) -> list[str]:
    """Whose lists of messages this node has begun to read, in order."""
    return [whom for asker, whom, path in world.http.asked if (asker, path) == (node.ip, LIST_PATH)]


async def killed_in_bulk(world: World) -> None:
    """kill -9 while a list is read: what was stored stays, and after the restart nothing comes twice."""
    *early, late = world.nodes
    messages = app_messages(world, VERY_MANY)
    await seed_registry(world, messages, early, [late])
    await stand(world, early)
    await world.start(late)
    store = late.registry_store
    stored = 0
    while not stored and late.running.hash_sync.last is None:
        await world.sleep(0.005)
        stored = (await store.counts())["permanents"]
    if stored >= VERY_MANY:
        raise ScenarioError(f"{late.name} stored everything at once: there was no middle to kill it in")
    await world.kill(late)
    if (await store.hash_counts()).missing != VERY_MANY - stored:
        raise ScenarioError(f"{late.name} has payments whose state does not fit its messages")
    await world.sleep(60)
    await world.start(late)
    await world.until(lambda: knows(late, messages), 170, f"{late.name} knows all apps after the restart")
    await check_same(world, messages, world.nodes)


LATE_JOINER = Scenario(
    name="late-joiner",
    summary="a node that starts after apps were registered knows them soon",
    story=late_joiner,
    plan=PLAN,
    min_nodes=5,
)
LATE_JOINER_BULK = Scenario(
    name="late-joiner-bulk",
    summary=f"a node that misses {MANY} messages reads them from the list of a peer",
    story=late_joiner_bulk,
    plan=PLAN,
    min_nodes=5,
)
CUT_OFF = Scenario(
    name="cut-off",
    summary="a node cut off during registrations knows them after it is back",
    story=cut_off,
    plan=PLAN,
    min_nodes=5,
)
ROW_RESET = Scenario(
    name="row-reset",
    summary="payments that forgot that their messages are stored remember it at the next audit",
    story=row_reset,
    plan=msgspec.structs.replace(PLAN, settings=AUDITED),
    min_nodes=5,
)
PEERS_LIE = Scenario(
    name="peers-lie",
    summary="forged lists of messages are refused whole; single requests get the true ones",
    story=all_peers_lie,
    plan=PLAN,
    min_nodes=5,
)
PEER_STALLS = Scenario(
    name="peer-stalls",
    summary="a list of messages that stalls is given up, and the next peer's is read",
    story=one_peer_stalls,
    plan=PLAN,
    min_nodes=5,
)
KILLED_IN_BULK = Scenario(
    name="killed-in-bulk",
    summary="kill -9 while a list of messages is read: nothing is lost, nothing comes twice",
    story=killed_in_bulk,
    plan=PLAN,
    min_nodes=5,
)

STORIES = (LATE_JOINER, LATE_JOINER_BULK, CUT_OFF, ROW_RESET, PEERS_LIE, PEER_STALLS, KILLED_IN_BULK)
"""All of them, in the order they are listed to people."""
