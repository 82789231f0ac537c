"""One suite for every LocalAppStore: all implementations must pass it (trionode/store/localapps.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from mongoserver import Databases

from trionode.config.tree import StoreSettings
from trionode.errors import StoreError
from trionode.registry.rows import CurrentSpec
from trionode.store.localapps import (
    LOCAL_META,
    LocalAppStore,
    MemoryLocalApps,
    SqliteLocalApps,
    copy_local,
    held_locally,
    open_sqlite_local,
)
from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.localapps import MongoLocalApps
from trionode.store.open import LOCAL_FILE_NAME, open_stores
from trionode.wire.jsjson import stringify

pytestmark = pytest.mark.trio


@pytest.fixture(params=["memory", "sqlite", "mongo"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LocalAppStore]:
    if request.param == "memory":
        yield MemoryLocalApps()
    elif request.param == "sqlite":
        async with open_sqlite_local(tmp_path / LOCAL_FILE_NAME) as opened:
            yield opened
    else:
        databases: Databases = request.getfixturevalue("mongo")
        async with open_mongo(
            StoreSettings(url=databases.url, mongo_prefix=databases.prefix, mongo_call_s=300.0)
        ) as server:
            yield MongoLocalApps(server)


def row(name: str, height: int = 100, **members: Any) -> CurrentSpec:
    spec = {"version": 8, "name": name, "compose": [{"name": "web", "cpu": 0.5}], **members}
    return CurrentSpec(name, stringify(spec), f"hash-of-{name}", height)


async def test_rows_come_back_as_they_were_put(store: LocalAppStore) -> None:
    assert list(await store.rows()) == []
    rows = [row("Shop"), row("base", description="ä \U0001f600"), row("cell", unknown={"kept": [1, None]})]
    for one in reversed(rows):
        await store.put(one)
    assert list(await store.rows()) == rows  # by name


async def test_a_row_replaces_that_of_its_name(store: LocalAppStore) -> None:
    await store.put(row("shop"))
    await store.put(row("Shop"))
    await store.put(row("shop", 200, description="newer"))
    assert list(await store.rows()) == [row("Shop"), row("shop", 200, description="newer")]
    await store.delete("shop")
    await store.delete("nobody")
    assert list(await store.rows()) == [row("Shop")]


async def test_odd_texts_survive(store: LocalAppStore) -> None:
    odd = CurrentSpec("odd", stringify({"name": "odd", "description": "half \ud83d pair"}), "h", 1)
    await store.put(odd)
    assert list(await store.rows()) == [odd]


async def test_named_values(store: LocalAppStore) -> None:
    assert await store.get_meta("installRecords") is None
    await store.put_meta("installRecords", "[]")
    await store.put_meta("installRecords", '[{"app":"ä"}]')
    assert await store.get_meta("installRecords") == '[{"app":"ä"}]'
    assert await store.get_meta("other") is None


async def test_closing_twice(store: LocalAppStore) -> None:
    await store.aclose()
    await store.aclose()


async def test_a_file_keeps_all_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / LOCAL_FILE_NAME
    async with open_sqlite_local(path) as store:
        await store.put(row("shop"))
        await store.put_meta("key", "value")
    async with open_sqlite_local(path) as store:
        assert await store.rows() == [row("shop")]
        assert await store.get_meta("key") == "value"
        # nobody else knows what is installed here: every commit is flushed to the disk
        assert await store._write(lambda c: c.execute("PRAGMA synchronous").fetchone()) == (2,)
    with pytest.raises(StoreError, match="not open"):
        await SqliteLocalApps(path).rows()


async def test_all_stores_of_a_node_in_its_folder(tmp_path: Path) -> None:
    async with open_stores(StoreSettings(), tmp_path) as stores:
        await stores.local.put(row("shop"))
    assert (tmp_path / LOCAL_FILE_NAME).exists()
    with pytest.raises(StoreError, match="another store"):
        async with open_stores(StoreSettings(url=f"sqlite:{LOCAL_FILE_NAME}"), tmp_path):
            pass


async def test_documents_of_the_other_node(mongo: Databases) -> None:
    with mongo.server.client() as client:
        collection = client[f"{mongo.prefix}localzelapps"]["zelappsinformation"]
        collection.insert_many(
            [
                {
                    "_id": ObjectId(),
                    "version": 8,
                    "name": "shop",
                    "enterprise": "sealed",
                    "compose": [],
                    "contacts": [],
                    "note": "of the other node",
                    "hash": "aa",
                    "height": 7,
                },
                {"_id": ObjectId(), "version": 3, "name": "solo", "hash": "bb", "height": 5},
                {"_id": ObjectId(), "version": 3, "name": "solo", "hash": "cc", "height": 9},
            ]
        )
        async with open_mongo(
            StoreSettings(url=mongo.url, mongo_prefix=mongo.prefix, mongo_call_s=300.0)
        ) as server:
            store = MongoLocalApps(server)
            shop, solo = await store.rows()
            assert shop.spec()["note"] == "of the other node"
            assert (shop.hash, shop.height) == ("aa", 7)
            assert solo.hash == "cc"  # the newest of two
            await store.put(shop)
            await store.put(solo)
        documents = {found["name"]: found for found in collection.find({}, {"_id": 0})}
        assert collection.count_documents({}) == 2
        assert list(documents["shop"]) == [
            "version",
            "name",
            "enterprise",
            "compose",
            "contacts",
            "note",
            "hash",
            "height",
        ]


async def test_apps_are_copied_with_all_that_belongs_to_them(store: LocalAppStore) -> None:
    source = MemoryLocalApps()
    for name in ("shop", "base"):
        await source.put(row(name))
    for key in LOCAL_META:
        await source.put_meta(key, f'["{key}"]')
    await store.put(row("shop", 7))
    await store.put(row("stranger"))
    for _ in range(2):
        await copy_local(source, store)
        assert await held_locally(store) == await held_locally(source)
    assert len(await held_locally(source)) == 2 + len(LOCAL_META)
