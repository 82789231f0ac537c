"""Cache, inventory, fair intake: the pure parts of the gossip pipeline."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trionode.peers.cache import ExpiringMap
from trionode.peers.intake import QUANTUM_BYTES, FairIntake, Item
from trionode.peers.inventory import MAX_WANTED_PER_PEER, Ask, Inventory


def test_cache_expires_and_evicts_the_oldest() -> None:
    cache: ExpiringMap[str, int] = ExpiringMap(3, 300.0)
    for number in range(4):
        cache.put(str(number), number, float(number))
    assert cache.get("0", 4.0) is None
    assert cache.get("1", 300.9) == 1
    assert cache.get("1", 301.0) is None
    assert len(cache) == 2


def test_one_request_in_flight_then_the_next_announcer() -> None:
    inventory = Inventory(3.0)
    assert inventory.announced("h", "a", 0.0) == Ask("h", "a")
    assert inventory.announced("h", "b", 0.1) is None
    assert inventory.announced("h", "c", 0.1) is None
    assert inventory.announced("h", "a", 0.2) is None
    assert inventory.next_deadline_s() == 3.0
    assert inventory.overdue(2.9) == []
    assert inventory.overdue(3.0) == [Ask("h", "b")]
    assert inventory.gone("b", 3.5) == [Ask("h", "c")]
    assert inventory.overdue(6.5) == []
    assert inventory.next_deadline_s() is None
    assert inventory.announced("h", "a", 7.0) == Ask("h", "a")


def test_a_refused_copy_is_not_asked_for_again() -> None:
    inventory = Inventory(3.0)
    inventory.announced("h", "liar", 0.0)
    inventory.announced("h", "honest", 0.0)
    assert inventory.refused("h", "liar", 0.1) == Ask("h", "honest")
    assert inventory.announced("h", "liar", 0.2) is None
    assert inventory.overdue(3.1) == []
    assert inventory.announced("h", "liar", 4.0) is None
    inventory.lists_changed()
    assert inventory.announced("h", "liar", 4.0) == Ask("h", "liar")


def test_a_flooding_announcer_uses_up_only_its_own_share() -> None:
    inventory = Inventory(3.0)
    asked = [inventory.announced(f"{n}", "flood", 0.0) for n in range(2000)]
    assert sum(ask is not None for ask in asked) == MAX_WANTED_PER_PEER
    assert inventory.announced("x", "other", 0.0) == Ask("x", "other")
    inventory.overdue(3.0)
    assert inventory.announced("y", "flood", 3.0) == Ask("y", "flood")


@given(
    st.lists(
        st.tuples(st.sampled_from("apgrt"), st.integers(0, 3), st.integers(0, 3), st.floats(0, 2)),
        max_size=60,
    )
)
def test_inventory_books_balance(steps: list[tuple[str, int, int, float]]) -> None:
    inventory, now, open_asks = Inventory(1.0), 0.0, Counter[str]()
    for what, hash_number, peer_number, pause in steps:
        now += pause
        name, peer = f"h{hash_number}", f"p{peer_number}"
        if what == "a":
            ask = inventory.announced(name, peer, now)
            open_asks.update([ask.hash] if ask else [])
        elif what == "p":
            inventory.resolved(name)
        elif what == "g":
            inventory.gone(peer, now)
        elif what == "r":
            inventory.refused(name, peer, now)
        else:
            inventory.overdue(now)
    for _ in range(20):
        now += 1.0
        inventory.overdue(now)
    assert len(inventory) == 0
    assert inventory.next_deadline_s() is None
    assert not +inventory._charged


class Named:
    def __init__(self, key: str) -> None:
        self.key = key


def item(who: Any, number: int, size: int = 100, due_s: float = 0.0) -> Item:
    return Item(who, f"{who.key}{number}", size, due_s)


def test_intake_keeps_the_order_of_a_peer_and_waits_for_its_time() -> None:
    intake, a = FairIntake(10, 10_000), Named("a")
    intake.put(item(a, 1, due_s=0.05))
    intake.put(item(a, 2, due_s=0.01))
    assert intake.next_due_s() == 0.05
    assert intake.take(0.04) is None
    first, second = intake.take(0.05), intake.take(0.05)
    assert (first and first.body, second and second.body) == ("a1", "a2")
    assert intake.take(1.0) is None
    assert intake.next_due_s() is None


def test_intake_takes_turns_by_bytes() -> None:
    intake, big, small = FairIntake(1000, 10**9), Named("big"), Named("small")
    for number in range(20):
        intake.put(item(big, number, size=QUANTUM_BYTES * 10))
    for number in range(50):
        intake.put(item(small, number))
    order = [intake.take(1.0) for _ in range(70)]
    assert all(entry is not None for entry in order)
    bodies = [entry.body for entry in order if entry is not None]
    # whatever the start, the small peer is through after at most a couple of the huge messages
    last_small = max(index for index, body in enumerate(bodies) if body.startswith("small"))
    assert last_small < 50 + 3
    assert len(intake) == 0
    assert intake.size_bytes == 0


def test_a_flood_pushes_out_only_itself() -> None:
    intake, flood, honest = FairIntake(100, 10**9), Named("flood"), Named("honest")
    for number in range(10):
        assert intake.put(item(honest, number)) is None
    dropped = [intake.put(item(flood, number)) for number in range(1000)]
    assert {entry.peer.key for entry in dropped if entry is not None} == {"flood"}
    assert len(intake) == 100
    taken = [intake.take(1.0) for _ in range(100)]
    assert sum(entry is not None and entry.peer is honest for entry in taken) == 10


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, QUANTUM_BYTES * 3), st.floats(0, 1)),
        min_size=1,
        max_size=60,
    )
)
def test_intake_gives_everything_once_and_never_early(entries: list[tuple[int, int, float]]) -> None:
    peers = [Named(str(number)) for number in range(4)]
    intake = FairIntake(1000, 10**9)
    for number, (who, size, due_s) in enumerate(entries):
        intake.put(item(peers[who], number, size, due_s))
    taken: list[Item] = []
    for step in range(11):
        now = step / 10
        while (entry := intake.take(now)) is not None:
            assert entry.due_s <= now
            taken.append(entry)
        due = intake.next_due_s()
        assert due is None or due > now
    assert len(taken) == len(entries)
    for who in peers:
        numbers = [int(entry.body.removeprefix(who.key)) for entry in taken if entry.peer is who]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("size", [1, QUANTUM_BYTES * 100])
def test_a_lone_peer_is_never_stuck(size: int) -> None:
    intake, a = FairIntake(10, 10**9), Named("a")
    for number in range(3):
        intake.put(item(a, number, size))
    assert all(intake.take(0.0) is not None for _ in range(3))
