"""The event log in the shapes every node of the network knows (docs/spec/events.md §2, §3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from mongorows import AT_MS, location, put, quick, running, signed_copy
from mongoserver import Databases
from pymongo.database import Database

from trionode.appstate.changes import (
    DeleteLocation,
    PutCopy,
    PutInstallError,
    PutInstalling,
    PutLocation,
    TouchEvent,
)
from trionode.appstate.documents import EventRow, InstallErrorRow, InstallingRow, LocationRow
from trionode.appstate.state import AppState
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings
from trionode.store.mongo.checkup import check_mongo
from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.events import MongoStore
from trionode.store.mongo.registry import MongoRegistryStore
from trionode.store.mongo.values import date

OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)


def opened(mongo: Databases) -> Any:
    return open_mongo(quick(mongo.url, mongo.prefix, mongo_retry_s=60.0))


def raw(client: Any, mongo: Databases, name: str = "globalzelapps") -> Database[dict[str, Any]]:
    return client.get_database(mongo.prefix + name, codec_options=OPTIONS)


@pytest.mark.trio
async def test_our_documents_have_the_shapes_of_the_network(mongo: Databases) -> None:
    row = running()
    removed = EventRow(
        "1.2.3.4",
        "ipchanged",
        "ipchanged",
        AT_MS + 9,
        broadcasted_at_ms=AT_MS,
        data_text='{"oldIP":"1.2.3.4","newIP":"$set"}',
    )
    evicted = EventRow("9.9.9.9", "evicted", "evicted", AT_MS + 9, created_at_ms=AT_MS, received_at_ms=AT_MS)
    async with opened(mongo) as server:
        store = MongoStore(server)
        await store.open()
        await store.commit([put(row), put(removed), put(evicted), PutLocation(location(3))])
        await store.commit([PutCopy(signed_copy("AppA"))])
        await store.put_meta("heartbeat", f'{{"lastAlive":{AT_MS},"machineBootId":"b"}}')
        assert await store.get_meta("heartbeat") == f'{{"lastAlive":{AT_MS},"machineBootId":"b"}}'
    with mongo.server.client() as client:
        database = raw(client, mongo)
        found = database["appstateevents"].find_one({"type": "apprunning"}, {"_id": 0})
        assert found is not None
        assert set(found) == {
            "ip", "type", "dedupKey", "broadcastedAt", "expireAt", "receivedAt", "data", "envelope"
        }  # fmt: skip
        assert found["broadcastedAt"] == date(AT_MS)
        assert found["expireAt"] == date(AT_MS + 7_500_000)
        assert list(found["data"]) == [
            "type", "version", "apps", "ip", "broadcastedAt", "osUptime", "staticIp"
        ]  # fmt: skip
        assert type(found["data"]["version"]) is int
        assert type(found["data"]["broadcastedAt"]) is float
        assert found["envelope"] == {"version": 1, "timestamp": AT_MS, "pubKey": "04aa", "signature": "c2ln"}
        moved = database["appstateevents"].find_one({"type": "ipchanged"}, {"_id": 0})
        assert moved is not None
        assert moved["envelope"] is None
        assert moved["data"]["newIP"] == "$set"
        gone = database["appstateevents"].find_one({"type": "evicted"}, {"_id": 0})
        assert gone is not None
        assert set(gone) == {"ip", "type", "dedupKey", "createdAt", "expireAt", "receivedAt"}
        place = database["zelappslocation"].find_one({}, {"_id": 0})
        assert place is not None
        assert list(place) == [
            "name", "hash", "ip", "broadcastedAt", "expireAt", "runningSince", "osUptime", "staticIp"
        ]  # fmt: skip
        copied = database["fluxappinstallingbroadcasts"].find_one({}, {"_id": 0})
        assert copied is not None
        assert list(copied) == [
            "version", "timestamp", "pubKey", "signature", "data", "broadcastedAt", "expireAt", "receivedAt"
        ]  # fmt: skip
        tracker = raw(client, mongo, "zelfluxlocal")["nodestartuptracker"].find_one()
        assert tracker == {"_id": "heartbeat", "lastAlive": AT_MS, "machineBootId": "b"}


@pytest.mark.trio
async def test_documents_of_another_node_are_taken_over(mongo: Databases) -> None:
    row = running()
    data = {
        "type": "fluxapprunning",
        "version": 2,
        "apps": [{"name": "AppA", "hash": "h" * 64, "runningSince": "2025-10-09T08:53:20.000Z"}],
        "ip": "1.2.3.4",
        "broadcastedAt": float(AT_MS),
        "osUptime": 12345.67,
        "staticIp": True,
    }
    envelope = {"version": 1, "timestamp": float(AT_MS), "pubKey": "04aa", "signature": "c2ln"}
    place = {
        "name": "AppA",
        "hash": "h",
        "ip": "1.2.3.4",
        "broadcastedAt": date(AT_MS),
        "expireAt": date(AT_MS + 7_500_000),
        "runningSince": date(AT_MS - 1000),
        "osUptime": 12.5,
        "staticIp": True,
    }
    first, second = ObjectId(), ObjectId()
    with mongo.server.client() as client:
        database = raw(client, mongo)
        database["appstateevents"].insert_one(
            {
                "ip": "1.2.3.4",
                "type": "apprunning",
                "dedupKey": "v2",
                "broadcastedAt": date(AT_MS),
                "expireAt": date(AT_MS + 7_500_000),
                "data": data,
                "envelope": envelope,
                "receivedAt": date(AT_MS + 5),
            }
        )
        database["appstateevents"].insert_one({"ip": 5, "rubbish": True})
        database["zelappslocation"].insert_many(
            [{"_id": first, **place}, {"_id": second, **place, "name": "AppB"}, {**place, "name": None}]
        )
        raw(client, mongo, "zelfluxlocal")["nodestartuptracker"].insert_one(
            {"_id": "heartbeat", "lastAlive": float(AT_MS), "machineBootId": "b", "shutdownReason": "sigterm"}
        )
        async with opened(mongo) as server:
            store = MongoStore(server)
            await store.open()
            loaded = [found async for found in store.load()]
            assert [found for found in loaded if isinstance(found, EventRow)] == [row]
            rows = [found for found in loaded if isinstance(found, LocationRow)]
            assert [msgspec.structs.replace(found, row_id=0) for found in rows] == [
                location(0), location(0, name="AppB")
            ]  # fmt: skip
            assert server.counters["store.mongo.unreadable_documents"] == 2
            heartbeat = f'{{"lastAlive":{AT_MS},"machineBootId":"b","shutdownReason":"sigterm"}}'
            assert await store.get_meta("heartbeat") == heartbeat
            # Its rows keep their places; ours get numbers of their own.
            state = AppState.from_rows(Windows.from_settings(AppStateSettings()), loaded, 0)
            moved = msgspec.structs.replace(rows[0], expire_at_ms=AT_MS + 1)
            added = location(state.next_row_id(), name="AppC")
            await store.commit(
                [PutLocation(moved), DeleteLocation(rows[1].row_id, "AppB", "1.2.3.4"), PutLocation(added)]
            )
            again = [found async for found in store.load() if isinstance(found, LocationRow)]
            assert {(found.row_id, found.name) for found in again} == {
                (moved.row_id, "AppA"), (added.row_id, "AppC")
            }  # fmt: skip
        assert database["zelappslocation"].find_one({"_id": first})["expireAt"] == date(AT_MS + 1)  # type: ignore[index]
        assert database["zelappslocation"].find_one({"_id": second}) is None
    async with opened(mongo) as server:
        store = MongoStore(server)
        ids = [found.row_id async for found in store.load() if isinstance(found, LocationRow)]
        assert len(ids) == len(set(ids)) == 2


@pytest.mark.trio
@pytest.mark.parametrize(
    "odd",
    [
        {"data": "a text"},
        {"data": ["a", "list"]},
        {"trionode": {"of": f"{AT_MS}:s"}},
        {"trionode": {"of": f"{AT_MS}:s", "exact": "[1]"}},
        {"trionode": {"of": f"{AT_MS}:s", "exact": 5}},
    ],
)
async def test_a_document_of_any_form_does_not_keep_the_node_from_starting(
    mongo: Databases, odd: dict[str, Any]
) -> None:
    times = {"broadcastedAt": date(AT_MS), "expireAt": date(AT_MS * 2)}
    document = {"data": {"name": "A", "ip": "1.2.3.4"}, "signature": "s", **times, **odd}
    with mongo.server.client() as client:
        raw(client, mongo)["fluxappinstallingbroadcasts"].insert_one(document)
    async with opened(mongo) as server:
        store = MongoStore(server)
        await store.open()
        assert [row async for row in store.load()] == []
        assert server.counters["store.mongo.unreadable_documents"] == 1


@pytest.mark.trio
async def test_documents_no_page_comes_to_are_counted_and_told(mongo: Databases) -> None:
    times = {"broadcastedAt": date(AT_MS), "expireAt": date(AT_MS * 2)}
    odd_ids: list[Any] = ["text", {"a": 1}, True]
    with mongo.server.client() as client:
        for name in ("appstateevents", "zelappslocation"):
            raw(client, mongo)[name].insert_many([{"_id": odd, "ip": str(odd), **times} for odd in odd_ids])
        raw(client, mongo)["zelappsmessages"].insert_one({"_id": 7, "hash": "h", "appSpecifications": {}})
        raw(client, mongo)["zelappsinformation"].insert_one({"hash": "h"})
    async with opened(mongo) as server:
        store, registry = MongoStore(server), MongoRegistryStore(server)
        await store.open()
        for _ in range(2):
            assert [row async for row in store.load()] == []
            assert server.counters["store.mongo.unreadable_documents"] == 6
        await registry.open()
        assert server.counters["store.mongo.unreadable_documents"] == 8
    report = await check_mongo(quick(mongo.url, mongo.prefix))
    told = {found.where: found.count for found in report.findings if "no node can have" in found.what}
    assert told == {
        "globalzelapps.appstateevents": 3,
        "globalzelapps.zelappslocation": 3,
        "globalzelapps.zelappsmessages": 1,
        "globalzelapps.zelappsinformation": 1,
    }


@pytest.mark.trio
async def test_of_two_rows_of_one_install_the_newer_counts(mongo: Databases) -> None:
    old = {"name": "AppA", "ip": "1.2.3.4", "broadcastedAt": date(AT_MS), "expireAt": date(AT_MS * 2)}
    with mongo.server.client() as client:
        database = raw(client, mongo)
        database["appsinstallinglocations"].insert_many([{**old, "broadcastedAt": date(AT_MS + 1)}, {**old}])
        for at_ms in (AT_MS + 7, AT_MS):
            row = {**old, "hash": "h", "error": str(at_ms), "broadcastedAt": date(at_ms)}
            database["appsInstallingErrorsLocations"].insert_one(row)
    async with opened(mongo) as server:
        store = MongoStore(server)
        await store.open()
        installing, error = [found async for found in store.load()]
        assert isinstance(installing, InstallingRow)
        assert installing.broadcasted_at_ms == AT_MS + 1
        assert isinstance(error, InstallErrorRow)
        assert error.error == str(AT_MS + 7)
        await store.commit([PutInstalling(installing), PutInstallError(error)])


@pytest.mark.trio
async def test_what_the_database_let_expire_does_not_come_back_in_part(mongo: Databases) -> None:
    """Its own clock deletes rows behind the store's back, once a minute."""
    row, place = running(), location(3)
    async with opened(mongo) as server:
        store = MongoStore(server)
        await store.open()
        await store.commit([put(row), PutLocation(place), PutLocation(location(4))])
        with mongo.server.client() as client:
            for name in ("appstateevents", "zelappslocation"):
                raw(client, mongo)[name].delete_many({})
        await store.commit([TouchEvent(row.key, 7), DeleteLocation(4, "AppA", "1.2.3.4")])
        assert [found async for found in store.load()] == []
        await store.commit([put(row), PutLocation(place)])
        assert [found async for found in store.load()] == [row, place]


