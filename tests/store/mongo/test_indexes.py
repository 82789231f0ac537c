"""Indexes are created, repaired and migrated at every start (docs/spec/events.md §2)."""

from __future__ import annotations

from typing import Any

import pytest
from mongorows import AT_MS, put, quick, running
from mongoserver import Databases
from pymongo.database import Database

from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.events import MongoStore
from trionode.store.mongo.events_plan import COPIES, ERRORS, EVENTS, INSTALLING, LOCATIONS
from trionode.store.mongo.values import date

WANTED = {
    EVENTS: {"expireAt_1", "ip_1_type_1_dedupKey_1", "broadcastedAt_1", "createdAt_1"},
    LOCATIONS: {"expireAt_1", "name_1", "ip_1_name_1"},
    INSTALLING: {"expireAt_1", "name_1", "name_1_ip_1"},
    ERRORS: {"expireAt_1", "name_1", "name_1_hash_1", "name_1_hash_1_ip_1"},
    COPIES["installing"]: {"expireAt_1", "broadcastedAt_1", "data.name_1_data.ip_1"},
    COPIES["error"]: {"expireAt_1", "broadcastedAt_1", "data.name_1_data.hash_1_data.ip_1"},
}


def indexes(database: Database[dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    return {found["name"]: dict(found) for found in database[name].list_indexes() if found["name"] != "_id_"}


async def start(mongo: Databases) -> None:
    async with open_mongo(quick(mongo.url, mongo.prefix)) as server:
        await MongoStore(server).open()


@pytest.mark.trio
async def test_a_new_database_gets_the_indexes_of_the_network(mongo: Databases) -> None:
    await start(mongo)
    with mongo.server.client() as client:
        database = client[f"{mongo.prefix}globalzelapps"]
        for name, wanted in WANTED.items():
            found = indexes(database, name)
            assert set(found) == wanted
            assert found["expireAt_1"]["expireAfterSeconds"] == 0
        assert indexes(database, EVENTS)["ip_1_type_1_dedupKey_1"]["unique"]
        assert indexes(database, COPIES["installing"])["data.name_1_data.ip_1"]["unique"]


@pytest.mark.trio
async def test_old_and_conflicting_indexes_are_replaced(mongo: Databases) -> None:
    with mongo.server.client() as client:
        database = client[f"{mongo.prefix}globalzelapps"]
        # As versions of long ago made them: rows that die by their age, under any name.
        for name in (LOCATIONS, INSTALLING, ERRORS, *COPIES.values()):
            database[name].create_index("broadcastedAt", expireAfterSeconds=3900)
        database[ERRORS].create_index("cachedAt", expireAfterSeconds=3600)
        database[EVENTS].create_index("expireAt", expireAfterSeconds=60, name="old")
        database[EVENTS].create_index([("ip", 1), ("type", 1), ("dedupKey", 1)])
        database[LOCATIONS].create_index("hash")
        await start(mongo)
        for name, wanted in WANTED.items():
            extra = {"hash_1"} if name == LOCATIONS else set()
            assert set(indexes(database, name)) == wanted | extra
        assert "expireAfterSeconds" not in indexes(database, COPIES["error"])["broadcastedAt_1"]
        assert indexes(database, EVENTS)["expireAt_1"]["expireAfterSeconds"] == 0
        assert indexes(database, EVENTS)["ip_1_type_1_dedupKey_1"]["unique"]


@pytest.mark.trio
async def test_a_second_start_only_looks(mongo: Databases) -> None:
    await start(mongo)
    with mongo.server.client() as client:
        before = {name: indexes(client[f"{mongo.prefix}globalzelapps"], name) for name in WANTED}
        await start(mongo)
        assert {name: indexes(client[f"{mongo.prefix}globalzelapps"], name) for name in WANTED} == before


@pytest.mark.trio
async def test_of_duplicates_the_newest_stays(mongo: Databases) -> None:
    key = {"ip": "1.2.3.4", "type": "apprunning", "dedupKey": "v2"}
    with mongo.server.client() as client:
        events = client[f"{mongo.prefix}globalzelapps"][EVENTS]
        for at_ms in (AT_MS, AT_MS + 2, AT_MS + 1):
            events.insert_one({**key, "broadcastedAt": date(at_ms), "expireAt": date(AT_MS * 2)})
    async with open_mongo(quick(mongo.url, mongo.prefix)) as server:
        store = MongoStore(server)
        await store.open()
        (kept,) = await store.events_for()
        assert kept.broadcasted_at_ms == AT_MS + 2
        await store.commit([put(running(at_ms=AT_MS + 3))])
        assert (await store.counts())["events"] == 1
