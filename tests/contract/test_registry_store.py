"""One suite for every RegistryStore: all implementations must pass it (trionode/store/registry_port.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mongoserver import Databases

from trionode.config.tree import StoreSettings
from trionode.errors import StoreError
from trionode.registry.changes import (
    KEPT_BLOCK_HASHES,
    AddHashes,
    AddPermanents,
    ClearCurrent,
    DeleteCurrent,
    DeleteTemporaries,
    ExpireTemporaries,
    PutBlockHash,
    PutChainMessage,
    PutCurrent,
    PutMeta,
    PutTemporary,
    RegistryChange,
    ResolveHashes,
    Rewind,
    SetScannedHeight,
    UpdateHashes,
)
from trionode.registry.rows import ChainMessageRow, CurrentSpec, HashRow, PermanentRow, TemporaryRow
from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.registry import MongoRegistryStore
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.store.registry_port import RegistryStore
from trionode.store.registry_sqlite import SqliteRegistryStore, open_sqlite_registry
from trionode.wire.jsjson import stringify

pytestmark = pytest.mark.trio


@asynccontextmanager
async def _opened(kind: str, folder: Path) -> AsyncIterator[RegistryStore]:
    if kind == "memory":
        yield MemoryRegistryStore()
    else:
        async with open_sqlite_registry(folder / "registry.sqlite") as store:
            yield store


@pytest.fixture(params=["memory", "sqlite", "mongo"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RegistryStore]:
    if request.param == "mongo":
        async with mongo_registry(request.getfixturevalue("mongo")) as on_mongo:
            yield on_mongo
        return
    async with _opened(request.param, tmp_path) as opened:
        yield opened


@asynccontextmanager
async def mongo_registry(databases: Databases) -> AsyncIterator[MongoRegistryStore]:
    """The registry on MongoDB, in the databases of one test."""
    settings = StoreSettings(url=databases.url, mongo_prefix=databases.prefix, mongo_call_s=300.0)
    async with open_mongo(settings) as server:
        # SecantusDB compares each value of a question with each of its documents.
        store = MongoRegistryStore(server, in_chunk=2_000 if databases.server.real else 200)
        await store.open()
        yield store
        await store.aclose()


def payment(hash_: str, height: int = 100, **values: Any) -> HashRow:
    return msgspec.structs.replace(HashRow.found(f"tx-{hash_}", height, hash_, 5), **values)


def message(hash_: str, name: str = "App", height: int = 100, **values: Any) -> PermanentRow:
    row = PermanentRow(
        hash_,
        "fluxappregister",
        1,
        stringify({"name": name, "owner": values.get("owner", "owner")}),
        name,
        "owner",
        1_750_000_000_000,
        "sig",
        f"tx-{hash_}",
        height,
        5,
    )
    return msgspec.structs.replace(row, **values)


FAR_MS = 4_100_000_000_000
"""Unpaid messages come from far ahead: what is older than an hour a MongoDB deletes by itself."""


def unpaid(hash_: str, after_ms: int = 10, **values: Any) -> TemporaryRow:
    received_at_ms = FAR_MS + after_ms
    row = TemporaryRow(
        hash_,
        "fluxappupdate",
        1,
        '{"name":"App"}',
        "App",
        "owner",
        1,
        "sig",
        received_at_ms,
        received_at_ms + 3_600_000,
    )
    return msgspec.structs.replace(row, **values)


def spec(name: str, height: int = 100) -> CurrentSpec:
    return CurrentSpec(name, f'{{"name":"{name}"}}', f"hash-{name}", height)


def named(rows: Sequence[HashRow | PermanentRow | TemporaryRow]) -> list[str]:
    return [row.hash for row in rows]


async def contents(store: RegistryStore) -> dict[str, Any]:
    """All that a store holds, in the orders it promises."""
    return {
        "scanned": await store.scanned_height(),
        "blocks": list((await store.block_hashes()).items()),
        "chain_messages": list(await store.chain_messages()),
        "hashes": [row async for row in store.stream_hashes(page=3)],
        "hashes_by_height": list(await store.hashes()),
        "counted": await store.hash_counts(),
        "permanents": [row async for row in store.stream_permanents(page=3)],
        "by_height": [row async for row in store.stream_permanents(order="height", page=2)],
        "newest": [row async for row in store.stream_newest(page=2)],
        "temporaries": list(await store.temporaries()),
        "current": [row async for row in store.stream_current(page=2)],
        "counts": await store.counts(),
    }


# ---- the chain ---------------------------------------------------------------------------------------


async def test_an_empty_store(store: RegistryStore) -> None:
    assert await store.scanned_height() == 0
    assert await store.block_hashes() == {}
    assert set((await store.counts()).values()) == {0}
    counted = await store.hash_counts()
    assert (counted.total, counted.next_retry_height, counted.oldest_missing_height) == (0, None, None)
    assert await store.permanent("h") is None
    assert await store.newest_permanent("App") is None
    assert await store.current("App") is None
    assert await store.temporary("h") is None
    assert await store.hash_row("h") is None
    assert await store.get_meta("version") is None


async def test_scanned_height_and_meta(store: RegistryStore) -> None:
    await store.set_scanned_height(700_000)
    await store.set_scanned_height(690_000)
    assert await store.scanned_height() == 690_000
    await store.put_meta("version", "1")
    await store.put_meta("version", "2")
    assert await store.get_meta("version") == "2"


async def test_the_newest_block_hashes_stay(store: RegistryStore) -> None:
    await store.commit([PutBlockHash(height, f"b{height}") for height in range(1, 251)])
    kept = await store.block_hashes()
    assert list(kept) == list(range(251 - KEPT_BLOCK_HASHES, 251))
    await store.commit([PutBlockHash(250, "other")])
    assert (await store.block_hashes())[250] == "other"
    await store.commit([PutBlockHash(900, "far")])
    assert await store.block_hashes() == {900: "far"}


async def test_chain_messages_by_txid_and_height(store: RegistryStore) -> None:
    rows = [
        ChainMessageRow("t2", 20, "p_1_2", "p"),
        ChainMessageRow("t1", 10, "x_é", "x"),
        ChainMessageRow("t3", 10, "p_5", "p"),
    ]
    await store.commit([PutChainMessage(row) for row in rows])
    assert await store.chain_messages() == [rows[1], rows[2], rows[0]]
    assert await store.chain_messages("p") == [rows[2], rows[0]]
    moved = ChainMessageRow("t2", 5, "p_9", "p")
    await store.commit([PutChainMessage(moved)])
    assert await store.chain_messages("p") == [moved, rows[2]]


# ---- payments ----------------------------------------------------------------------------------------


async def test_of_payments_with_one_hash_the_first_stays(store: RegistryStore) -> None:
    first = payment("a", 10)
    assert await store.add_hashes([first, payment("b", 9), payment("a", 99)]) == ("a",)
    assert await store.add_hashes([payment("b", 1), payment("c", 5)]) == ("b",)
    assert await store.hash_row("a") == first
    assert named(await store.hashes()) == ["c", "b", "a"]
    assert named([row async for row in store.stream_hashes(page=2)]) == ["a", "b", "c"]


@pytest.mark.parametrize("absent", [True, False])
async def test_every_field_of_a_payment_survives(store: RegistryStore, absent: bool) -> None:
    bare = HashRow("t", 1, "h", 2**53, message=absent)
    full = HashRow("t", 1, "h", 0, True, absent, 3, 4, 5)
    await store.add_hashes([bare])
    assert await store.hash_row("h") == bare
    await store.update_hashes([full, payment("unknown")])
    assert await store.hash_row("h") == full
    assert await store.known_hashes(["h", "unknown"]) == {"h"}


async def test_resolving_leaves_the_ladder_alone(store: RegistryStore) -> None:
    row = payment("a", message_not_found=True, sync_attempts=4, next_retry_height=9)
    await store.add_hashes([row, payment("b")])
    await store.resolve_hashes(["a", "unknown"])
    resolved = msgspec.structs.replace(row, message=True, message_not_found=False)
    assert await store.hash_rows(["a", "b", "c"]) == {"a": resolved, "b": payment("b")}


async def test_which_payments_miss_their_message_and_which_are_due(store: RegistryStore) -> None:
    await store.add_hashes(
        [
            payment("later", 30, next_retry_height=501),
            payment("now", 20, next_retry_height=500),
            payment("bare", 25, next_retry_height=None),
            payment("given-up", 5, message_not_found=True),
            payment("here", 1, message=True),
            payment("back", 2, message_not_found=False, next_retry_height=7),
        ]
    )
    assert named(await store.hashes(missing=True)) == ["back", "given-up", "now", "bare", "later"]
    assert named(await store.hashes(missing=False)) == ["here"]
    assert named(await store.hashes(due_at=500)) == ["back", "now", "bare"]
    counted = await store.hash_counts()
    assert (counted.total, counted.missing, counted.unreachable) == (6, 5, 1)
    assert (counted.next_retry_height, counted.oldest_missing_height) == (0, 2)
    await store.resolve_hashes(["bare", "back"])
    assert (await store.hash_counts()).next_retry_height == 500


async def test_many_hashes_in_one_question(store: RegistryStore) -> None:
    # SecantusDB is slow; the MongoDB of the tests asks in smaller chunks instead.
    many = 500 if isinstance(store, MongoRegistryStore) else 5000
    most = many * 4 // 5
    hashes = [f"{number:064x}" for number in range(many)]
    await store.add_hashes(payment(hash_) for hash_ in hashes)
    await store.add_permanents(message(hash_) for hash_ in hashes[::2])
    asked = [*hashes[:most], *hashes[:10], *(f"no{number}" for number in range(many // 2))]
    assert await store.known_hashes(asked) == set(hashes[:most])
    assert await store.known_permanents(asked) == set(hashes[:most:2])
    assert len(await store.hash_rows(asked)) == most
    await store.resolve_hashes(hashes)
    assert (await store.hash_counts()).missing == 0


# ---- messages ----------------------------------------------------------------------------------------


async def test_a_message_comes_back_as_it_was_put(store: RegistryStore) -> None:
    row = message(
        "h",
        "Äpp\ud800",
        type="zelappupdate",
        version=1.5,
        timestamp_ms=1e21,
        owner="0xAb\x00",
        signature="\udfff",
        spec_text='{"name":"Äpp\\ud800","owner":"0xAb\\u0000","é😀":"\\ud800\\u0000","\\u0000":1e-7}',
        value_sat=2**53,
    )
    plain = message("i", "Äpp", version=2, spec_text='{"name":"Äpp","$set":1e+21}')
    await store.add_permanents([row, plain])
    assert await store.permanent("h") == row
    assert await store.permanents_of("Äpp\ud800") == [row]
    assert await store.permanents_of("Äpp") == [plain]
    assert await store.permanents_of("äpp") == []
    assert type((await store.permanents_of("Äpp"))[0].version) is int
    assert [found async for found in store.stream_permanents(name="Äpp\ud800")] == [row]


async def test_messages_stored_already_are_left_out_and_reported(store: RegistryStore) -> None:
    assert await store.add_permanents([message("a"), message("b"), message("a", "Other")]) == ("a",)
    assert await store.add_permanents([message("b", "Other"), message("c")]) == ("b",)
    assert named([row async for row in store.stream_permanents()]) == ["a", "b", "c"]
    assert await store.permanents_of("Other") == []
    assert await store.permanent_counts() == 3


async def test_messages_of_a_name_in_both_orders(store: RegistryStore) -> None:
    rows = [
        message("a", height=30),
        message("b", height=10),
        message("c", height=20),
        message("d", height=10),
    ]
    await store.add_permanents([*rows, message("z", "Other", height=1)])
    assert named(await store.permanents_of("App", order="stored")) == ["a", "b", "c", "d"]
    assert named(await store.permanents_of("App")) == ["b", "d", "c", "a"]
    found = await store.permanents_of_names(["App", "Nobody", "Other"])
    assert {name: named(rows) for name, rows in found.items()} == {
        "App": ["b", "d", "c", "a"],
        "Other": ["z"],
    }


async def test_the_newest_message_never_depends_on_arrival(store: RegistryStore) -> None:
    await store.add_permanents(
        [
            message("early", height=10, timestamp_ms=9),
            message("late", height=20, timestamp_ms=5),
            message("b", height=20, timestamp_ms=6.5),
            message("a", height=20, timestamp_ms=6.5),
            message("only", "Zed", height=1),
            message("first", "Ant", height=1),
        ]
    )
    newest = await store.newest_permanent("App")
    assert newest is not None
    assert newest.hash == "b"
    for page in (1, 2, 500):
        assert named([row async for row in store.stream_newest(page=page)]) == ["first", "b", "only"]


@pytest.mark.parametrize("page", [1, 2, 3, 500])
async def test_streams_of_messages_with_filters(store: RegistryStore, page: int) -> None:
    await store.add_permanents(
        [
            message("a", "One", 30, owner="x"),
            message("b", "Two", 20, owner="y"),
            message("c", "One", 10, owner="y"),
            message("d", "Two", 20, owner="x"),
            message("e", "Two", 40, owner="x"),
        ]
    )

    async def found(**filters: Any) -> str:
        return "".join(named([row async for row in store.stream_permanents(page=page, **filters)]))

    assert await found() == "abcde"
    assert await found(order="height") == "cbdae"
    assert await found(owner="x") == "ade"
    assert await found(owner="x", order="height") == "dae"
    assert await found(name="Two") == "bde"
    assert await found(name="Two", owner="x", order="height") == "de"
    assert await found(hash="c") == "c"
    assert await found(hash="c", owner="x") == ""
    assert await found(from_height=20) == "abde"
    assert await found(from_height=20, order="height") == "bdae"
    assert await found(name="Nobody") == ""
    assert await store.permanent_counts(owner="x") == 3


async def test_streaming_while_writing_gives_each_row_once(store: RegistryStore) -> None:
    await store.add_permanents(message(f"{number:03}", height=number) for number in range(50))
    seen: list[str] = []
    async for row in store.stream_permanents(page=7, order="height"):
        seen.append(row.hash)
        if len(seen) % 5 == 0:
            await store.add_permanents([message(f"new{len(seen)}", height=10 * len(seen))])
        if len(seen) > 500:
            pytest.fail("the stream runs away from its writer")
    assert len(seen) == len(set(seen))
    assert {f"{number:03}" for number in range(50)} <= set(seen)


# ---- unpaid messages ---------------------------------------------------------------------------------


async def test_unpaid_messages_come_and_go(store: RegistryStore) -> None:
    rows = [unpaid("late", 50), unpaid("early", 5, arcane_sender=True), unpaid("x", 50, arcane_sender=False)]
    await store.commit([PutTemporary(row) for row in rows])
    assert await store.temporaries() == [rows[1], rows[0], rows[2]]
    assert await store.temporary("early") == rows[1]
    again = unpaid("late", 50, spec_text='{"a":"\\ud800"}')
    await store.put_temporary(again)
    assert await store.temporaries() == [rows[1], rows[2], again]
    await store.expire_temporaries(FAR_MS + 5 + 3_600_000)
    assert named(await store.temporaries()) == ["x", "late"]
    await store.delete_temporaries(["x", "unknown"])
    assert named(await store.temporaries()) == ["late"]


# ---- current specifications --------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 2, 500])
async def test_current_specifications_are_replaced_whole(store: RegistryStore, page: int) -> None:
    await store.commit([PutCurrent(spec(name)) for name in ("b", "a", "B")])
    newer = CurrentSpec("a", '{"v":2,"name":"a"}', "h2", 200)
    await store.put_current(newer)
    assert await store.current("a") == newer
    assert await store.current("A") is None
    assert [row.name async for row in store.stream_current(page=page)] == ["B", "a", "b"]
    await store.delete_current("a")
    await store.delete_current("unknown")
    assert [row.name async for row in store.stream_current(page=page)] == ["B", "b"]
    await store.commit([ClearCurrent(), PutCurrent(newer)])
    assert [row async for row in store.stream_current(page=page)] == [newer]


# ---- commits -----------------------------------------------------------------------------------------


async def test_rewinding_forgets_what_came_later(store: RegistryStore) -> None:
    def rows(height: int) -> list[RegistryChange]:
        return [
            AddHashes((payment(f"h{height}", height),)),
            AddPermanents((message(f"m{height}", f"App{height}", height),)),
            PutCurrent(spec(f"App{height}", height)),
            PutChainMessage(ChainMessageRow(f"t{height}", height, "p_1", "p")),
            PutBlockHash(height, f"b{height}"),
            SetScannedHeight(height),
        ]

    await store.commit([change for height in (10, 11, 12) for change in rows(height)])
    await store.rewind(11)
    assert await store.scanned_height() == 11
    assert list(await store.block_hashes()) == [10, 11]
    assert named(await store.hashes()) == ["h10", "h11"]
    assert [row.height for row in await store.chain_messages()] == [10, 11]
    assert (await store.counts())["permanents"] == 3
    assert (await store.counts())["current"] == 3
    await store.rewind(10, apps=True)
    assert [row.name async for row in store.stream_permanents()] == ["App10"]
    assert await store.permanents_of("App11") == []
    assert [row.name async for row in store.stream_current()] == ["App10"]
    await store.rewind(500)
    assert await store.scanned_height() == 10
    assert await store.add_permanents([message("m12", "App12", 12)]) == ()


async def test_changes_of_one_commit_act_in_order(store: RegistryStore) -> None:
    report = await store.commit(
        [
            AddHashes((payment("a"),)),
            ResolveHashes(("a",)),
            AddHashes((payment("a"), payment("b"))),
            AddPermanents((message("a"),)),
            DeleteCurrent("App"),
            PutCurrent(spec("App")),
            AddPermanents((message("a"), message("b"))),
            PutTemporary(unpaid("t")),
            DeleteTemporaries(("t",)),
            PutMeta("k", "1"),
            SetScannedHeight(7),
        ]
    )
    assert report.duplicate_hashes == ("a",)
    assert report.duplicate_permanents == ("a",)
    found = await store.hash_row("a")
    assert found is not None
    assert found.message
    assert await store.counts() == {
        "hashes": 2,
        "permanents": 2,
        "temporaries": 0,
        "current": 1,
        "chain_messages": 0,
    }


async def test_readers_see_a_commit_whole_or_not_at_all(store: RegistryStore) -> None:
    async def write(part: int) -> None:
        for number in range(20):
            hash_ = f"{part}-{number}"
            await store.commit([AddHashes((payment(hash_),)), AddPermanents((message(hash_),))])

    async def read() -> None:
        for _ in range(20):
            counts = await store.counts()
            assert counts["hashes"] == counts["permanents"]

    async with trio.open_nursery() as nursery:
        for part in range(4):
            nursery.start_soon(write, part)
        nursery.start_soon(read)
    assert (await store.counts())["hashes"] == 80


async def test_a_closed_store_says_so(store: RegistryStore) -> None:
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreError):
        await store.add_hashes([payment("a")])
    with pytest.raises(StoreError):
        await store.scanned_height()


async def test_immediate_stores_commit_now_and_others_refuse(store: RegistryStore) -> None:
    if store.immediate:
        assert store.commit_now([AddHashes((payment("a"), payment("a")))]).duplicate_hashes == ("a",)
    else:
        with pytest.raises(StoreError, match="waiting"):
            store.commit_now([])


# ---- SQLite only -------------------------------------------------------------------------------------


async def test_a_change_that_cannot_be_written_undoes_its_commit(tmp_path: Path) -> None:
    async with open_sqlite_registry(tmp_path / "registry.sqlite") as store:
        bad = payment("b", value_sat=2**70)
        with pytest.raises(OverflowError):
            await store.commit([AddHashes((payment("a"),)), SetScannedHeight(5), AddHashes((bad,))])
        assert await store.scanned_height() == 0
        assert await store.hashes() == []
        await store.add_hashes([payment("a")])
        assert named(await store.hashes()) == ["a"]


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    store = SqliteRegistryStore(tmp_path / "registry.sqlite")
    with pytest.raises(StoreError, match="not open"):
        await store.counts()


async def test_sqlite_gives_back_after_reopening_what_it_had(tmp_path: Path) -> None:
    twin = MemoryRegistryStore()
    changes: list[RegistryChange] = [
        AddHashes((payment("b", 9), payment("a", 9))),
        AddPermanents((message("b"), message("a", "Other"))),
        PutTemporary(unpaid("t", arcane_sender=True)),
        PutCurrent(spec("App")),
        PutChainMessage(ChainMessageRow("t", 1, "p_1", "p")),
        PutBlockHash(9, "b9"),
        SetScannedHeight(9),
    ]
    await twin.commit(changes)
    async with open_sqlite_registry(tmp_path / "registry.sqlite") as store:
        await store.commit(changes)
        before = await contents(store)
    async with open_sqlite_registry(tmp_path / "registry.sqlite") as store:
        assert await contents(store) == before == await contents(twin)


# ---- all do the same ---------------------------------------------------------------------------------

_HASHES = st.sampled_from("abcdefgh")
_HEIGHTS = st.integers(0, 12)
_NAMES = st.sampled_from(["App", "app", "Äpp", "Other"])
_PAYMENTS = st.builds(
    payment,
    _HASHES,
    _HEIGHTS,
    message=st.booleans(),
    message_not_found=st.sampled_from([None, True, False]),
    next_retry_height=st.one_of(st.none(), _HEIGHTS),
)
_MESSAGES = st.builds(message, _HASHES, _NAMES, _HEIGHTS, timestamp_ms=st.sampled_from([1, 1.5, 2]))
_CHANGES = st.one_of(
    st.builds(SetScannedHeight, _HEIGHTS),
    st.builds(AddHashes, st.lists(_PAYMENTS, max_size=5).map(tuple)),
    st.builds(UpdateHashes, st.lists(_PAYMENTS, max_size=3).map(tuple)),
    st.builds(ResolveHashes, st.lists(_HASHES, max_size=3).map(tuple)),
    st.builds(AddPermanents, st.lists(_MESSAGES, max_size=5).map(tuple)),
    st.builds(PutTemporary, st.builds(unpaid, _HASHES, _HEIGHTS)),
    st.builds(DeleteTemporaries, st.lists(_HASHES, max_size=3).map(tuple)),
    st.builds(ExpireTemporaries, _HEIGHTS.map(lambda height: FAR_MS + height + 3_600_000)),
    st.builds(PutCurrent, st.builds(spec, _NAMES, _HEIGHTS)),
    st.builds(DeleteCurrent, _NAMES),
    st.just(ClearCurrent()),
    st.builds(PutChainMessage, st.builds(ChainMessageRow, _HASHES, _HEIGHTS, st.just("p_1"), _NAMES)),
    st.builds(PutBlockHash, st.integers(0, 250), _HASHES),
    st.builds(Rewind, _HEIGHTS, st.booleans()),
)


@given(commits=st.lists(st.lists(_CHANGES, max_size=6), max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_changes_leave_sqlite_and_memory_alike(
    tmp_path_factory: pytest.TempPathFactory, commits: list[list[RegistryChange]]
) -> None:
    twin = MemoryRegistryStore()
    async with open_sqlite_registry(tmp_path_factory.mktemp("any") / "registry.sqlite") as store:
        for changes in commits:
            assert await store.commit(changes) == await twin.commit(changes)
        assert await contents(store) == await contents(twin)


@given(commits=st.lists(st.lists(_CHANGES, max_size=12), min_size=2, max_size=4))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_changes_leave_mongo_and_memory_alike(
    mongo: Databases, commits: list[list[RegistryChange]]
) -> None:
    twin = MemoryRegistryStore()
    async with mongo_registry(mongo) as store:
        for changes in commits:
            assert await store.commit(changes) == await twin.commit(changes)
        assert await contents(store) == await contents(twin)
    mongo.drop()


async def test_mongo_gives_back_after_reopening_what_it_had(mongo: Databases) -> None:
    twin = MemoryRegistryStore()
    changes: list[RegistryChange] = [
        AddHashes((payment("b", 9), payment("a", 9))),
        AddPermanents((message("b"), message("a", "Other"))),
        PutTemporary(unpaid("t", arcane_sender=True)),
        PutCurrent(spec("App")),
        PutChainMessage(ChainMessageRow("t", 1, "p_1", "p")),
        PutBlockHash(9, "b9"),
        SetScannedHeight(9),
        PutMeta("k", "v"),
        PutMeta("hashSyncVersion", "1.0"),
    ]
    await twin.commit(changes)
    async with mongo_registry(mongo) as store:
        await store.commit(changes)
        before = await contents(store)
    async with mongo_registry(mongo) as store:
        assert await contents(store) == before == await contents(twin)
        assert await store.get_meta("k") == "v"
        assert await store.get_meta("hashSyncVersion") == "1.0"
        await store.add_hashes([payment("0", 9)])
        assert named([row async for row in store.stream_hashes()]) == ["b", "a", "0"]
