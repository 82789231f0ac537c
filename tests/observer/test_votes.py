"""Counting what sources say: no minority changes anything."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from trionode.observer.answers import ToldLocation
from trionode.observer.votes import agreed_height, agreed_locations, agreed_nodes, majority_of
from trionode.wire.nodelist import NodeEntry

HONEST = tuple(
    NodeEntry(ip=f"9.{n}.0.1", pubkey=f"key{n}", txhash=f"tx{n}", tier="CUMULUS", added_height=n, rank=n)
    for n in range(8)
)


def identities(entries: Any) -> set[tuple[str, str]]:
    return {(entry.ip, entry.pubkey) for entry in entries}


def test_majorities() -> None:
    assert [majority_of(count) for count in range(8)] == [0, 0, 0, 2, 3, 3, 4, 4]


def test_fewer_than_three_agree_on_nothing() -> None:
    assert agreed_nodes({"a": HONEST, "b": HONEST}) is None
    assert agreed_height([5, 5]) is None


def test_the_same_lists_are_the_list() -> None:
    vote = agreed_nodes(dict.fromkeys("abc", HONEST))
    assert vote is not None
    assert vote.entries == HONEST
    assert vote.dissents == ()


def test_a_source_that_lags_or_lies_is_named() -> None:
    forged = NodeEntry(ip="9.0.0.1", pubkey="mine", txhash="tx0")
    vote = agreed_nodes({"a": HONEST, "b": HONEST, "c": (*HONEST[2:], forged)})
    assert vote is not None
    assert identities(vote.entries) == identities(HONEST)
    (dissent,) = vote.dissents
    assert (dissent.source, dissent.missing, dissent.extra) == ("c", 2, 1)
    assert any("only a minority tells 9.0.0.1" in text for text in dissent.sample)


def test_bare_and_written_out_ports_are_the_same_node() -> None:
    written = tuple(msgspec.structs.replace(entry, ip=f"{entry.ip}:16127") for entry in HONEST)
    vote = agreed_nodes({"a": HONEST, "b": written, "c": HONEST})
    assert vote is not None
    assert len(vote.entries) == len(HONEST)
    assert vote.dissents == ()


def test_numbers_that_move_become_the_middle_one_and_split_texts_are_dropped() -> None:
    def told(rank: int, tier: str) -> tuple[NodeEntry, ...]:
        return (NodeEntry(ip="9.1.0.1", pubkey="key", rank=rank, tier=tier),)

    vote = agreed_nodes({"a": told(4, "A"), "b": told(6, "B"), "c": told(5, "C")})
    assert vote is not None
    assert (vote.entries[0].rank, vote.entries[0].tier) == (5, "")


def test_one_source_counts_a_row_once() -> None:
    vote = agreed_nodes({"a": (HONEST[0],) * 5, "b": (), "c": ()})
    assert vote is not None
    assert vote.entries == ()


@given(
    honest=st.integers(2, 6),
    liars=st.integers(0, 5),
    lies=st.lists(
        st.builds(
            NodeEntry,
            ip=st.sampled_from([entry.ip for entry in HONEST] + ["6.6.6.6"]),
            pubkey=st.sampled_from(["key0", "key1", "evil"]),
            txhash=st.sampled_from(["tx0", "tx1", ""]),
            tier=st.sampled_from(["CUMULUS", "STRATUS"]),
            added_height=st.integers(0, 10**9),
            rank=st.integers(0, 10**9),
        ),
        max_size=8,
    ),
    heights=st.lists(st.integers(1, 2**30), min_size=5, max_size=5),
)
def test_a_minority_changes_nothing(
    honest: int, liars: int, lies: list[NodeEntry], heights: list[int]
) -> None:
    liars = min(liars, honest - 1)
    if honest + liars < 3:
        liars, honest = 0, 3
    ballots: dict[str, tuple[NodeEntry, ...]] = {f"liar{n}": tuple(lies) for n in range(liars)}
    ballots |= {f"honest{n}": HONEST for n in range(honest)}
    vote = agreed_nodes(ballots)
    assert vote is not None
    assert set(vote.entries) == set(HONEST)
    assert agreed_height([*heights[:liars], *[77] * honest]) == 77


@given(told=st.lists(st.integers(1, 100), min_size=3, max_size=9))
def test_a_majority_has_reached_the_agreed_height(told: list[int]) -> None:
    agreed = agreed_height(told)
    assert agreed is not None
    assert sum(height >= agreed for height in told) > len(told) / 2
    assert sum(height > agreed for height in told) <= len(told) / 2


def location(name: str, ip: str, at_ms: int = 1000, hash_: str = "aa") -> ToldLocation:
    return ToldLocation(name, hash_, ip, at_ms, at_ms + 500, None, None, None)


def test_locations_need_a_majority_too() -> None:
    good, bad = location("shop", "9.1.0.1"), location("trap", "6.6.6.6")
    vote = agreed_locations({"a": (good,), "b": (good,), "c": (good, bad)})
    assert vote.by_majority
    assert vote.rows == ((good, 3),)


def test_a_told_time_far_ahead_does_not_win() -> None:
    told = [location("shop", "9.1.0.1", at_ms) for at_ms in (1000, 1010, 10**12)]
    vote = agreed_locations({name: (row,) for name, row in zip("abc", told, strict=True)})
    assert [row.broadcasted_at_ms for row, _ in vote.rows] == [1010]


def test_with_two_sources_everything_told_is_taken_and_said_so() -> None:
    vote = agreed_locations({"a": (location("shop", "9.1.0.1"),), "b": (location("web", "9.2.0.1"),)})
    assert not vote.by_majority
    assert [(row.name, count) for row, count in vote.rows] == [("shop", 1), ("web", 1)]
