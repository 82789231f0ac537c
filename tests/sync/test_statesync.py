"""Asking peers for the app state, and taking in what they answer (wire.md §11, events.md §10)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from statesyncworld import UP, Node, Stranger, World, copy, event, evicted, world

from trionode.config.tree import Settings
from trionode.errors import PeerError, StoreError
from trionode.peers.link import Hello
from trionode.store.memory import MemoryStore
from trionode.sync import statesync
from trionode.wire.envelope import seal
from trionode.wire.frames import SYNC_INSTALLING, SYNC_KINDS
from trionode.wire.keys import NodeKey

pytestmark = pytest.mark.trio

RUNNING = "fluxapprunningsync"
MINUTE_MS = 60_000


@pytest.fixture
async def w(autojump_clock: trio.testing.MockClock) -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def asked(w: World, count: int = 1, **changes: Any) -> tuple[Node, list[Stranger]]:
    """A node that has asked `count` scripted peers."""
    node = await w.node(**changes)
    peers = [await w.stranger(node, number) for number in range(1, count + 1)]
    assert await node.sync.request([peer.name for peer in peers]) == tuple(peer.name for peer in peers)
    await trio.sleep(0.1)
    return node, peers


async def test_two_nodes_share_what_one_of_them_knows(autojump_clock: Any, w: World) -> None:
    late, old = await w.node(0), await w.node(1)
    await old.log.ingest(w.running(w.ips[3], "one", "two"))
    await old.log.ingest(w.running(w.ips[4], "three"))
    installing = {"type": "fluxappinstalling", "version": 1, "name": "four", "ip": w.ips[5]}
    await old.log.ingest(w.signed(w.ips[5], installing))
    failed = {"type": "fluxappinstallingerror", "version": 1, "name": "five", "hash": "h", "error": "{}"}
    await old.log.ingest(w.signed(w.ips[6], failed | {"ip": w.ips[6]}))
    key = await w.link(late, old)

    assert late.sync.eligible() == [key]
    assert await late.sync.request([key, "20.9.9.9:16127"]) == (key,)
    await trio.sleep(1)
    assert late.places() == old.places() != []
    assert late.log.installing() == old.log.installing() != []
    assert late.log.install_errors() == old.log.install_errors() != []
    assert sorted(late.done) == [("apperrors", key), ("appinstalling", key), ("apprunning", key)]
    assert late.told("ephemeralSync:requested") == [{"peerCount": 1, "peers": [key]}]
    kinds = {news["syncType"]: news["verified"] for news in late.told("sync:chunkVerified")}
    assert kinds == {"apprunning": 2, "appinstalling": 1, "apperrors": 1}
    assert late.refused() == old.refused() == {}


async def test_the_four_requests_are_signed_once_and_sent_kind_by_kind(autojump_clock: Any, w: World) -> None:
    _, peers = await asked(w, 3)
    for peer in peers:
        assert [request.kind for request in peer.requests] == list(SYNC_KINDS)
        assert all(request.is_signed() and request.since_ms == 0 for request in peer.requests)
    assert peers[0].requests == peers[1].requests == peers[2].requests
    assert len({request.request_ms for request in peers[0].requests}) == 1


async def test_nobody_is_marked_when_signing_fails(
    autojump_clock: Any, w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await w.node()
    peer = await w.stranger(node, 1)

    def refuse(*_: object) -> None:
        raise PeerError("the key is gone", remedy="find it")

    monkeypatch.setattr(statesync, "sync_request", refuse)
    with pytest.raises(PeerError, match="the key is gone"):
        await node.sync.request([peer.name])
    assert node.sync.marked() == ()
    assert not node.peers.table.get(peer.name).sync_requested
    await trio.sleep(0.1)
    assert peer.requests == []


async def test_eligible_peers_are_up_long_enough_and_answer_pings(autojump_clock: Any, w: World) -> None:
    node = await w.node(state_sync__min_peer_uptime_s=100, peers__ping_interval_s=1000)
    await w.stranger(node, 1, Hello(capabilities=UP.capabilities, uptime_s=60))
    await w.stranger(node, 2, Hello(capabilities=UP.capabilities))  # says no uptime
    await w.stranger(node, 3, Hello(capabilities=frozenset({"binaryMessages"}), uptime_s=9999))
    await w.stranger(node, 4)
    assert node.sync.eligible() == ["20.5.0.1:16127"]
    await trio.sleep(40)
    assert sorted(node.sync.eligible()) == ["20.2.0.1:16127", "20.5.0.1:16127"]
    node.peers.table.get("20.5.0.1:16127").pinger.missed = 1
    assert node.sync.eligible() == ["20.2.0.1:16127"]


async def test_answers_nobody_asked_for_change_nothing(autojump_clock: Any, w: World) -> None:
    node = await w.node()
    peer = await w.stranger(node, 1)
    await peer.chunk(RUNNING, [event(w.running(w.ips[3], "app"))])
    await trio.sleep(1)
    assert node.places() == []
    assert node.done == []
    assert node.counters["gossip.dispatch.unknown_type"] == 1


async def test_forgotten_marks_and_gone_peers_are_not_listened_to(autojump_clock: Any, w: World) -> None:
    node, (one, two) = await asked(w, 2)
    lost: list[str] = []
    node.sync.on_lost(lost.append)
    await one.link.close(1000, "")
    await trio.sleep(1)
    assert node.sync.marked() == (two.name,)
    assert lost == [one.name]
    await two.chunk(RUNNING, [event(w.running(w.ips[3], "app"))], done=False)
    await trio.sleep(1)
    node.sync.forget_marks()
    assert node.sync.marked() == ()
    await two.chunk(RUNNING, [event(w.running(w.ips[4], "late"))])
    await trio.sleep(1)
    assert node.places() == [f"app@{w.ips[3]}"]
    assert node.done == []
    # and the same peer can be asked anew
    await node.sync.request([two.name])
    await two.chunk(RUNNING, [event(w.running(w.ips[4], "late"))])
    await trio.sleep(1)
    assert node.done == [("apprunning", two.name)]
    assert len(node.places()) == 2


async def test_what_a_lost_peer_had_sent_still_counts(autojump_clock: Any, w: World) -> None:
    node, (peer,) = await asked(w)
    await peer.chunk(RUNNING, [event(w.running(w.ips[n], "app")) for n in range(12)])
    await peer.link.close(1000, "")
    await trio.sleep(1)
    assert len(node.places()) == 12
    assert node.done == [("apprunning", peer.name)]


# ---- records --------------------------------------------------------------------------------------


async def test_bad_records_are_left_out_and_counted_by_reason(autojump_clock: Any, w: World) -> None:
    node, (peer,) = await asked(w)
    foreign = NodeKey.generate(random.Random(99))
    good = w.running(w.ips[3], "good")
    wrong_key = w.running(w.ips[4], "wrongkey", key=w.keys[w.ips[5]])
    unlisted = seal(dict(w.running(w.ips[4], "x").data) | {"ip": "99.9.9.9"}, foreign, w.clock.now_ms())
    altered = event(w.running(w.ips[6], "before"))
    altered["data"] = altered["data"] | {"apps": [{"name": "after", "hash": "h"}]}
    items = [
        event(wrong_key),
        event(unlisted),
        altered,
        {"type": "apprunning", "ip": w.ips[7], "data": {"type": "fluxapprunning"}},
        "no object",
        event(good),
        event(w.running(w.ips[8], "stale", age_ms=126 * MINUTE_MS)),
    ]
    await peer.chunk(RUNNING, items)
    await trio.sleep(1)
    assert node.places() == [f"good@{w.ips[3]}"]
    assert node.refused() == {
        "records.key_mismatch": 1,
        "records.node_not_found": 1,
        "records.bad_signature": 1,
        "records.no_envelope": 1,
        "records.no_object": 1,
        "sync.age.broadcast_stale": 1,
    }
    assert node.done == [("apprunning", peer.name)]


async def test_a_record_is_what_its_signed_payload_is(autojump_clock: Any, w: World) -> None:
    """events.md §13.8: nobody's running message can be replayed as its shutdown."""
    node, (peer,) = await asked(w)
    running = w.running(w.ips[3], "app")
    later = w.running(w.ips[3], "app", age_ms=-1000)
    await peer.chunk(
        RUNNING, [event(running), event(later, "sigterm"), event(later, "appremoved")], done=False
    )
    await peer.chunk("fluxappinstallingsync", [copy(running)], done=False)
    await peer.chunk("fluxappinstallingerrorssync", [copy(running)], done=False)
    await trio.sleep(1)
    assert node.places() == [f"app@{w.ips[3]}"]
    assert node.log.installing() == []
    assert node.refused() == {"sync.validate.type_mismatch": 4}


