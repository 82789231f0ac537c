"""The pure rules: rate limit, admission, close codes, exchange, bad messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.peers import closecodes
from trionode.peers.admission import (
    Duplicate,
    address_allowed,
    check_duplicate,
    check_inbound,
    dial_port,
    max_inbound,
    max_inbound_text,
)
from trionode.peers.badmessages import BadMessages, WrongKey
from trionode.peers.exchange import PendingChanges, Topology
from trionode.peers.ratelimit import RateLimiter
from trionode.wire.frames import PeerExchange, PeerUpdate, decode_frame


def test_rate_limit_of_the_vectors(wire_vectors: dict[str, Any]) -> None:
    observed = wire_vectors["rate_limit"]["observed"]
    limiter = RateLimiter(wire_vectors["rate_limit"]["limit"], 1.0, 15.0, 150)
    first = sum(limiter.allow("k", i / 1000) for i in range(300))
    second = sum(limiter.allow("k", 1.1 + i / 1000) for i in range(300))
    assert first == observed["burst_of_300_in_first_second_accepted"]
    assert second == observed["burst_of_300_in_a_later_second_accepted"]


def test_rate_limit_keys_are_apart_and_bounded() -> None:
    limiter = RateLimiter(2, 1.0, 15.0, 3)
    assert [limiter.allow("a", 0.0) for _ in range(6)] == [True] * 4 + [False] * 2
    assert limiter.allow("b", 0.0)
    for number in range(10):
        limiter.allow(f"n{number}", 0.0)
    assert len(limiter) == 3


def test_rate_limit_forgets_an_idle_key() -> None:
    limiter = RateLimiter(2, 100.0, 15.0, 3)
    while limiter.allow("a", 0.0):
        pass
    assert not limiter.allow("a", 14.9)
    assert not limiter.allow("a", 29.8)
    assert limiter.allow("a", 45.0)


def test_inbound_cap_of_the_vectors(wire_vectors: dict[str, Any]) -> None:
    for case in wire_vectors["inbound_cap"]:
        cap = max_inbound(case["nodes"], 4)
        assert cap == case["max_con"]
        reachable = 0
        while (
            check_inbound(
                accepting=True,
                inbound_count=reachable,
                max_connections=cap,
                remote_ip="198.51.100.1",
                allow_private=False,
            )
            is None
        ):
            reachable += 1
        assert reachable == case["highest_inbound_count_reachable"]


def test_refusal_text_is_not_rounded() -> None:
    refusal = check_inbound(
        accepting=True,
        inbound_count=17,
        max_connections=max_inbound(2561, 4),
        remote_ip="198.51.100.1",
        allow_private=False,
    )
    assert refusal is not None
    assert refusal.reason == "Max number of incomming connections 16.00625 reached"
    assert refusal.delayed
    assert max_inbound_text(max_inbound(500, 4)) == "16"


@pytest.mark.parametrize(
    ("accepting", "count", "ip", "code"),
    [
        (False, 99, "10.0.0.1", 4019),
        (True, 99, "10.0.0.1", 4000),
        (True, 16, "10.0.0.1", 4002),
        (True, 16, "8.8.8.8", None),
    ],
)
def test_checks_come_in_order(accepting: bool, count: int, ip: str, code: int | None) -> None:
    refusal = check_inbound(
        accepting=accepting, inbound_count=count, max_connections=16, remote_ip=ip, allow_private=False
    )
    assert (refusal.code if refusal else None) == code


@pytest.mark.parametrize(
    ("ip", "public", "private"),
    [
        ("8.8.8.8", True, True),
        ("10.1.2.3", False, True),
        ("172.16.0.1", False, True),
        ("172.32.0.1", True, True),
        ("192.168.1.1", False, True),
        ("127.0.0.1", False, True),
        ("169.254.1.1", False, True),
        ("100.64.0.1", False, True),
        ("100.128.0.1", True, True),
        ("::1", False, False),
        ("2001:db8::1", False, False),
        ("", False, False),
        ("localhost", False, False),
    ],
)
def test_addresses(ip: str, public: bool, private: bool) -> None:
    assert address_allowed(ip, allow_private=False) is public
    assert address_allowed(ip, allow_private=True) is private


def test_duplicates() -> None:
    assert check_duplicate(connected=False, alive=False, reconnecting=True) is Duplicate.ACCEPT
    assert check_duplicate(connected=True, alive=False, reconnecting=False) is Duplicate.REPLACE
    assert check_duplicate(connected=True, alive=True, reconnecting=True) is Duplicate.VERIFY
    assert check_duplicate(connected=True, alive=True, reconnecting=False) is Duplicate.REFUSE
    assert check_duplicate(connected=True, alive=True, reconnecting=False, crossing=True) is Duplicate.REPLACE


@given(st.text(max_size=8))
def test_dial_port_is_a_port_or_none(text: str) -> None:
    port = dial_port(text)
    assert port is None or (0 < port < 65536 and int(text) == port)


def test_dial_port_examples() -> None:
    assert dial_port("16127") == 16127
    for text in ("", "0", "65536", "-1", "+1", "1 ", "٣", "16127?x", "999999"):
        assert dial_port(text) is None


def test_close_codes_by_direction() -> None:
    assert (closecodes.bad_origin("inbound"), closecodes.bad_origin("outbound")) == (4004, 4007)
    assert (closecodes.invalid_message("inbound"), closecodes.invalid_message("outbound")) == (4016, 4017)
    assert closecodes.closed_on_purpose("outbound") == 4009
    assert closecodes.closed_on_purpose("inbound") == 4010
    again = [code for code in range(4000, 4020) if closecodes.dialler_redials(code)]
    assert again == [4000, 4011]
    assert closecodes.dialler_redials(None)
    assert closecodes.dialler_redials(1006)


def _public_entry(key: str) -> bool:
    ip, _, port = key.rpartition(":")
    return int(port) in range(16127, 16198, 10) and address_allowed(ip, allow_private=False)


def test_binary_dispatch_of_the_vectors(wire_vectors: dict[str, Any]) -> None:
    """The topology half of the section; the frames themselves are tested in the wire room."""
    topology = Topology(_public_entry)
    for case in wire_vectors["binary_dispatch"]:
        frame = decode_frame(bytes.fromhex(case["hex"]))
        if not isinstance(frame, PeerExchange | PeerUpdate):
            assert case["js_topology_after"] is None
            continue
        reporter = "sender" if case["sender_has_peerExchange"] else "fresh"
        if case["sender_has_peerExchange"]:
            if isinstance(frame, PeerExchange):
                topology.exchange(reporter, frame)
            else:
                topology.update(reporter, frame)
        after, expected = topology.snapshot().get(reporter), case["js_topology_after"]
        if expected is not None and "outbound_count" in expected:
            assert after is not None
            assert len(after["outbound"]) == expected["outbound_count"]
            assert after["outbound"][-1] == expected["last"]
        else:
            assert after == expected, case["name"]


def test_topology_bounds() -> None:
    topology = Topology(lambda key: True)
    sixty = tuple(f"203.0.113.{i}:16127" for i in range(60))
    topology.exchange("r", PeerExchange(outbound=sixty, inbound=tuple(k + "7" for k in sixty)))
    topology.update("r", PeerUpdate(add_outbound=("1.2.3.4:1",)))
    report = topology.snapshot()["r"]
    assert len(report["outbound"]) + len(report["inbound"]) == 120
    for number in range(200):
        topology.exchange(f"n{number}", PeerExchange())
    assert len(topology.snapshot()) == 100
    topology.forget("r")
    assert topology.exchange("late", PeerExchange())


def test_changes_are_net() -> None:
    changes = PendingChanges()
    changes.added("a:1", "outbound")
    changes.added("b:1", "inbound")
    changes.removed("a:1", "outbound")
    changes.removed("c:1", "outbound")
    changes.removed("d:1", "inbound")
    changes.added("d:1", "inbound")
    assert changes.take() == PeerUpdate(add_inbound=("b:1",), removed=("c:1",))
    assert changes.take() is None


def test_five_bad_messages_in_the_window() -> None:
    bad = BadMessages(5, 600.0)
    assert [bad.add(second * 10.0) for second in range(5)] == [False] * 4 + [True]
    bad = BadMessages(5, 600.0)
    assert not any(bad.add(second * 150.1) for second in range(50))


def test_wrong_keys_are_forgiven_when_the_list_agrees() -> None:
    bad = BadMessages(5, 600.0)
    for number in range(4):
        bad.add(float(number), WrongKey("1.2.3.4", f"key{number % 2}"))
    assert bad.forgive(lambda claim: claim.public_key == "key1") == 2
    assert bad.count(4.0) == 2
    assert not bad.add(4.0)
