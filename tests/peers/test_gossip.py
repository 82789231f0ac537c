"""The gossip pipeline through a whole PeerService (wire.md §9, §14)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import trio
import trio.lowlevel

from trionode.appstate.decision import Decision
from trionode.peers.link import Hello
from trionode.wire.envelope import Envelope, seal
from trionode.wire.frames import HashPresent, HashRequest, Nak, decode_frame, encode_frame
from trionode.wire.textframe import split_timestamp

pytestmark = pytest.mark.trio

LEGACY = Hello()
ADDRESS = "198.51.100.77"


def frames(visitor: Any) -> list[Any]:
    """The inventory frames and NAKs that arrived; peer exchange is left out."""
    decoded = [decode_frame(message) for message in visitor.received() if isinstance(message, bytes)]
    return [frame for frame in decoded if isinstance(frame, HashPresent | HashRequest | Nak)]


def texts(visitor: Any) -> list[str]:
    return [message for message in visitor.received() if isinstance(message, str)]


class Scene:
    """A node, a listed signer, and three visitors."""

    def __init__(self, world: Any, node: Any, signer: Any, visitors: list[Any]) -> None:
        self.world, self.node, self.signer = world, node, signer
        self.a, self.b, self.c = visitors

    def message(self, name: str = "app") -> Envelope:
        return self.world.running(ADDRESS, self.signer, name=name)


@pytest.fixture
async def scene(world: Any) -> Scene:
    signer = world.key()
    node = await world.start_node()
    world.list_nodes((node.ip, node.key), (ADDRESS, signer))
    visitors = [await world.visit(node, f"198.51.{number}.1") for number in (1, 2, 3)]
    await trio.sleep(3)
    for visitor in visitors:
        visitor.received()
    return Scene(world, node, signer, visitors)


async def test_a_new_message_is_stored_and_announced_to_all_but_the_sender(
    autojump_clock: Any, scene: Scene
) -> None:
    message = scene.message()
    scene.a.send(message.text)
    await trio.sleep(0.2)
    assert [taken.text for taken in scene.node.log.taken] == [message.text]
    assert frames(scene.a) == []
    assert frames(scene.b) == frames(scene.c) == [HashPresent(message.data_hash)]
    assert scene.node.counters["gossip.accepted"] == scene.node.counters["gossip.relayed"] == 1


async def test_the_intake_waits_between_1_and_75_ms(autojump_clock: Any, scene: Scene) -> None:
    waits = []
    for number in range(40):
        start, done = trio.current_time(), len(scene.node.log.taken)
        scene.a.send(scene.message(f"app{number}").text)
        while len(scene.node.log.taken) == done:  # noqa: ASYNC110 - measuring, in steps of 1 ms
            await trio.sleep(0.001)
        waits.append(trio.current_time() - start)
    assert 0.0009 < min(waits) < 0.02
    assert 0.05 < max(waits) < 0.078


async def test_duplicates_are_dropped_whoever_sends_them(autojump_clock: Any, scene: Scene) -> None:
    message = scene.message()
    for visitor in (scene.a, scene.b, scene.a):
        visitor.send(message.text)
        await trio.sleep(0.2)
    assert len(scene.node.log.taken) == 1
    assert scene.node.counters["gossip.dedupe.duplicate"] == 2


async def test_a_forged_copy_does_not_hide_the_genuine_message(autojump_clock: Any, scene: Scene) -> None:
    message = scene.message()
    forgeries = [
        msgspec.structs.replace(message, signature=scene.message("other").signature),
        msgspec.structs.replace(message, timestamp=message.timestamp_ms + 1),
        msgspec.structs.replace(message, pub_key=scene.world.key().public_key),
    ]
    for forged in forgeries:
        assert forged.data_hash == message.data_hash
        scene.a.send(forged.text)
        await trio.sleep(0.2)
    assert scene.node.log.taken == []
    scene.b.send(encode_frame(HashRequest(message.data_hash)))
    await trio.sleep(0.2)
    assert texts(scene.b) == []
    scene.b.send(message.text)
    await trio.sleep(0.2)
    assert [taken.text for taken in scene.node.log.taken] == [message.text]
    scene.c.send(encode_frame(HashRequest(message.data_hash)))
    await trio.sleep(0.2)
    assert texts(scene.c) == [message.text]


async def test_a_known_forgery_costs_no_second_check(autojump_clock: Any, scene: Scene) -> None:
    forged = msgspec.structs.replace(scene.message(), signature=scene.message("other").signature)
    for _ in range(20):
        scene.a.send(forged.text)
    await trio.sleep(0.5)
    assert scene.node.counters["gossip.verify.bad_signature"] == 1
    assert scene.node.counters["gossip.dedupe.refused_copy"] == 19


@pytest.mark.parametrize("kind", ["bad_signature", "key_mismatch", "malformed"])
async def test_five_bad_messages_close_the_link(autojump_clock: Any, scene: Scene, kind: str) -> None:
    for number in range(5):
        assert scene.a.code is None
        message = scene.message(f"app{number}")
        if kind == "bad_signature":
            message = msgspec.structs.replace(message, signature=scene.message("x").signature)
        elif kind == "key_mismatch":
            message = scene.world.running(ADDRESS, scene.world.key(), name=f"app{number}")
        else:
            message = scene.world.running(
                ADDRESS, scene.signer, name=f"app{number}", at_ms=scene.world.clock.now_ms() + 130_000
            )
        scene.a.send(message.text)
        await trio.sleep(0.2)
    assert (scene.a.code, scene.a.reason) == (4004, "too many bad messages")
    assert scene.b.code is None
    assert scene.node.counters[f"gossip.verify.{kind}"] == 5


async def test_an_unlisted_sender_costs_nothing(autojump_clock: Any, scene: Scene) -> None:
    key = scene.world.key()
    for number in range(20):
        scene.a.send(scene.world.running("198.51.100.99", key, name=f"app{number}").text)
    await trio.sleep(1)
    assert scene.a.code is None
    assert scene.node.counters["gossip.verify.node_not_found"] == 20
    assert scene.node.service.rows()[0]["badMessages"] == 0


async def test_a_message_refused_by_an_old_list_is_accepted_with_the_new_one(
    autojump_clock: Any, scene: Scene
) -> None:
    key = scene.world.key()
    message = scene.world.running("198.51.100.99", key)
    scene.a.send(message.text)
    await trio.sleep(0.2)
    # the address is part of the content, so announcements of it are not followed under this list
    scene.b.send(encode_frame(HashPresent(message.data_hash)))
    await trio.sleep(0.2)
    assert frames(scene.b) == []
    scene.world.list_nodes((ADDRESS, scene.signer), ("198.51.100.99", key))
    scene.b.send(encode_frame(HashPresent(message.data_hash)))
    await trio.sleep(0.2)
    assert frames(scene.b) == [HashRequest(message.data_hash)]
    scene.b.send(message.text)
    await trio.sleep(0.2)
    assert len(scene.node.log.taken) == 1


async def test_wrong_keys_are_forgiven_by_a_newer_list(autojump_clock: Any, scene: Scene) -> None:
    renewed = scene.world.key()
    for number in range(4):
        scene.a.send(scene.world.running(ADDRESS, renewed, name=f"app{number}").text)
    await trio.sleep(0.2)
    assert scene.node.service.rows()[0]["badMessages"] == 4
    scene.world.list_nodes((ADDRESS, renewed))
    await trio.sleep(0.1)
    assert scene.node.service.rows()[0]["badMessages"] == 0


async def test_wrong_keys_do_not_count_while_our_own_list_may_be_old(
    autojump_clock: Any, scene: Scene
) -> None:
    scene.node.facts.synced = False
    for number in range(9):
        scene.a.send(scene.world.running(ADDRESS, scene.world.key(), name=f"app{number}").text)
    await trio.sleep(1)
    assert scene.a.code is None
    assert scene.node.log.taken == []


async def test_stale_messages_get_a_nak(autojump_clock: Any, scene: Scene) -> None:
    now_ms = scene.world.clock.now_ms()
    fresh = scene.world.running(ADDRESS, scene.signer, name="fresh", at_ms=now_ms - 299_000)
    stale = scene.world.running(ADDRESS, scene.signer, name="stale", at_ms=now_ms - 300_000)
    for message in (fresh, stale):
        scene.a.send(message.text)
    await trio.sleep(0.2)
    assert [taken.text for taken in scene.node.log.taken] == [fresh.text]
    assert frames(scene.a) == [Nak(stale.data_hash)]
    assert scene.node.counters["gossip.age.stale"] == 1


async def test_a_text_timestamp_is_dropped_without_blame(autojump_clock: Any, scene: Scene) -> None:
    body = json.loads(scene.message().text)
    body["timestamp"] = str(body["timestamp"])
    scene.a.send(json.dumps(body))
    await trio.sleep(0.2)
    assert scene.node.log.taken == []
    assert scene.a.code is None
    assert scene.node.service.rows()[0]["badMessages"] == 0


@pytest.mark.parametrize("missing", ["version", "timestamp", "pubKey", "signature", "data"])
async def test_an_incomplete_envelope_closes_the_link(
    autojump_clock: Any, scene: Scene, missing: str
) -> None:
    body = json.loads(scene.message().text)
    body[missing] = 0
    scene.a.send(json.dumps(body))
    await trio.sleep(0.2)
    assert (scene.a.code, scene.a.reason) == (4016, "Message not valid, disconnect")


async def test_unknown_types_are_dropped_until_a_room_takes_them(autojump_clock: Any, scene: Scene) -> None:
    got: list[tuple[str, str]] = []

    async def handler(envelope: Envelope, peer: Any) -> bool:
        got.append((envelope.type, peer.key))
        return bool(envelope.data["relay"])

    def send(number: int, relay: bool) -> None:
        now_ms = scene.world.clock.now_ms()
        data = {"type": "fluxappregister", "version": 1, "n": number, "relay": relay}
        scene.a.send(seal(data, scene.signer, now_ms).text)

    send(1, True)
    await trio.sleep(0.2)
    assert scene.node.counters["gossip.dispatch.unknown_type"] == 1
    scene.node.service.register_handler("fluxappregister", handler)
    send(2, True)
    send(3, False)
    await trio.sleep(0.2)
    assert got == [("fluxappregister", "198.51.1.1:16127")] * 2
    assert len(frames(scene.b)) == 1
    for taken in ("fluxappregister", "fluxapprunning"):
        with pytest.raises(ValueError, match="already has a handler"):
            scene.node.service.register_handler(taken, handler)


async def test_the_same_question_of_two_nodes_is_answered_to_both(autojump_clock: Any, scene: Scene) -> None:
    got: list[str] = []

    async def handler(envelope: Envelope, peer: Any) -> bool:
        got.append(peer.key)
        return False

    scene.node.service.register_handler("fluxapprequest", handler)
    question = {"type": "fluxapprequest", "version": 2, "hashes": ["ab" * 32]}
    # the second time in the same words: only who asks makes a difference
    for _ in range(2):
        for visitor, signer in ((scene.a, scene.signer), (scene.b, scene.node.key)):
            visitor.send(seal(question, signer, scene.world.clock.now_ms()).text)
        await trio.sleep(0.2)
    assert sorted(got) == ["198.51.1.1:16127", "198.51.2.1:16127"]
    assert scene.node.counters["gossip.dedupe.duplicate"] == 2


async def test_refusals_of_the_log_are_counted_and_not_relayed(autojump_clock: Any, scene: Scene) -> None:
    scene.node.log.decide = lambda _: Decision(accepted=False, stop="guard", reason="not_newer")
    scene.a.send(scene.message().text)
    await trio.sleep(0.2)
    assert scene.node.counters["gossip.guard.not_newer"] == 1
    assert frames(scene.b) == []


async def test_a_crash_while_applying_stops_nothing(
    autojump_clock: Any, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(_: Envelope) -> Decision:
        raise ZeroDivisionError

    decide, scene.node.log.decide = scene.node.log.decide, explode
    for number in range(100):
        scene.a.send(scene.message(f"bad{number}").text)
    await trio.sleep(1)
    scene.node.log.decide = decide
    scene.a.send(scene.message("good").text)
    await trio.sleep(0.2)
    assert scene.node.counters["gossip.dispatch.crashed"] == 100
    assert scene.node.counters["gossip.accepted"] == 1
    assert "ZeroDivisionError" in caplog.text


async def test_below_the_hash_height_the_full_text_goes_out_paced(autojump_clock: Any, scene: Scene) -> None:
    scene.node.facts.height -= 1
    message = scene.message()
    scene.a.send(message.text)
    await trio.sleep(0.2)
    # all are inbound: they come after the outbound ones, 25 ms each, and a gap of 500 ms
    assert texts(scene.b) == texts(scene.c) == []
    await trio.sleep(0.5)
    assert texts(scene.b) == texts(scene.c) == [message.text]
    assert texts(scene.a) == []


async def test_own_broadcasts_go_to_all_as_text_and_their_echo_is_known(
    autojump_clock: Any, scene: Scene
) -> None:
    legacy = await scene.world.visit(scene.node, "198.51.9.1", hello=LEGACY)
    prepared = scene.node.transport.prepared
    own = scene.node.service.broadcast_own({"type": "fluxappremoved", "version": 1, "n": 1})
    await trio.sleep(1)
    for visitor in (scene.a, scene.b, scene.c):
        assert texts(visitor) == [own.text]
    assert list(legacy.link.inbox) == [own.text]
    assert scene.node.transport.prepared - prepared == 4, "a stamp for each paced send, and the bare text"
    scene.a.send(encode_frame(HashPresent(own.data_hash)))
    await trio.sleep(0.2)
    assert frames(scene.a) == []


async def test_each_paced_send_carries_its_own_time(autojump_clock: Any, scene: Scene) -> None:
    """The receiver takes the prefix for the time of sending; one of the first send is 500 ms off."""
    scene.node.service.broadcast_own({"type": "fluxappremoved", "version": 1, "n": 1})
    start_ms = scene.world.clock.now_ms()
    await trio.sleep(1)
    raw = [message for visitor in (scene.a, scene.b, scene.c) for message in visitor.link.inbox]
    delays = [(split_timestamp(message)[0] or 0) - start_ms for message in raw]
    assert delays == pytest.approx([525, 550, 575], abs=2)


async def test_one_moment_needs_one_stamp(autojump_clock: Any, scene: Scene) -> None:
    message = scene.message()
    scene.a.send(message.text)
    await trio.sleep(0.2)
    prepared = scene.node.transport.prepared
    for visitor in (scene.a, scene.b, scene.c):
        visitor.received()
        visitor.send(encode_frame(HashRequest(message.data_hash)))
    await trio.sleep(0.1)
    assert texts(scene.a) == texts(scene.b) == texts(scene.c) == [message.text]
    assert scene.node.transport.prepared - prepared == 1


async def test_a_hash_is_requested_once_and_from_the_next_after_a_timeout(
    autojump_clock: Any, scene: Scene
) -> None:
    message = scene.message()
    for visitor in (scene.a, scene.b, scene.c):
        visitor.send(encode_frame(HashPresent(message.data_hash)))
        await trio.sleep(0.01)
    asked = [frames(visitor) for visitor in (scene.a, scene.b, scene.c)]
    assert asked == [[HashRequest(message.data_hash)], [], []]
    await trio.sleep(3)
    assert frames(scene.b) == [HashRequest(message.data_hash)]
    scene.b.link.terminate()
    await trio.sleep(0.1)
    assert frames(scene.c) == [HashRequest(message.data_hash)]
    scene.c.send(message.text)
    await trio.sleep(0.2)
    assert len(scene.node.log.taken) == 1
    await trio.sleep(30)
    assert frames(scene.a) == [HashPresent(message.data_hash)]


async def test_a_forged_answer_makes_us_ask_the_next_announcer(autojump_clock: Any, scene: Scene) -> None:
    message = scene.message()
    forged = msgspec.structs.replace(message, signature=scene.message("x").signature)
    for visitor in (scene.a, scene.b):
        visitor.send(encode_frame(HashPresent(message.data_hash)))
        await trio.sleep(0.01)
    scene.a.send(forged.text)
    await trio.sleep(0.1)
    assert frames(scene.b) == [HashRequest(message.data_hash)]


async def test_inventory_in_json_for_old_peers(autojump_clock: Any, scene: Scene) -> None:
    legacy = await scene.world.visit(scene.node, "198.51.9.1", hello=LEGACY)
    message = scene.message()
    legacy.send(json.dumps({"messageHashPresent": message.data_hash}))
    await trio.sleep(0.1)
    assert texts(legacy) == [f'{{"requestMessageHash":"{message.data_hash}"}}']
    legacy.send(message.text)
    await trio.sleep(0.2)
    assert frames(scene.a) == [HashPresent(message.data_hash)]
    other = scene.message("other")
    scene.a.send(other.text)
    await trio.sleep(0.2)
    assert texts(legacy) == [f'{{"messageHashPresent":"{other.data_hash}"}}']
    legacy.send(json.dumps({"requestMessageHash": other.data_hash}))
    await trio.sleep(0.1)
    assert texts(legacy) == [other.text]


async def test_sync_answers_reach_the_hook_only_from_marked_peers(autojump_clock: Any, scene: Scene) -> None:
    got: list[tuple[str, str]] = []
    scene.node.service.receiver.on_sync_text = lambda peer, body: got.append((peer.key, body))
    data = {"type": "fluxapprunningsync", "messages": ["x" * 2_000_000], "done": True}
    text = seal(data, scene.signer, scene.world.clock.now_ms()).text
    scene.node.service.table.get("198.51.2.1:16127").sync_requested = True
    scene.a.send(text)
    scene.b.send(f"T{scene.world.clock.now_ms()}|{text}")
    scene.b.send(scene.message().text)
    await trio.sleep(0.5)
    assert got == [("198.51.2.1:16127", text)]
    assert scene.node.counters["gossip.intake.too_long"] == 1
    assert len(scene.node.log.taken) == 1


def watched(node: Any) -> list[str]:
    """The peers whose messages are judged, in that order."""
    judged: list[str] = []
    gossip = node.service.gossip
    judge = gossip._judge

    def watch(item: Any) -> None:
        judged.append(item.peer.key)
        judge(item)

    gossip._judge = watch
    return judged


@pytest.mark.parametrize("size", [100, 15_000, 500_000])
async def test_a_hostile_peer_does_not_delay_another(autojump_clock: Any, world: Any, size: int) -> None:
    """One peer keeps the intake full of messages that all need judging; another sends ten.

    However long the hostile queue is, the other's messages come up after a bounded number of
    hostile bytes, all of them are applied, and only the hostile peer loses messages.
    """
    signer, stranger = world.key(), world.key()
    node = await world.start_node(gossip__intake_delay_min_ms=1, gossip__intake_delay_max_ms=1)
    world.list_nodes((ADDRESS, signer))
    hostile, honest = await world.visit(node, "198.51.1.1"), await world.visit(node, "198.51.2.1")
    judged, gossip = watched(node), node.service.gossip
    padding = "x" * size
    flood = [
        seal({"type": "fluxapprunning", "ip": "9.9.9.9", "n": n, "p": padding}, stranger, 1).text
        for n in range(5)
    ]
    peer = node.service.table.get("198.51.1.1:16127")
    for number in range(2500):
        gossip.offer(peer, flood[number % 5])
    for number in range(10):
        honest.send(world.running(ADDRESS, signer, name=f"app{number}").text)
    await trio.sleep(0.01)
    assert len(node.log.taken) == 10
    last = max(index for index, key in enumerate(judged) if key == "198.51.2.1:16127")
    turns = 64 * 1024 // (size + 1024) + 1
    assert judged[:last].count("198.51.1.1:16127") <= 2 * turns
    assert len(judged) > last + 100 or size > 100_000
    assert node.counters["gossip.intake.queue_full"] >= 500
    assert hostile.code is honest.code is None


async def test_a_peer_that_reads_nothing_delays_nobody(autojump_clock: Any, scene: Scene) -> None:
    scene.b.link.capacity = 0
    waits = []
    for number in range(50):
        message = scene.message(f"app{number}")
        scene.a.send(message.text)
        start = trio.current_time()
        while not frames(scene.c):  # noqa: ASYNC110 - measuring
            await trio.sleep(0.001)
        waits.append(trio.current_time() - start)
    assert max(waits) < 0.08
    await trio.sleep(25)
    assert scene.b.code == 1006
    assert scene.node.counters["peers.outbox.send_timeout"] == 1
    assert scene.a.code is scene.c.code is None


async def test_a_slow_log_holds_back_the_intake_not_the_node(autojump_clock: Any, scene: Scene) -> None:
    scene.node.log.delay_s = 1.0
    for number in range(1000):
        scene.node.service.gossip.offer(
            scene.node.service.table.get("198.51.1.1:16127"), scene.message(f"app{number}").text
        )
    await trio.sleep(2.5)
    assert len(scene.node.log.taken) == 64
    assert scene.node.service._dispatcher.full
    await trio.sleep(60)
    assert len(scene.node.log.taken) == 1000
    assert len(scene.node.service._dispatcher) == 0


async def test_the_same_relay_reaches_a_peer_once(autojump_clock: Any, scene: Scene) -> None:
    message = scene.message()
    for visitor in (scene.a, scene.b, scene.c):
        visitor.send(message.text)
    await trio.sleep(1)
    got = [frames(visitor) for visitor in (scene.a, scene.b, scene.c)]
    assert sorted(len(inventory) for inventory in got) == [0, 1, 1]


async def test_messages_reach_the_log_in_the_order_of_their_arrival(
    autojump_clock: Any, scene: Scene
) -> None:
    begun: list[Any] = []
    ingest = scene.node.log.ingest

    async def slow(envelope: Envelope, *, received_at_ms: int) -> Decision:
        begun.append(envelope.data["name"])
        await trio.sleep(len(begun) % 7 / 100)
        return await ingest(envelope, received_at_ms=received_at_ms)

    scene.node.log.ingest = slow
    for number in range(300):
        scene.node.service.gossip.offer(
            scene.node.service.table.get("198.51.1.1:16127"), scene.message(f"app{number}").text
        )
    await trio.sleep(5)
    assert begun == [f"app{number}" for number in range(300)]


async def test_a_slow_room_does_not_hold_back_the_log(autojump_clock: Any, scene: Scene) -> None:
    async def never(envelope: Envelope, peer: Any) -> bool:
        await trio.sleep_forever()
        return True

    scene.node.service.register_handler("fluxapprequest", never)
    peer = scene.node.service.table.get("198.51.1.1:16127")
    now_ms = scene.world.clock.now_ms()
    for number in range(300):
        data = {"type": "fluxapprequest", "version": 1, "hash": str(number)}
        scene.node.service.gossip.offer(peer, seal(data, scene.signer, now_ms).text)
    scene.node.service.gossip.offer(peer, scene.message().text)
    await trio.sleep(1)
    assert len(scene.node.log.taken) == 1
    assert scene.node.counters["gossip.dispatch.handlers_busy"] == 300 - 256


async def test_long_texts_by_strangers_are_not_even_parsed(autojump_clock: Any, scene: Scene) -> None:
    now_ms = scene.world.clock.now_ms()
    data = {"type": "fluxapprunning", "ip": ADDRESS, "broadcastedAt": now_ms, "p": "x" * 100_000}
    decoded: list[str] = []
    decode = scene.node.service.gossip._decode

    def watch(peer: Any, text: str) -> Any:
        decoded.append(peer.key)
        return decode(peer, text)

    scene.node.service.gossip._decode = watch
    scene.a.send(seal(data, scene.world.key(), now_ms).text)
    scene.a.send(json.dumps({"pad": "x" * 20_000, **json.loads(seal(data, scene.signer, now_ms).text)}))
    await trio.sleep(0.2)
    assert decoded == []
    assert scene.node.counters["gossip.verify.node_not_found"] == 1
    assert scene.node.counters["gossip.decode.long_without_key"] == 1
    scene.a.send(seal(data, scene.signer, now_ms).text)
    await trio.sleep(0.2)
    assert len(scene.node.log.taken) == 1
    for number in range(5):
        forged = msgspec.structs.replace(seal(data, scene.signer, now_ms), timestamp=now_ms + number + 1)
        scene.a.send(forged.text)
    await trio.sleep(0.2)
    assert scene.a.code == 4004