async def test_dates_that_cannot_be_printed_do_not_spoil_own_answers(autojump_clock: Any, w: World) -> None:
    """`receivedAt` is signed by nobody and kept: what is kept has to go out again to others."""
    node, (peer,) = await asked(w)
    for number, odd in enumerate((1e16, -1e16, 253_402_300_800_000)):
        ip = w.ips[number + 4]
        message = w.signed(ip, {"type": "fluxappinstalling", "version": 1, "name": "app", "ip": ip})
        await peer.chunk("fluxappinstallingsync", [copy(message) | {"receivedAt": odd}], done=False)
    await trio.sleep(1)
    assert len(node.log.installing()) == 3
    other = await w.stranger(node, 2)
    await other.ask(SYNC_INSTALLING)
    await trio.sleep(1)
    assert [(len(chunk["messages"]), chunk["done"]) for chunk in other.chunks] == [(3, True)]


async def test_only_the_old_address_can_tell_that_it_moved(autojump_clock: Any, w: World) -> None:
    """A payload with both ip and oldIP is judged by oldIP, as gossip judges it."""
    node, (peer,) = await asked(w)
    moved = {"type": "fluxipchanged", "version": 1, "oldIP": w.ips[3], "newIP": w.ips[4], "ip": w.ips[4]}
    forged = w.signed(w.ips[4], moved)
    await peer.chunk(RUNNING, [event(w.running(w.ips[3], "app")), event(forged, "ipchanged")])
    await trio.sleep(1)
    assert node.places() == [f"app@{w.ips[3]}"]
    assert node.refused() == {"records.key_mismatch": 1}


