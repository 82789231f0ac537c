"""Putting the registry in order (docs/spec/registry.md §8, §10, §12)."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from trionode.registry.housekeeping import (
    Life,
    expired_names,
    local_names_to_remove,
    may_insert,
    may_update,
    newest_by_name,
    not_current,
    reconstructed,
    reindexed,
    rescanned,
    reset_for_upgrade,
)
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow

_HEIGHTS = st.integers(0, 50)


def message(hash_: str, name: str, height: int, expire: int = 100, at_ms: int = 1) -> PermanentRow:
    text = f'{{"name":"{name}","expire":{expire}}}'
    return PermanentRow(hash_, "fluxappregister", 1, text, name, "o", at_ms, "s", "t", height, 0)


_PAYMENTS = st.builds(
    HashRow,
    st.just("t"),
    _HEIGHTS,
    st.text("abc", min_size=1),
    st.just(1),
    message=st.booleans(),
    message_not_found=st.sampled_from([None, True, False]),
    sync_attempts=st.one_of(st.none(), st.integers(0, 9)),
    next_retry_height=st.one_of(st.none(), _HEIGHTS),
    retry_from_height=st.one_of(st.none(), _HEIGHTS),
)


def test_only_a_later_block_replaces_a_specification() -> None:
    assert [may_insert(before, 10) for before in (None, 9, 10, 11)] == [True, True, False, False]
    assert [may_update(before, 10) for before in (None, 9, 10, 11)] == [False, True, False, False]


def test_what_the_loop_and_the_node_remove() -> None:
    lives = [
        Life("over", 2_000_000, 2_099_999),
        Life("now", 2_000_000, 2_100_000),
        Life("cancelled", 2_099_950, 2_099_951),
        Life("unpaid", None, 2_200_000),
    ]
    assert expired_names(lives, 2_100_000) == ["over"]
    assert local_names_to_remove(lives, 2_100_000, {"now"}) == ["over", "now", "cancelled", "unpaid"]
    assert local_names_to_remove(lives[1:2], 2_100_000, ()) == []
    paid = CurrentSpec("App", '{"expire":100}', "h", 2_100_000)
    assert Life.of(paid) == Life("App", 2_100_000, 2_100_100)


def test_reindex_keeps_the_newest_of_each_exact_name_while_it_lives() -> None:
    rows = [
        message("a1", "App", 2_100_000),
        message("a2", "App", 2_100_050),
        message("b", "app", 2_100_000),
        message("c", "Gone", 2_000_000),
    ]
    kept = reindexed(newest_by_name(rows).values(), 2_100_099)
    assert {(row.name, row.hash) for row in kept} == {("App", "a2"), ("app", "b")}
    assert [row.name for row in reindexed(newest_by_name(rows).values(), 2_100_100)] == ["App"]
    assert not_current(["Gone", "App"], {"App"}) == ["Gone"]


def test_rescan_takes_later_rows_and_lets_nothing_expire() -> None:
    rows = [message("a1", "App", 5), message("a2", "App", 9), message("b", "Old", 4), message("c", "New", 5)]
    assert {(row.name, row.hash) for row in rescanned(rows, 5)} == {("App", "a2"), ("New", "c")}


@given(st.integers(0, 1 << 30))
def test_the_newest_never_depends_on_the_order(seed: int) -> None:
    rng = random.Random(seed)
    rows = [
        message(f"h{number}", rng.choice("ABC"), rng.randrange(4), at_ms=rng.randrange(3))
        for number in range(12)
    ]
    shuffled = rng.sample(rows, len(rows))
    assert newest_by_name(rows) == newest_by_name(shuffled)


@given(st.lists(_PAYMENTS, max_size=8, unique_by=lambda row: row.hash), st.sets(st.text("abc", min_size=1)))
def test_reconstructing_settles_at_once(rows: list[HashRow], permanent: set[str]) -> None:
    changed = {row.hash: row for row in reconstructed(rows, permanent, 40)}
    after = [changed.get(row.hash, row) for row in rows]
    assert reconstructed(after, permanent, 41) == []
    for row in after:
        assert row.message == (row.hash in permanent)
        assert row.retry_from_height is not None
        assert not (row.message and row.flagged)
    untouched = [row for row in rows if row.hash not in changed]
    assert all(row.message or row.hash not in permanent for row in untouched)


@given(st.lists(_PAYMENTS, max_size=8, unique_by=lambda row: row.hash))
def test_an_upgrade_makes_everything_missing_due(rows: list[HashRow]) -> None:
    changed = {row.hash: row for row in reset_for_upgrade(rows, 40)}
    for row in rows:
        reset = changed.get(row.hash, row)
        if row.message:
            assert reset is row
            continue
        assert reset.due(40)
        if row.retry_from_height is not None:
            assert reset.sync_attempts == row.sync_attempts
            assert reset.retry_from_height == row.retry_from_height
        else:
            assert (reset.sync_attempts, reset.retry_from_height) == (0, 40)
    again = [changed.get(row.hash, row) for row in rows]
    assert list(reset_for_upgrade(again, 40)) == []


def test_a_flagged_row_without_its_message_stays_given_up() -> None:
    row = HashRow("t", 4, "d", 1, message_not_found=True, retry_from_height=7)
    assert reconstructed([row], (), 40) == []
    bare = msgspec.structs.replace(row, retry_from_height=None)
    (filled,) = reconstructed([bare], (), 40)
    assert (filled.message_not_found, filled.retry_from_height, filled.next_retry_height) == (True, 4, 4)