@pytest.mark.trio
async def test_two_writers_agree_on_the_newest_and_of_one_moment_on_the_first(mongo: Databases) -> None:
    """Each writer has a connection of its own, as two nodes on one database would."""
    contents: dict[int, set[str | None]] = {}
    async with opened(mongo) as one, opened(mongo) as two:
        stores = [MongoStore(one), MongoStore(two)]
        for store in stores:
            await store.open()

        async def write(store: MongoStore, order: list[int]) -> None:
            for at_ms in order:
                text = f'{{"ip":"1.2.3.4","broadcastedAt":{at_ms},"by":{stores.index(store)}}}'
                contents.setdefault(at_ms, set()).add(text)
                await store.commit([put(running(at_ms=at_ms, data_text=text))])

        moments = [AT_MS + number for number in range(12)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, stores[0], moments)
            nursery.start_soon(write, stores[1], [*moments[::2], *moments[1::2], moments[-1]])
        (row,) = await stores[0].events_for()
        assert row.broadcasted_at_ms == moments[-1]
        assert row.data_text in contents[moments[-1]]
        # Whatever comes later of the same moment changes nothing but what a touch says.
        await stores[1].commit([put(running(at_ms=moments[-1], data_text="{}", received_at_ms=None))])
        await stores[1].commit([TouchEvent(row.key, 7)])
        (again,) = await stores[0].events_for()
        assert again == msgspec.structs.replace(row, received_at_ms=7)