async def test_evictions_are_believed_only_of_unlisted_addresses(autojump_clock: Any, w: World) -> None:
    """events.md §13.6, and ours: they are unsigned, so a liar could empty the index."""
    node, (peer,) = await asked(w)
    listed, gone = w.ips[3], w.ips[4]
    now_ms = w.clock.now_ms()
    await peer.chunk(RUNNING, [event(w.running(ip, "app", age_ms=1000)) for ip in (listed, gone)], done=False)
    await trio.sleep(0.5)
    w.nodes = node.facts.nodes = type(w.nodes)([e for e in w.nodes if e.ip != gone])
    await peer.chunk(RUNNING, [evicted(listed, now_ms), evicted(gone, now_ms + 90 * MINUTE_MS)])
    await trio.sleep(0.5)
    assert node.places() == [f"app@{listed}"]
    assert node.refused() == {"records.evicted_but_listed": 1}
    stored = await node.store.event(gone, "evicted", "evicted")
    assert stored is not None
    assert stored.created_at_ms is not None
    assert stored.created_at_ms <= w.clock.now_ms()


# ---- answers --------------------------------------------------------------------------------------


async def test_answers_that_count_for_nothing(
    autojump_clock: Any, w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statesync, "MAX_REFUSED", 100)
    node, (peer,) = await asked(w)
    items = [event(w.running(w.ips[3], "app"))]
    stranger = NodeKey.generate(random.Random(98))
    await peer.chunk(RUNNING, items, key=stranger)
    await peer.chunk(RUNNING, items, age_ms=10 * MINUTE_MS)  # an old answer played again
    await peer.chunk(RUNNING, items, age_ms=-10 * MINUTE_MS)
    await peer.chunk(RUNNING, [{}] * 2501)
    await peer.chunk(RUNNING, items * 2500)
    await peer.send('{"data":{"type":"fluxapprunningsync","messages":[]},"signature":"' + "A" * 5000 + '"')
    text = seal({"type": RUNNING, "messages": {}, "done": True}, peer.key, w.clock.now_ms()).text
    await peer.send(text)
    await peer.send(text.replace("true", "false"))
    await trio.sleep(5)
    assert node.refused() == {
        "chunks.node_not_found": 1,
        "chunks.replayed": 1,
        "chunks.malformed": 2,
        "chunks.no_list_or_too_many": 2,
        "chunks.bad_signature": 1,
    }
    assert node.places() == [f"app@{w.ips[3]}"]  # 2,500 are allowed
    # a stream with holes is not complete
    assert node.done == []
    assert node.counters["statesync.done.incomplete"] == 1


