"""The choices of a discovery pass, pure (wire.md §3)."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trionode.peers.discovery import (
    InviteBackoff,
    RandomWalk,
    ReconnectQueue,
    deterministic_inbound,
    deterministic_outbound,
)
from trionode.wire.address import provider, split_address


def test_discovery_vectors(wire_vectors: dict[str, Any]) -> None:
    for case in wire_vectors["discovery"]:
        own = case["my_address"]
        listed = [address for address in case["sorted"] if address]
        port = split_address(own)[1]
        dials = [f"ws://{t.key}/ws/flux/{port}" for t in deterministic_outbound(listed, own)]
        invites = [f"http://{t.key}/flux/addoutgoingpeer/{own}" for t in deterministic_inbound(listed, own)]
        assert dials == case["js_dialled"], case["name"]
        assert invites == case["js_addoutgoing_requests"], case["name"]


@given(st.integers(0, 12), st.integers(-1, 11), st.integers(1, 8))
def test_neighbours_never_leave_the_list_or_name_ourselves(length: int, me: int, count: int) -> None:
    listed = [f"203.0.{i}.10" for i in range(length)]
    own = listed[me] if 0 <= me < length else "198.51.100.1"
    for choose in (deterministic_outbound, deterministic_inbound):
        keys = [target.key for target in choose(listed, own, count)]
        assert len(keys) == len(set(keys)) <= count
        assert f"{own}:16127" not in keys
        if own in listed:
            assert len(keys) == min(length - 1, count)


def test_own_address_is_found_in_either_form() -> None:
    listed = ["203.0.1.1", "203.0.2.1:16127", "203.0.3.1"]
    assert [t.ip for t in deterministic_outbound(listed, "203.0.1.1:16127")] == ["203.0.2.1", "203.0.3.1"]
    assert [t.ip for t in deterministic_outbound(listed, "203.0.2.1")] == ["203.0.3.1", "203.0.1.1"]


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_random_walk_keeps_the_provider_rule(seed: int, nodes: int) -> None:
    rng = random.Random(seed)
    listed = [f"{rng.randint(1, 4)}.{rng.randint(1, 4)}.{rng.randint(1, 4)}.1" for _ in range(nodes)]
    own, connected, taken = "1.1.1.1", {listed[0] + ":16127"}, {"2.2"}
    walk = RandomWalk(listed, own, rng, allowed=lambda ip: not ip.startswith("3.3."))
    drawn = [t for _ in range(100) if (t := walk.draw(connected.__contains__, taken)) is not None]
    assert len({provider(t.ip) for t in drawn}) == len(drawn)
    for target in drawn:
        assert target.key not in connected
        assert provider(target.ip) not in {"1.1", "2.2", "3.3"}


def test_random_walk_shares_what_was_tried() -> None:
    walk = RandomWalk(["9.9.0.1", "1.1.1.1"], "1.1.1.1", random.Random(1), allowed=lambda _: True)
    drawn = [walk.draw(lambda _: False, ()) for _ in range(50)]
    assert sum(target is not None for target in drawn) == 1


def test_reconnect_queue() -> None:
    queue = ReconnectQueue()

    def no(_: str) -> bool:
        return False

    def yes(_: str) -> bool:
        return True

    for attempt in (1, 2, 3):
        queue.lost("1.2.3.4", 16127)
        # dials that fail leave the entry as it is
        for _ in range(2):
            (target,) = queue.due(no, no, yes)
            assert (target.key, target.reconnects, target.source) == ("1.2.3.4:16127", attempt, "reconnect")
    queue.lost("1.2.3.4", 16127)
    assert queue.due(no, no, yes) == []
    for drop in ((yes, no, yes), (no, yes, yes), (no, no, no)):
        queue.lost("1.2.3.4", 16127)
        assert queue.due(*drop) == []
        assert len(queue) == 0
    for number in range(1000):
        queue.lost(f"1.2.3.{number}", 16127)
    assert len(queue) == 256


def test_invite_backoff_follows_the_ladder() -> None:
    backoff = InviteBackoff((120.0, 300.0, 600.0, 900.0))
    now = 0.0
    for pause in (120.0, 300.0, 600.0, 900.0, 900.0):
        backoff.failed("k", now)
        assert backoff.waits("k", now + pause - 0.1)
        now += pause
        assert not backoff.waits("k", now)
    backoff.connected("k")
    backoff.failed("k", now)
    assert not backoff.waits("k", now + 120.0)
    backoff.keep_only(lambda _: False)
    assert not backoff.waits("k", now)
