"""One suite for every Store: every implementation must pass it (trionode/store/port.py).

MongoDB takes part twice: with transactions, and as a lone server with the roll-forward journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from mongoserver import Databases

from trionode.appstate.changes import (
    Change,
    DeleteCopy,
    DeleteEvent,
    DeleteInstallError,
    DeleteInstalling,
    DeleteLocation,
    PutCopy,
    PutEvent,
    PutInstallError,
    PutInstalling,
    PutLocation,
    TouchEvent,
)
from trionode.appstate.documents import (
    EventRow,
    InstallErrorRow,
    InstallingRow,
    LocationRow,
    Row,
    Signed,
    SignedCopy,
)
from trionode.appstate.facts import fact_of
from trionode.config.tree import StoreSettings
from trionode.errors import StoreError
from trionode.store.memory import MemoryStore
from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.events import MongoStore
from trionode.store.port import Store
from trionode.store.sqlite import open_sqlite

FAR_MS = 4_100_000_000_000
"""Expiries lie far ahead: what has expired a MongoDB deletes by itself, once a minute."""
SIGNED = Signed(1, 1_760_000_000_000, "04aa", "c2ln")


KINDS = ["memory", "sqlite", "mongo", "mongo-journal"]


@asynccontextmanager
async def _opened(kind: str, folder: Path, databases: Databases | None = None) -> AsyncIterator[Store]:
    if kind == "memory":
        yield MemoryStore()
    elif kind == "sqlite":
        async with open_sqlite(folder / "log.sqlite") as store:
            yield store
    else:
        assert databases is not None
        settings = StoreSettings(url=databases.url, mongo_prefix=databases.prefix, mongo_call_s=300.0)
        async with open_mongo(settings) as server:
            server.has_transactions = server.has_transactions and kind == "mongo"
            mongo_store = MongoStore(server)
            await mongo_store.open()
            yield mongo_store


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    kind: str = request.param
    databases = request.getfixturevalue("mongo") if kind.startswith("mongo") else None
    async with _opened(kind, tmp_path, databases) as opened:
        yield opened


def event(
    ip: str = "1.2.3.4", at_ms: int = 1000, received_at_ms: int | None = 1, **values: object
) -> EventRow:
    row = EventRow(
        ip,
        "apprunning",
        "v2",
        FAR_MS + at_ms,
        broadcasted_at_ms=at_ms,
        received_at_ms=received_at_ms,
        data_text='{"apps":[{"name":"AppA","hash":"h"}]}',
        signed=SIGNED,
    )
    return msgspec.structs.replace(row, **values)


def evicted(ip: str, at_ms: int) -> EventRow:
    return EventRow(ip, "evicted", "evicted", FAR_MS + at_ms, created_at_ms=at_ms, received_at_ms=at_ms)


def put(row: EventRow) -> PutEvent:
    return PutEvent(row, fact_of(row))


def location(row_id: int, name: str = "AppA", **values: object) -> LocationRow:
    row = LocationRow(row_id, name, "h", "1.2.3.4", 1, FAR_MS, None, 12.5, True)
    return msgspec.structs.replace(row, **values)


def copy(name: str, at_ms: int = 5, kind: str = "installing") -> SignedCopy:
    data_text = f'{{"name":"{name}","ip":"1.2.3.4","hash":"","a":"\\ud800","n":1e-7}}'
    return SignedCopy(kind, "1.2.3.4", name, "", at_ms, FAR_MS + at_ms, None, data_text, SIGNED)


async def rows_of(store: Store) -> list[Row]:
    return sorted([row async for row in store.load()], key=repr)


@pytest.mark.trio
async def test_an_event_comes_back_as_it_was_put(store: Store) -> None:
    row = event(data_text='{"a":"\\ud800é\\u0000","n":1e-7}')
    await store.commit([put(row)])
    assert await store.event(*row.key) == row
    assert await store.event("9.9.9.9", "apprunning", "v2") is None


@pytest.mark.trio
@pytest.mark.parametrize("value", [None, 0, 12.5, -1, 2**53, True, False, "x\ud800", [1, {"a": None}], {}])
async def test_any_payload_value_survives(store: Store, value: object) -> None:
    row = location(1, os_uptime=value, static_ip=value)
    signed = Signed(value, value, "pk", "s")
    await store.commit([PutLocation(row), put(event(signed=signed))])
    loaded = await rows_of(store)
    assert row in loaded
    assert [type(found.os_uptime) for found in loaded if isinstance(found, LocationRow)] == [type(value)]
    assert [found.signed for found in loaded if isinstance(found, EventRow)] == [signed]


@pytest.mark.trio
async def test_an_older_event_never_replaces_a_newer_one(store: Store) -> None:
    await store.commit([put(event(at_ms=1000))])
    await store.commit([put(event(at_ms=999, data_text="{}"))])
    found = await store.event("1.2.3.4", "apprunning", "v2")
    assert found is not None
    assert found.broadcasted_at_ms == 1000
    assert found.data_text != "{}"
    await store.commit([put(event(at_ms=1000, data_text="{}"))])
    found = await store.event("1.2.3.4", "apprunning", "v2")
    assert found is not None
    assert found.data_text != "{}", "of two of one moment the first stays"
    await store.commit([put(event(at_ms=1001))])
    found = await store.event("1.2.3.4", "apprunning", "v2")
    assert found is not None
    assert found.broadcasted_at_ms == 1001


@pytest.mark.trio
async def test_an_eviction_is_unconditional(store: Store) -> None:
    await store.commit([put(evicted("1.2.3.4", 2000))])
    await store.commit([put(evicted("1.2.3.4", 1000))])
    assert await store.event("1.2.3.4", "evicted", "evicted") == evicted("1.2.3.4", 1000)


@pytest.mark.trio
async def test_received_at_is_kept_touched_and_replaced(store: Store) -> None:
    async def received() -> int | None:
        found = await store.event("1.2.3.4", "apprunning", "v2")
        assert found is not None
        return found.received_at_ms

    key = event().key
    await store.commit([put(event(at_ms=1, received_at_ms=None))])
    assert await received() is None
    await store.commit([TouchEvent(key, 7)])
    assert await received() == 7
    await store.commit([put(event(at_ms=2, received_at_ms=None))])
    assert await received() == 7
    await store.commit([put(event(at_ms=3, received_at_ms=8)), TouchEvent(key, 9)])
    assert await received() == 9
    await store.commit([TouchEvent(key, 10), put(event(at_ms=4, received_at_ms=None))])
    assert await received() == 10
    await store.commit([TouchEvent(("9.9.9.9", "apprunning", "v2"), 1)])
    assert (await store.counts())["events"] == 1


@pytest.mark.trio
async def test_of_many_changes_in_one_commit_the_last_counts(store: Store) -> None:
    key = event().key
    await store.commit([put(event(at_ms=9))])
    await store.commit([DeleteEvent(key), put(event(at_ms=3)), PutLocation(location(1))])
    found = await store.event(*key)
    assert found is not None
    assert found.broadcasted_at_ms == 3
    moved = location(1, ip="5.6.7.8")
    await store.commit([DeleteLocation(1, "AppA", "1.2.3.4"), PutLocation(moved)])
    assert moved in await rows_of(store)
    await store.commit([PutLocation(location(1)), DeleteLocation(1, "AppA", "1.2.3.4"), DeleteEvent(key)])
    assert await rows_of(store) == []


@pytest.mark.trio
async def test_two_location_rows_may_share_name_and_ip(store: Store) -> None:
    await store.commit([PutLocation(location(1)), PutLocation(location(2))])
    assert (await store.counts())["locations"] == 2


@pytest.mark.trio
async def test_every_kind_is_put_replaced_and_deleted(store: Store) -> None:
    installing = InstallingRow("AppA", "1.2.3.4", 1, FAR_MS)
    error = InstallErrorRow("AppA", "h", "1.2.3.4", "boom é", 1, FAR_MS)
    await store.commit([PutInstalling(installing), PutInstallError(error), PutCopy(copy("AppA"))])
    newer = msgspec.structs.replace(installing, broadcasted_at_ms=5)
    later = msgspec.structs.replace(error, error="bang")
    older_copy = copy("AppA", at_ms=1)
    await store.commit([PutInstalling(newer), PutInstallError(later), PutCopy(older_copy)])
    assert await rows_of(store) == sorted([newer, later, older_copy], key=repr)
    assert await store.signed_copy(older_copy.key) == older_copy
    assert await store.counts() == {
        "events": 0,
        "locations": 0,
        "installing": 1,
        "install_errors": 1,
        "signed_copies": 1,
    }
    await store.commit(
        [
            DeleteInstalling("1.2.3.4", "AppA"),
            DeleteInstallError("1.2.3.4", "AppA", "h"),
            DeleteCopy(older_copy.key),
        ]
    )
    assert await rows_of(store) == []


@pytest.mark.trio
async def test_events_of_an_address_and_of_an_app(store: Store) -> None:
    removal = EventRow(
        "1.1.1.1",
        "appremoved",
        "appremoved:Gone",
        FAR_MS,
        broadcasted_at_ms=3,
        data_text='{"appName":"Gone"}',
        signed=SIGNED,
    )
    rows = [
        event("1.1.1.1"),
        evicted("1.1.1.1", 4),
        event("2.2.2.2", data_text='{"apps":[{"name":"AppAB","hash":"AppA"}],"note":"AppA"}'),
        event("3.3.3.3", data_text='{"name":"Äpp\\"x"}', dedup_key='v1:Äpp"x'),
        removal,
    ]
    await store.commit([put(row) for row in rows])

    async def found(ip: str | None = None, name: str | None = None) -> set[tuple[str, str]]:
        return {(row.ip, row.type) for row in await store.events_for(ip=ip, name=name)}

    first = {("1.1.1.1", "apprunning"), ("1.1.1.1", "evicted"), ("1.1.1.1", "appremoved")}
    assert await found(ip="1.1.1.1") == first
    assert await found(name="appa") == first
    assert await found(name="gone") == first
    assert await found(name='äpp"X') == {("3.3.3.3", "apprunning")}
    assert await found(name="app") == set()
    assert await found(ip="2.2.2.2", name="AppA") == set()
    assert len(await found()) == 5


@pytest.mark.trio
@pytest.mark.parametrize("page", [1, 2, 500])
async def test_streams_are_in_the_order_of_sync(store: Store, page: int) -> None:
    rows = [event("3.3.3.3", 30), event("1.1.1.1", 10), event("2.2.2.2", 30), event("4.4.4.4", 40)]
    rows += [evicted("5.5.5.5", 99), evicted("6.6.6.6", 10)]
    await store.commit([put(row) for row in rows])
    await store.commit([PutCopy(copy("b", 7)), PutCopy(copy("a", 9)), PutCopy(copy("c", 9, "error"))])
    streamed = [row async for row in store.stream_events(10, page=page)]
    assert streamed[0].ip == "5.5.5.5"
    assert [row.broadcasted_at_ms for row in streamed[1:]] == [30, 30, 40]
    assert {row.ip for row in streamed[1:3]} == {"2.2.2.2", "3.3.3.3"}
    copies = [found.name async for found in store.stream_copies("installing", 6, page=page)]
    assert copies == ["b", "a"]
    assert [found.name async for found in store.stream_copies("error", 0, page=page)] == ["c"]


@pytest.mark.trio
async def test_iterating_while_writing_misses_nothing_that_stays(store: Store) -> None:
    await store.commit([put(event(f"1.1.1.{number}", 100 + number)) for number in range(50)])
    seen: list[str] = []
    async for row in store.stream_events(0, page=7):
        seen.append(row.ip)
        if len(seen) % 5 == 0:
            number = len(seen)
            changes: list[Change] = [put(event(f"2.2.2.{number}", 10_000 + number))]
            changes.append(put(event("1.1.1.0", 5000 + number)))
            await store.commit(changes)
        if len(seen) > 500:
            pytest.fail("the stream runs away from its writer")
    assert {f"1.1.1.{number}" for number in range(1, 50)} <= set(seen)
    assert "1.1.1.0" in seen


@pytest.mark.trio
async def test_readers_and_writers_at_once(store: Store) -> None:
    async def write(part: int) -> None:
        for number in range(20):
            await store.commit(
                [put(event(f"10.{part}.0.{number}")), PutLocation(location(part * 100 + number))]
            )

    async def read() -> None:
        for _ in range(10):
            counts = await store.counts()
            assert counts["events"] == counts["locations"]

    async with trio.open_nursery() as nursery:
        for part in range(4):
            nursery.start_soon(write, part)
        nursery.start_soon(read)
    assert (await store.counts())["events"] == 80


@pytest.mark.trio
async def test_meta(store: Store) -> None:
    assert await store.get_meta("heartbeat") is None
    await store.put_meta("heartbeat", "1")
    await store.put_meta("heartbeat", "2")
    assert await store.get_meta("heartbeat") == "2"


@pytest.mark.trio
async def test_a_closed_store_says_so(store: Store) -> None:
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreError):
        await store.commit([put(event())])


@pytest.mark.trio
async def test_sqlite_gives_back_after_reopening_what_it_had(tmp_path: Path) -> None:
    changes: Sequence[Change] = [
        put(event()),
        put(evicted("1.2.3.4", 5)),
        PutLocation(location(3, running_since_ms=7)),
        PutInstalling(InstallingRow("AppA", "1.2.3.4", 1, FAR_MS)),
        PutInstallError(InstallErrorRow("AppA", "h", "1.2.3.4", "boom", 1, FAR_MS)),
        PutCopy(copy("AppA")),
    ]
    twin = MemoryStore()
    await twin.commit(changes)
    async with open_sqlite(tmp_path / "log.sqlite") as store:
        await store.commit(changes)
        before = await rows_of(store)
    async with open_sqlite(tmp_path / "log.sqlite") as store:
        assert await rows_of(store) == before == await rows_of(twin)