async def test_a_peer_that_keeps_sending_rubbish_is_given_up(autojump_clock: Any, w: World) -> None:
    node, (liar, honest) = await asked(w, 2)
    good = [event(w.running(w.ips[3], "app"))]
    rubbish = seal({"type": RUNNING, "messages": []}, liar.key, w.clock.now_ms()).text.replace("[]", "[1]")
    for _ in range(50):
        await liar.send(rubbish)
    await liar.chunk(RUNNING, good)
    await honest.chunk(RUNNING, good)
    await trio.sleep(2)
    assert node.refused() == {"chunks.bad_signature": 3}
    assert node.sync.marked() == (honest.name,)
    assert node.done == [("apprunning", honest.name)]


async def test_an_answer_may_be_signed_by_any_listed_node_and_is_taken_once(
    autojump_clock: Any, w: World
) -> None:
    """wire.md §11: the signer need not be that peer. Its records prove themselves."""
    node, (one, two) = await asked(w, 2)
    records = [event(w.running(w.ips[3], "app"))]
    await one.chunk(RUNNING, records)
    await two.chunk(RUNNING, records, key=one.key)
    await one.chunk(RUNNING, [event(w.running(w.ips[4], "more"))])
    await trio.sleep(1)
    assert sorted(node.done) == [("apprunning", one.name), ("apprunning", two.name)]
    assert node.refused() == {"chunks.after_end": 1}
    assert node.places() == [f"app@{w.ips[3]}"]


async def test_a_flood_of_answers_ends_the_mark(
    autojump_clock: Any, w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statesync, "MAX_CHUNKS", 5)
    node, (peer,) = await asked(w)
    for _ in range(10):
        await peer.chunk(RUNNING, [], done=False)
    await trio.sleep(1)
    assert node.sync.marked() == ()
    assert node.counters["statesync.chunks.accepted"] == 5
    assert node.refused()["chunks.too_many"] == 1


async def test_too_long_answers_are_not_even_read(
    autojump_clock: Any, w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statesync, "MAX_CHUNK_CHARS", 10_000)
    node, (peer,) = await asked(w)
    await peer.chunk(RUNNING, ["x" * 10_000])
    await peer.chunk(RUNNING, [])
    await trio.sleep(1)
    assert node.refused() == {"chunks.too_long": 1}
    assert node.done == []


