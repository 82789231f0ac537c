"""PeerService from outside: admission, duplicates, closing, exchange, liveness, frames."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from trionode.peers.link import DialError, Hello, LinkClosed
from trionode.peers.service import PeerRefused
from trionode.wire.frames import HashRequest, Nak, PeerExchange, PeerUpdate, decode_frame, encode_frame

pytestmark = pytest.mark.trio

OLD = Hello(capabilities=frozenset({"binaryMessages"}))
HASH = "ab" * 20


def frames(messages: list[str | bytes]) -> list[Any]:
    return [decode_frame(message) for message in messages if isinstance(message, bytes)]


async def test_a_peer_is_admitted_and_seen(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    visitor = await world.visit(node, "198.51.100.1", "16137")
    (row,) = node.service.rows()
    assert (row["ip"], row["port"], row["direction"]) == ("198.51.100.1", "16137", "inbound")
    assert row["isAlive"] is True
    assert row["lastPingTime"] is None
    assert row["remoteVersion"] == "8.13.1"
    assert node.events("peers:added") == [
        {
            "ip": "198.51.100.1",
            "port": "16137",
            "direction": "inbound",
            "outbound": 0,
            "inbound": 1,
            "total": 1,
        }
    ]
    visitor.link.terminate()
    await trio.testing.wait_all_tasks_blocked()
    assert node.events("peers:removed")[0]["closeCode"] is None
    assert len(node.service.table) == 0


@pytest.mark.parametrize(
    ("confirmed", "ip", "port", "code", "reason", "delay"),
    [
        (False, "198.51.100.1", "16127", 4019, "node not confirmed", 0.0),
        (True, "10.0.0.7", "16127", 4002, "Peer received is using internal IP", 1.0),
        (True, "127.0.0.7", "16127", 4002, "Peer received is using internal IP", 1.0),
        (True, "::1", "16127", 4002, "Peer received is using internal IP", 1.0),
        (True, "198.51.100.1", "no-port", 1008, "Peer port is not a port number", 1.0),
    ],
)
async def test_refusals(
    autojump_clock: Any, world: Any, confirmed: bool, ip: str, port: str, code: int, reason: str, delay: float
) -> None:
    node = await world.start_node()
    node.facts.confirmed = confirmed
    start = trio.current_time()
    visitor = await world.visit(node, ip, port)
    await visitor.closed()
    assert (visitor.code, visitor.reason) == (code, reason)
    assert trio.current_time() - start == pytest.approx(delay, abs=0.05)
    assert len(node.service.table) == 0


async def test_the_private_switch_opens_admission_and_exchange(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node(network__allow_private_addresses=True)
    visitor = await world.visit(node, "127.0.2.1")
    visitor.send(encode_frame(PeerExchange(outbound=("127.0.3.1:16127",))))
    await trio.testing.wait_all_tasks_blocked()
    assert node.service.topology.snapshot()["127.0.2.1:16127"]["outbound"] == ["127.0.3.1:16127"]


async def test_the_eighteenth_inbound_peer_is_refused(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    visitors = [await world.visit(node, f"198.51.100.{number}") for number in range(18)]
    await trio.sleep(1.1)
    assert [visitor.code for visitor in visitors[:17]] == [None] * 17
    assert visitors[17].code == 4000
    assert visitors[17].reason == "Max number of incomming connections 16 reached"
    assert node.service.table.inbound == 17
    assert [event["count"] for event in node.events("peers:thresholdReached")] == [12]


async def test_thresholds_have_hysteresis(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node(peers__threshold_reached=3, peers__threshold_below=2)

    async def visit(number: int) -> Any:
        return await world.visit(node, f"198.51.100.{number}")

    visitors = [await visit(number) for number in range(4)]
    for visitor in visitors[1:]:
        visitor.link.terminate()
        await trio.testing.wait_all_tasks_blocked()
    await visit(7)
    assert [event["count"] for event in node.events("peers:thresholdReached")] == [3]
    assert [event["count"] for event in node.events("peers:belowThreshold")] == [1]
    await visit(8)
    assert [event["count"] for event in node.events("peers:thresholdReached")] == [3, 3]


async def test_a_duplicate_of_a_live_peer_is_refused(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    first, second = await world.visit(node), await world.visit(node)
    await trio.sleep(1.1)
    assert first.code is None
    assert (second.code, second.reason) == (4001, "Peer already connected")


async def test_a_duplicate_of_a_dead_peer_replaces_it(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    first = await world.visit(node)
    node.service.table.get("198.51.100.1:16127").pinger.missed = 3
    second = await world.visit(node)
    await trio.sleep(0.1)
    assert (first.code, first.reason) == (4001, "replaced")
    assert second.code is None
    assert len(node.service.table) == 1
    assert [event["total"] for event in node.events("peers:removed")] == [0]
    second.link.terminate()
    await trio.testing.wait_all_tasks_blocked()
    assert len(node.service.table) == 0


@pytest.mark.parametrize("answers", [True, False])
async def test_a_reconnecting_duplicate_is_decided_by_a_ping(
    autojump_clock: Any, world: Any, answers: bool
) -> None:
    node = await world.start_node()
    first = await world.visit(node)
    first.link.answers_pings = answers
    second = await world.visit(node, hello=Hello(reconnect=True))
    await trio.sleep(0.9)
    assert second.code == (4001 if answers else None)
    await trio.sleep(0.2)
    if answers:
        assert (first.code, second.reason) == (None, "Existing connection verified alive")
    else:
        assert (first.code, second.code) == (4001, None)


async def test_losing_confirmation_closes_all(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    visitors = [await world.visit(node, f"198.51.100.{number}") for number in range(3)]
    node.facts.confirmed = False
    node.bus.publish("confirmation:changed", {"confirmed": False})
    await trio.testing.wait_all_tasks_blocked()
    assert {(visitor.code, visitor.reason) for visitor in visitors} == {(4019, "node unconfirmed")}
    assert len(node.service.table) == 0


async def test_stopping_closes_every_link_also_inbound(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    other = await world.start_node("203.0.113.2")
    world.list_nodes(("203.0.113.1", node.key), ("203.0.113.2", other.key))
    inbound = await world.visit(node)
    node.service.add_outgoing("203.0.113.2", 16127)
    await trio.sleep(1)
    assert (node.service.table.inbound, node.service.table.outbound) == (1, 1)
    node.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert inbound.code == 1001
    assert len(other.service.table) == 0
    late = await world.visit(node)
    assert late.code == 4019


async def test_a_crash_of_one_peer_is_data(
    autojump_clock: Any, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    node = await world.start_node()
    bad, good = await world.visit(node, "198.51.100.1"), await world.visit(node, "198.51.100.2")

    async def explode(message: object) -> None:
        raise ZeroDivisionError("a bug in the transport")

    peer = node.service.table.get("198.51.100.1:16127")
    peer.link.send = explode
    node.service.send_text(peer, "anything")
    await trio.sleep(1)
    assert bad.code == 1001
    assert good.code is None
    assert node.counters["peers.crashed"] == 1
    assert "ZeroDivisionError" in caplog.text


async def test_exchange_on_add_and_net_updates_later(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    first = await world.visit(node, "198.51.100.1")
    old = await world.visit(node, "198.51.100.9", hello=OLD)
    second = await world.visit(node, "198.51.100.2")
    short = await world.visit(node, "198.51.100.3")
    short.link.terminate()
    assert frames(first.received()) == [PeerExchange()]
    assert frames(second.received()) == [PeerExchange(inbound=("198.51.100.1:16127", "198.51.100.9:16127"))]
    await trio.sleep(2.1)
    everyone = {"198.51.100.1:16127", "198.51.100.9:16127", "198.51.100.2:16127"}
    for visitor in (first, second):
        (update,) = frames(visitor.received())
        assert isinstance(update, PeerUpdate)
        assert set(update.add_inbound) == everyone
        assert (update.add_outbound, update.removed) == ((), ())
    assert old.received() == []
    second.link.terminate()
    await trio.sleep(2.1)
    assert frames(first.received()) == [PeerUpdate(removed=("198.51.100.2:16127",))]
    assert frames(old.received()) == []


async def test_reported_topology_needs_the_capability_and_ends_with_the_link(
    autojump_clock: Any, world: Any
) -> None:
    node = await world.start_node()
    visitor, old = await world.visit(node), await world.visit(node, "198.51.100.9", hello=OLD)
    for guest in (visitor, old):
        guest.send(encode_frame(PeerExchange(outbound=("203.0.113.5:16127", "10.1.1.1:16127"))))
    await trio.testing.wait_all_tasks_blocked()
    assert node.service.topology.snapshot() == {
        "198.51.100.1:16127": {"outbound": ["203.0.113.5:16127"], "inbound": []}
    }
    visitor.link.terminate()
    await trio.testing.wait_all_tasks_blocked()
    assert node.service.topology.snapshot() == {}


async def test_three_unanswered_pings_end_a_link_at_the_third(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    start = trio.current_time()
    alive, dead = await world.visit(node, "198.51.100.1"), await world.visit(node, "198.51.100.2")
    dead.link.answers_pings = False
    await trio.sleep(44)
    assert dead.code is None
    await trio.sleep(1.1)
    assert dead.code == 1006
    assert trio.current_time() - start == pytest.approx(45.1)
    assert dead.link.pings_seen == 2
    assert (alive.code, alive.link.pings_seen) == (None, 3)
    assert node.service.table.get("198.51.100.1:16127").pinger.missed == 0


async def test_a_late_pong_saves_the_link(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node(peers__ping_interval_s=2.0, peers__max_missed_pongs=3)
    visitor = await world.visit(node)
    for _ in range(5):
        visitor.link.answers_pings = False
        await trio.sleep(3.8)
        visitor.link.answers_pings = True
        visitor.link.other.touch()
        await trio.sleep(0.1)
    assert visitor.code is None


async def test_many_naks_are_worth_one_warning_in_five_minutes(
    autojump_clock: Any, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    node = await world.start_node()
    visitor = await world.visit(node)

    async def send_naks(count: int) -> int:
        for _ in range(count):
            visitor.send(encode_frame(Nak(HASH)))
            await trio.sleep(0.01)
        return caplog.text.count("peer refuses many of our messages")

    assert await send_naks(9) == 0
    assert await send_naks(1) == 1
    assert await send_naks(60) == 1
    await trio.sleep(301)
    assert await send_naks(9) == 1
    assert await send_naks(1) == 2
    assert node.counters["peers.naks.stale"] == 80


async def test_text_frames_of_the_vectors(
    autojump_clock: Any, world: Any, wire_vectors: dict[str, Any]
) -> None:
    """What is peer-level is consumed; the rest ends as no envelope and closes with 4016."""
    node = await world.start_node()
    for number, case in enumerate(wire_vectors["text_frames"]):
        visitor = await world.visit(node, f"198.51.100.{number}")
        visitor.received()
        naks = node.counters["peers.naks.stale"]
        visitor.send(case["raw"])
        await trio.sleep(0.2)
        assert node.counters["peers.naks.stale"] - naks == case["js_nak_count"], case["raw"]
        peer_level = case["js_dispatched"] is None or "messageHashPresent" in case["js_dispatched"]
        assert (visitor.code is None) is peer_level, case["raw"]
        if not peer_level:
            assert (visitor.code, visitor.reason) == (4016, "Message not valid, disconnect")
        elif case["js_dispatched"]:
            assert frames(visitor.received()) == [HashRequest(case["js_dispatched"]["messageHashPresent"])]


async def test_outgoing_forms_of_the_vectors(
    autojump_clock: Any, world: Any, wire_vectors: dict[str, Any]
) -> None:
    expected = wire_vectors["text_send"]
    node = await world.start_node()
    world.clock.epoch_ms = 1_700_000_000_000
    world.clock.skew_ms = -round(trio.current_time() * 1000)
    nak = Nak(expected["nak_binary_hex"][2:42])
    answers = {}
    for number, capabilities in enumerate(((), ("transmissionTimestamps",), ("binaryMessages",))):
        visitor = await world.visit(
            node, f"198.51.100.{number}", hello=Hello(capabilities=frozenset(capabilities))
        )
        peer = node.service.table.get(f"198.51.100.{number}:16127")
        node.service.send_text(peer, '{"x":1}')
        node.service.send_frame(peer, nak)
        await trio.testing.wait_all_tasks_blocked()
        answers[capabilities] = list(visitor.link.inbox)
    assert answers[()][0] == expected["capability_absent"]
    assert answers["transmissionTimestamps",] == [
        expected["capability_present"],
        expected["nak_json_with_prefix"],
    ]
    assert answers["binaryMessages",][1] == bytes.fromhex(expected["nak_binary_hex"])
    assert json.loads(answers[()][1])["reason"] == "stale"


async def test_a_bad_hash_in_json_closes_the_link(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    for number, bad in enumerate(('"short"', "5", '"' + "zz" * 20 + '"')):
        visitor = await world.visit(node, f"198.51.100.{number}")
        visitor.send(f'{{"messageHashPresent":{bad}}}')
        await trio.testing.wait_all_tasks_blocked()
        assert visitor.code == 4016


async def test_the_rate_limit_drops_silently(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    visitor = await world.visit(node)
    visitor.received()
    for number in range(300):
        visitor.send(b"\x01" + number.to_bytes(20, "big"))
    await trio.sleep(1.5)  # what we ask for keeps to the limit too
    asked = frames(visitor.received())
    assert len(asked) == 122
    assert node.counters["peers.rate_limited"] == 178
    assert visitor.code is None


async def test_the_reported_delay_takes_both_clocks_into_account(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    node.service.links.clock_offset_ms = 100
    visitor = await world.visit(node, hello=Hello(clock_offset_ms=40))
    visitor.send(f"T{world.clock.now_ms() - 200}|" + '{"type":"nak","hash":"","reason":"stale"}')
    await trio.testing.wait_all_tasks_blocked()
    assert node.service.rows()[0]["lastTransmissionDelay"] == 200 - (100 - 40)


async def test_ephemeral_links_stay_apart(autojump_clock: Any, world: Any) -> None:
    node, other = await world.start_node(), await world.start_node("203.0.113.2")
    async with node.service.ephemeral("203.0.113.2", 16127) as peer:
        assert len(node.service.table) == 0
        assert other.service.table.inbound == 1
        other.service.send_frame(other.service.table.get("203.0.113.1:16127"), HashRequest(HASH))
        await trio.sleep(60)
        assert not peer.gone
        far = other.service.table.get("203.0.113.1:16127")
        assert far.pinger.missed == 0
    assert peer.gone
    await trio.testing.wait_all_tasks_blocked()
    assert len(other.service.table) == 0
    assert other.service.table.history[-1].code == 4018


async def test_an_error_inside_an_ephemeral_block_comes_out_as_it_is(autojump_clock: Any, world: Any) -> None:
    node, other = await world.start_node(), await world.start_node("203.0.113.2")
    with pytest.raises(KeyError, match="mine"):
        async with node.service.ephemeral("203.0.113.2", 16127):
            raise KeyError("mine")
    await trio.testing.wait_all_tasks_blocked()
    assert len(other.service.table) == 0
    with pytest.raises(DialError):
        async with node.service.ephemeral("203.0.113.9", 16127):
            pass


async def test_a_crash_while_dialling_stays_with_that_dial(
    autojump_clock: Any, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    node, other = await world.start_node(), await world.start_node("203.0.113.2")
    world.list_nodes((node.ip, node.key), (other.ip, other.key))
    dial, node.transport.dial = node.transport.dial, None
    node.service.add_outgoing(other.ip, 16127)
    await trio.sleep(1)
    assert node.counters["peers.crashed"] == 1
    assert "TypeError" in caplog.text
    node.transport.dial = dial
    node.service.add_outgoing(other.ip, 16127)
    await trio.sleep(1)
    assert node.service.table.outbound == 1


async def test_dials_on_request_follow_the_rules(autojump_clock: Any, world: Any) -> None:
    node, other = await world.start_node(), await world.start_node("203.0.113.2")
    world.list_nodes(("203.0.113.1", node.key), ("203.0.113.2", other.key), ("10.0.0.1", world.key()))

    def refusal(ip: str, source: str) -> str:
        with pytest.raises(PeerRefused) as caught:
            node.service.add_outgoing(ip, 16127, source_ip=source)
        return caught.value.message

    assert "is not" in refusal("203.0.113.2", "203.0.113.9")
    assert "node list" in refusal("203.0.113.9", "203.0.113.9")
    assert "private" in refusal("10.0.0.1", "10.0.0.1")
    node.facts.confirmed = False
    assert refusal("203.0.113.2", "203.0.113.2") == "Node is not confirmed."
    node.facts.confirmed = True
    text = node.service.add_outgoing("203.0.113.2", 16127, source_ip="203.0.113.2")
    assert text == "Outgoing connection to 203.0.113.2:16127 initiated"
    await trio.sleep(1)
    assert node.service.table.outbound == 1
    assert "connected" in refusal("203.0.113.2", "203.0.113.2")
    assert node.service.close_peer("203.0.113.2:16127")
    await trio.testing.wait_all_tasks_blocked()
    assert other.service.table.history[-1].code == 4009
    assert not node.service.close_peer("203.0.113.2:16127")


async def test_crossing_dials_leave_one_link(autojump_clock: Any, world: Any) -> None:
    nodes = [await world.start_node(f"203.0.113.{number}") for number in (1, 2)]
    world.list_nodes(*((node.ip, node.key) for node in nodes))
    for _ in range(5):
        for node, other in (nodes, nodes[::-1]):
            node.service.add_outgoing(other.ip, 16127)
        await trio.sleep(3)
        assert [len(node.service.table) for node in nodes] == [1, 1]
        assert nodes[0].service.table.outbound == 1
        nodes[0].service.close_peer("203.0.113.2:16127")
        await trio.sleep(1)


async def test_link_closed_keeps_its_code_in_the_history(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    visitor = await world.visit(node)
    await visitor.link.close(4010, "closed by the other side")
    await trio.testing.wait_all_tasks_blocked()
    last = node.service.table.history[-1]
    assert (last.event, last.code, last.reason) == ("disconnect", 4010, "closed by the other side")
    assert LinkClosed(4010).close_code == 4010
