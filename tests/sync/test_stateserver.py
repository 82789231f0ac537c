"""Answering peers that ask for the app state (wire.md §11, events.md §10.2)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from statesyncworld import UP, Node, World, world
from syncworld import registration

from trionode.appstate.documents import EventRow
from trionode.errors import StoreError
from trionode.peers.link import Hello
from trionode.registry.rows import TemporaryRow
from trionode.store.memory import MemoryStore
from trionode.sync import stateserver
from trionode.wire.frames import (
    SYNC_INSTALL_ERRORS,
    SYNC_INSTALLING,
    SYNC_KINDS,
    SYNC_RUNNING,
    SYNC_TEMP,
    encode_frame,
    sync_request,
)
from trionode.wire.jsjson import stringify
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeList

pytestmark = pytest.mark.trio


@pytest.fixture
async def w(autojump_clock: trio.testing.MockClock) -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def knowing(w: World, *ages_ms: int, store: MemoryStore | None = None, **changes: Any) -> Node:
    """A node that knows one app per age, of as many addresses."""
    node = await w.node(store=store, **changes)
    for number, age_ms in enumerate(ages_ms):
        decision = await node.log.ingest(w.running(w.ips[number + 2], "app", age_ms=age_ms))
        assert decision.accepted
    return node


def refusals(node: Node) -> dict[str, int]:
    return {name.removeprefix("refused."): count for name, count in node.refused().items()}


async def test_records_ascend_and_the_last_answer_says_so(
    autojump_clock: Any, w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stateserver, "CHUNK_RECORDS", 2)
    node = await knowing(w, 1000, 5000, 3000, 2000)
    peer = await w.stranger(node, 1)
    await peer.ask(SYNC_RUNNING)
    await trio.sleep(1)
    assert [(len(chunk["messages"]), chunk["done"]) for chunk in peer.chunks] == [
        (2, False),
        (2, False),
        (0, True),
    ]
    items = [item for chunk in peer.chunks for item in chunk["messages"]]
    assert [item["ip"] for item in items] == [w.ips[n] for n in (3, 4, 5, 2)]
    assert list(items[0]) == ["ip", "type", "dedupKey", "broadcastedAt", "data", "envelope", "receivedAt"]
    assert {envelope.pub_key for envelope in peer.texts} == {node.key.public_key}


async def test_an_answer_ends_at_its_length_too(
    autojump_clock: Any, w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stateserver, "CHUNK_CHARS", 1500)
    node = await knowing(w, *range(1000, 6000, 1000))
    peer = await w.stranger(node, 1)
    await peer.ask(SYNC_RUNNING)
    await trio.sleep(1)
    assert [(len(chunk["messages"]), chunk["done"]) for chunk in peer.chunks] == [
        (3, False),
        (2, True),
    ]


async def test_a_request_before_the_first_node_list_waits_for_it(autojump_clock: Any, w: World) -> None:
    node = await knowing(w, 1000)
    known, node.facts.nodes = node.facts.nodes, NodeList()
    peer = await w.stranger(node, 1)
    await peer.ask(SYNC_RUNNING)
    await trio.sleep(5)
    assert peer.chunks == []
    node.facts.nodes = known
    node.bus.publish("chain:nodes", {"count": len(known)})
    await trio.sleep(1)
    assert [(len(chunk["messages"]), chunk["done"]) for chunk in peer.chunks] == [(1, True)]
    assert node.refused() == {}


async def test_without_a_node_list_a_request_is_too_late_one_day(autojump_clock: Any, w: World) -> None:
    node = await knowing(w, 1000)
    known, node.facts.nodes = node.facts.nodes, NodeList()
    peer = await w.stranger(node, 1)
    await peer.ask(SYNC_RUNNING)
    await trio.sleep(121)
    assert node.refused() == {"stateserver.too_late": 1}
    node.facts.nodes = known
    await peer.ask(SYNC_RUNNING)
    await trio.sleep(1)
    assert [chunk["done"] for chunk in peer.chunks] == [True]


async def test_whoever_knows_nothing_says_so(autojump_clock: Any, w: World) -> None:
    node = await w.node()
    peer = await w.stranger(node, 1)
    for kind in SYNC_KINDS:
        await peer.ask(kind)
    await trio.sleep(1)
    assert peer.chunks == [
        {"type": "fluxapptempsync", "version": 1, "messages": [], "done": True},
        {"type": "fluxapprunningsync", "messages": [], "done": True},
        {"type": "fluxappinstallingsync", "messages": [], "done": True},
        {"type": "fluxappinstallingerrorssync", "messages": [], "done": True},
    ]


async def test_since_is_by_the_clock_of_the_peer(autojump_clock: Any, w: World) -> None:
    node = await knowing(w, 60_000, 120_000, 180_000)
    hello = Hello(capabilities=UP.capabilities, uptime_s=1, clock_offset_ms=90_000)
    fast, exact = await w.stranger(node, 1, hello), await w.stranger(node, 2)
    since_ms = w.clock.now_ms() - 90_000
    await fast.ask(SYNC_RUNNING, since_ms=since_ms)
    await exact.ask(SYNC_RUNNING, since_ms=since_ms)
    await trio.sleep(1)
    assert [len(peer.chunks[0]["messages"]) for peer in (fast, exact)] == [2, 1]


class AsNarrowAsSqlite(MemoryStore):
    """Whole numbers have 63 bits."""

    def stream_events(self, after_ms: int, *, page: int = 500) -> AsyncIterator[EventRow]:
        assert abs(after_ms) < 2**63
        return super().stream_events(after_ms, page=page)


@pytest.mark.parametrize("offset_ms", [0, -(2**62)])
@pytest.mark.parametrize("since_ms", [2**62, 2**63, 2**64 - 1])
async def test_since_may_be_any_number(autojump_clock: Any, w: World, since_ms: int, offset_ms: int) -> None:
    node = await knowing(w, 1000, store=AsNarrowAsSqlite())
    peer = await w.stranger(node, 1, msgspec.structs.replace(UP, clock_offset_ms=offset_ms))
    await peer.ask(SYNC_RUNNING, since_ms=since_ms)
    await trio.sleep(1)
    assert [(chunk["messages"], chunk["done"]) for chunk in peer.chunks] == [([], True)]


async def test_since_cannot_reach_behind_the_window(autojump_clock: Any, w: World) -> None:
    node = await knowing(w, 1000)
    failed = {"type": "fluxappinstallingerror", "version": 1, "name": "x", "hash": "h", "error": "e"}
    installing = {"type": "fluxappinstalling", "version": 1, "name": "y"}
    for data in (failed, installing):
        assert (await node.log.ingest(w.signed(w.ips[3], data | {"ip": w.ips[3]}))).accepted
    await trio.sleep(14 * 60)
    early = await w.stranger(node, 1)
    for kind in SYNC_KINDS:
        await early.ask(kind, since_ms=1)
    await trio.sleep(2 * 60)
    late = await w.stranger(node, 2)
    for kind in SYNC_KINDS:
        await late.ask(kind, since_ms=1)
    await trio.sleep(1)
    counts = [[len(chunk["messages"]) for chunk in peer.chunks] for peer in (early, late)]
    assert counts == [[0, 1, 1, 1], [0, 1, 0, 1]]
    names = [list(chunk["messages"][0]) for chunk in early.chunks[2:]]
    head = ["version", "timestamp", "pubKey", "signature", "data", "broadcastedAt"]
    assert names == [[*head, "receivedAt"], [*head, "expireAt", "receivedAt"]]


async def test_temporary_messages_go_out_as_they_came(autojump_clock: Any, w: World) -> None:
    node = await w.node()
    now_ms = node.clock.now_ms()
    rows = []
    for number in range(3):
        message = registration(f"App{number}", number)
        rows.append(
            TemporaryRow(
                message.hash,
                message.type,
                message.version,
                stringify(message.spec),
                f"App{number}",
                "owner",
                message.timestamp_ms,
                message.signature,
                now_ms + number,
                now_ms + (3_600_000 if number else 10),
                None if number == 1 else False,
            )
        )
        await node.registry_store.put_temporary(rows[-1])
    peer, since = await w.stranger(node, 1), await w.stranger(node, 2)
    await peer.ask(SYNC_TEMP)
    await since.ask(SYNC_TEMP, since_ms=now_ms + 1)
    await trio.sleep(1)
    one, two = peer.chunks[0]["messages"]
    assert one == {
        "type": rows[1].type,
        "version": rows[1].version,
        "appSpecifications": rows[1].spec(),
        "hash": rows[1].hash,
        "timestamp": rows[1].timestamp_ms,
        "signature": rows[1].signature,
    }
    assert two["arcaneSender"] is False
    assert [item["hash"] for item in since.chunks[0]["messages"]] == [rows[2].hash]


# ---- who is answered ------------------------------------------------------------------------------


async def test_invalid_requests_are_met_with_silence_and_cost_nothing(autojump_clock: Any, w: World) -> None:
    """events.md §13.17: only a valid request uses up the turn of its peer."""
    node = await knowing(w, 1000)
    peer = await w.stranger(node, 1)
    now_ms = w.clock.now_ms()
    await peer.ask(SYNC_RUNNING, key=NodeKey.generate(random.Random(77)))
    await trio.sleep(0.1)
    await peer.ask(SYNC_RUNNING, at_ms=now_ms - 121_000)
    await trio.sleep(0.1)
    await peer.ask(SYNC_RUNNING, at_ms=now_ms + 121_000)
    await trio.sleep(0.1)
    request = sync_request(SYNC_RUNNING, 0, w.clock.now_ms(), peer.key)
    await peer.send(encode_frame(msgspec.structs.replace(request, since_ms=7)))
    await trio.sleep(0.1)
    assert peer.chunks == []
    assert node.refused() == {
        "stateserver.node_not_found": 1,
        "stateserver.skewed": 2,
        "stateserver.bad_signature": 1,
    }
    await peer.ask(SYNC_RUNNING)
    await trio.sleep(0.1)
    assert len(peer.chunks) == 1
    # any listed key may sign: the request is judged, not its bearer
    await peer.ask(SYNC_INSTALLING, key=w.keys[w.ips[9]])
    await trio.sleep(0.1)
    assert len(peer.chunks) == 2


async def test_one_turn_per_kind_link_and_interval(autojump_clock: Any, w: World) -> None:
    node = await knowing(w, 1000)
    peer = await w.stranger(node, 1)
    for _ in range(20):
        await peer.ask(SYNC_RUNNING)
        await peer.ask(SYNC_INSTALL_ERRORS)
        await trio.sleep(0.1)
    assert len(peer.chunks) == 2
    assert node.refused() == {"stateserver.throttled": 38}
    await trio.sleep(300)
    await peer.ask(SYNC_RUNNING)
    await trio.sleep(1)
    assert len(peer.chunks) == 3


async def test_a_new_link_has_a_new_turn_but_not_for_ever(autojump_clock: Any, w: World) -> None:
    """A node that restarts may ask again at once; one that reconnects in order to ask may not."""
    node = await knowing(w, 1000)
    served = []
    for _ in range(5):
        peer = await w.stranger(node, 1)
        await peer.ask(SYNC_RUNNING)
        await trio.sleep(1)
        served.append(len(peer.chunks))
        await peer.link.close(1000, "")
        await trio.sleep(1)
    assert served == [1, 1, 1, 0, 0]


# ---- slow, lost, broken ---------------------------------------------------------------------------


def filled(w: World, records: int, *, at_ms: int) -> MemoryStore:
    """A store with that many events of about 1.1 KB."""
    store = FailingStore()
    for number in range(records):
        ip = f"30.{number >> 8}.{number & 255}.1"
        store._events[ip, "apprunning", "v2"] = EventRow(
            ip,
            "apprunning",
            "v2",
            at_ms + 7_500_000,
            broadcasted_at_ms=at_ms + number,
            received_at_ms=at_ms,
            data_text='{"apps":[{"name":"app","hash":"' + "h" * 900 + '"}]}',
        )
    return store


class FailingStore(MemoryStore):
    """Reading events fails behind the first `good_rows` of them."""

    good_rows: int | None = None
    error: Exception = StoreError("the disk is gone", remedy="find it")

    async def stream_events(self, after_ms: int, *, page: int = 500) -> AsyncIterator[EventRow]:
        number = 0
        async with aclosing(super().stream_events(after_ms, page=page)) as rows:
            async for row in rows:
                if number == self.good_rows:
                    raise self.error
                number += 1
                yield row


async def serving(w: World, records: int = 5000, **changes: Any) -> Node:
    return await w.node(store=filled(w, records, at_ms=w.clock.now_ms() - 60_000), **changes)


async def test_whatever_goes_wrong_the_stream_is_ended(autojump_clock: Any, w: World) -> None:
    node = await serving(w)
    assert isinstance(node.store, FailingStore)
    node.store.good_rows, node.store.error = 2500, ValueError("a record nobody can print")
    peer = await w.stranger(node, 1)
    await peer.ask(SYNC_RUNNING)
    await trio.sleep(2)
    assert [chunk["done"] for chunk in peer.chunks] == [False, False, True]
    assert node.counters["stateserver.crashed"] == 1


async def test_a_slow_reader_costs_time_and_no_memory(autojump_clock: Any, w: World) -> None:
    node = await serving(w)
    slow, quick = await w.stranger(node, 1), await w.stranger(node, 2)
    slow.reading = trio.Event()
    await slow.ask(SYNC_RUNNING)
    await trio.sleep(0.5)
    await quick.ask(SYNC_RUNNING)
    held = 0
    for _ in range(10):
        await trio.sleep(0.5)
        held = max(held, node.peers.table.get(slow.name).outbox.size_bytes)
    assert held < 2 * stateserver.CHUNK_CHARS
    assert sum(len(chunk["messages"]) for chunk in quick.chunks) == 5000
    slow.reading.set()
    await trio.sleep(5)
    assert sum(len(chunk["messages"]) for chunk in slow.chunks) == 5000
    assert slow.chunks[-1]["done"]


async def test_gossip_goes_on_while_a_peer_is_served(autojump_clock: Any, w: World) -> None:
    node = await serving(w, peers__ping_interval_s=2, peers__max_missed_pongs=2)
    peers = [await w.stranger(node, number) for number in (1, 2, 3)]
    for peer in peers:
        await peer.ask(SYNC_RUNNING)
    for number in range(20):
        node.peers.broadcast_envelope(w.running(w.ips[5], f"app{number}"))
        await trio.sleep(0.5)
    await trio.sleep(2)
    for peer in peers:
        assert len([e for e in peer.texts if e.type == "fluxapprunning"]) == 20
        assert peer.chunks[-1]["done"]
        assert node.peers.table.get(peer.name).is_alive


async def test_a_link_lost_midway_ends_that_stream_only(autojump_clock: Any, w: World) -> None:
    node = await serving(w)
    lost, other = await w.stranger(node, 1), await w.stranger(node, 2)
    lost.reading = trio.Event()
    await lost.ask(SYNC_RUNNING)
    await trio.sleep(0.5)
    lost.link.terminate()
    await trio.sleep(1)
    assert node.counters["stateserver.link_lost"] == 1
    await other.ask(SYNC_RUNNING)
    await trio.sleep(5)
    assert other.chunks[-1]["done"]


async def test_a_stream_that_takes_too_long_is_ended(autojump_clock: Any, w: World) -> None:
    node = await serving(w, state_sync__response_timeout_s=10, peers__send_timeout_s=60)
    slow = await w.stranger(node, 1)
    slow.reading = trio.Event()
    await slow.ask(SYNC_RUNNING)
    await trio.sleep(15)
    assert node.counters["stateserver.too_slow"] == 1
    slow.reading.set()
    await trio.sleep(5)
    assert [chunk["done"] for chunk in slow.chunks][-1] is True
    assert sum(len(chunk["messages"]) for chunk in slow.chunks) < 5000


@pytest.mark.parametrize(("good_rows", "got"), [(0, []), (500, []), (2500, [False, False, True])])
async def test_a_failing_store(autojump_clock: Any, w: World, good_rows: int, got: list[bool]) -> None:
    """Before the first answer: silence, and the turn is not used up. Later: the stream is ended."""
    node = await serving(w)
    assert isinstance(node.store, FailingStore)
    node.store.good_rows = good_rows
    peer = await w.stranger(node, 1)
    await peer.ask(SYNC_RUNNING)
    await trio.sleep(2)
    assert [chunk["done"] for chunk in peer.chunks] == got
    assert node.counters["stateserver.store_failed"] == 1
    node.store.good_rows = None
    await peer.ask(SYNC_RUNNING)
    await trio.sleep(2)
    assert (len(peer.chunks) > len(got)) == (not got)


async def test_one_peer_cannot_hog_the_server(
    autojump_clock: Any, w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer has one stream at a time, and stands at the end of the line again after each."""
    monkeypatch.setattr(stateserver, "STREAMS_AT_ONCE", 2)
    node = await serving(w)
    greedy, other = await w.stranger(node, 1), await w.stranger(node, 2)
    greedy.reading = trio.Event()
    for _ in range(50):
        for kind in SYNC_KINDS:
            await greedy.ask(kind)
    await other.ask(SYNC_RUNNING)
    await trio.sleep(3)
    assert other.chunks[-1]["done"]
    assert len(node.server._asked) == 1
    greedy.reading.set()
    await trio.sleep(3)
    assert node.server._asked == {}
    assert sum(chunk["done"] for chunk in greedy.chunks) == 4