async def test_a_full_line_stops_reading_that_link_and_no_other(
    autojump_clock: Any, w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost, memory is bounded, and everything is worked off in order."""
    monkeypatch.setattr(statesync, "MAX_WAITING_CHARS", 20_000)
    store = GatedStore()
    node, (full, free) = await asked(w, 2, store=store)
    store.gate = trio.Event()
    for number in range(20):
        record = event(w.running(w.ips[3], f"app{number}", age_ms=-number))
        w.nursery.start_soon(partial(full.chunk, RUNNING, [record, "x" * 5_000], done=number == 19))
        await trio.sleep(0.05)
    line = node.sync._lines[node.peers.table.get(full.name)]
    assert 20_000 < line.waiting_chars < 30_000
    assert node.counters["peers.sync_paused"] == 1
    before = node.peers.table.get(free.name).messages_received
    await free.chunk("fluxapptempsync", [{"hash": "free"}])
    await trio.sleep(0.5)
    assert node.peers.table.get(free.name).messages_received == before + 1
    assert node.temps == [{"hash": "free"}]
    store.gate.set()
    await trio.sleep(5)
    assert line.waiting_chars == 0
    assert node.done == [("apprunning", full.name)]
    assert node.places() == [f"app19@{w.ips[3]}"]


async def test_chunks_of_one_peer_are_taken_strictly_in_order(autojump_clock: Any, w: World) -> None:
    node, (peer,) = await asked(w)
    seen: list[str] = []
    ingest = node.log.ingest_sync

    async def slow_first(kind: Any, records: Any, key: str) -> Any:
        await trio.sleep(5 if not seen else 0)
        seen.append(records[0].envelope.data["ip"])
        return await ingest(kind, records, key)

    node.log.ingest_sync = slow_first  # type: ignore[method-assign]
    for number in range(3, 8):
        await peer.chunk(RUNNING, [event(w.running(w.ips[number], "app"))], done=False)
    await trio.sleep(10)
    assert seen == w.ips[3:8]


async def test_temporary_messages_go_to_their_room_and_do_not_count(autojump_clock: Any, w: World) -> None:
    node, (peer,) = await asked(w)
    await peer.chunk("fluxapptempsync", [{"hash": "a"}, {"hash": "b"}])
    await trio.sleep(1)
    assert node.temps == [{"hash": "a"}, {"hash": "b"}]
    assert node.done == []


# ---- the store ------------------------------------------------------------------------------------


class GatedStore(MemoryStore):
    """Commits wait for `gate`; commit number `fails_at` fails."""

    immediate = False

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()
        self.gate.set()
        self.fails_at = 0
        self.commits = 0

    async def commit(self, changes: Any) -> None:
        await self.gate.wait()
        self.commits += 1
        if self.commits == self.fails_at:
            raise StoreError("disk full", remedy="make room")
        await super().commit(changes)


@pytest.mark.parametrize("fails_at", range(1, 6))
async def test_a_failing_commit_loses_nothing_of_a_stream(
    autojump_clock: Any, w: World, fails_at: int
) -> None:
    """The log restarts from what is really stored, and the answer in work is folded in again."""
    store = GatedStore()
    node, (peer,) = await asked(w, store=store)
    store.fails_at = fails_at
    for number in range(3, 11):
        records = [event(w.running(w.ips[number], f"app{n}", age_ms=-n)) for n in range(30)]
        await peer.chunk(RUNNING, records, done=number == 10)
    await trio.sleep(20)
    assert node.counters["log.restarts"] == 1
    assert node.places() == [f"app29@{ip}" for ip in sorted(w.ips[3:11])]
    assert sorted(node.places()) == sorted(f"{row.name}@{row.ip}" for row in node.log.state.index.locations())
    assert node.done == [("apprunning", peer.name)]
    assert (await store.counts())["events"] == 8


@pytest.mark.parametrize("failures", [1, 2])
async def test_a_store_that_fails_is_tried_once_more(autojump_clock: Any, w: World, failures: int) -> None:
    node, (peer,) = await asked(w)
    ingest, calls = node.log.ingest_sync, 0

    async def failing(kind: Any, records: Any, key: str) -> Any:
        nonlocal calls
        calls += 1
        if calls <= failures:
            raise StoreError("disk full", remedy="make room")
        return await ingest(kind, records, key)

    node.log.ingest_sync = failing  # type: ignore[method-assign]
    await peer.chunk(RUNNING, [event(w.running(w.ips[3], "app"))], done=False)
    await peer.chunk(RUNNING, [event(w.running(w.ips[4], "app"))])
    await trio.sleep(5)
    if failures == 1:
        assert node.done == [("apprunning", peer.name)]
        assert len(node.places()) == 2
    else:
        assert node.done == []  # a part of it is missing
        assert node.places() == [f"app@{w.ips[4]}"]
        assert node.counters["statesync.chunks.crashed"] == 1


async def test_a_service_that_restarts_asks_anew(autojump_clock: Any, w: World) -> None:
    node = await w.node()
    peer = await w.stranger(node, 1)
    second = statesync.StateSync(
        settings=Settings(),
        peers=node.peers,
        facts=node.facts,
        log=node.log,
        temp=node._take_temps,
        bus=node.bus,
        counters=node.counters,
        clock=node.clock,
        rng=random.Random(1),
        key=node.key,
    )
    with pytest.raises(PeerError, match="not running"):
        await second.request([peer.name])
    async with trio.open_nursery() as nursery:
        await nursery.start(second.run)
        assert await second.request([peer.name]) == (peer.name,)
        nursery.cancel_scope.cancel()
    assert not node.peers.table.get(peer.name).sync_requested
    with pytest.raises(PeerError, match="not running"):
        await second.request([peer.name])
