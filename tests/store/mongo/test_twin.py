"""Whatever is committed, in whatever groups: MongoDB and SQLite hold what the store in memory holds."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from mongorows import AT_MS, location, put, quick, running, signed_copy
from mongoserver import Databases

from trionode.appstate.changes import (
    Change,
    DeleteCopy,
    DeleteEvent,
    DeleteInstallError,
    DeleteInstalling,
    DeleteLocation,
    PutCopy,
    PutInstallError,
    PutInstalling,
    PutLocation,
    TouchEvent,
)
from trionode.appstate.documents import EventRow, InstallErrorRow, InstallingRow, Row
from trionode.store.memory import MemoryStore
from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.events import MongoStore
from trionode.store.port import Store
from trionode.store.sqlite import open_sqlite

IPS = ("1.1.1.1", "2.2.2.2")
NAMES = ("AppA", "$set")


def random_change(rng: random.Random) -> Change:
    ip, name, at_ms = rng.choice(IPS), rng.choice(NAMES), AT_MS + rng.randrange(6)
    later_ms = at_ms + 1000
    row = running(ip, at_ms, received_at_ms=rng.choice((None, at_ms)))
    gone = EventRow(ip, "evicted", "evicted", later_ms, created_at_ms=at_ms, received_at_ms=at_ms)
    choices: tuple[Change, ...] = (
        put(row),
        put(gone),
        DeleteEvent(row.key),
        TouchEvent(row.key, at_ms),
        PutLocation(location(rng.randrange(1, 5), name, ip)),
        DeleteLocation(rng.randrange(1, 5), name, ip),
        PutInstalling(InstallingRow(name, ip, at_ms, later_ms)),
        DeleteInstalling(ip, name),
        PutInstallError(InstallErrorRow(name, "h", ip, "boom", at_ms, later_ms)),
        DeleteInstallError(ip, name, "h"),
        PutCopy(signed_copy(name, ip)),
        DeleteCopy(("installing", ip, name, "")),
    )
    return rng.choice(choices)


async def held(store: Store) -> list[Row]:
    """Everything but when an event was last heard, which no rule asks."""
    rows = [row async for row in store.load()]
    plain = [
        msgspec.structs.replace(row, received_at_ms=None) if isinstance(row, EventRow) else row
        for row in rows
    ]
    return sorted(plain, key=repr)


@asynccontextmanager
async def opened(kind: str, mongo: Databases, folder: Path) -> AsyncIterator[Store]:
    if kind == "sqlite":
        async with open_sqlite(folder / "log.sqlite") as store:
            yield store
        return
    async with open_mongo(quick(mongo.url, mongo.prefix)) as server:
        server.has_transactions = server.has_transactions and kind == "mongo"
        mongo_store = MongoStore(server)
        await mongo_store.open()
        yield mongo_store


@pytest.mark.trio
@pytest.mark.parametrize("kind", ["sqlite", "mongo", "mongo-journal"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_the_stores_agree(mongo: Databases, tmp_path: Path, kind: str, seed: int) -> None:
    rng = random.Random(seed)
    twin = MemoryStore()
    async with opened(kind, mongo, tmp_path) as store:
        for number in range(40):
            changes = [random_change(rng) for _ in range(rng.choice((1, 2, 5, 12)))]
            await twin.commit(changes)
            await store.commit(changes)
            if number % 4 == 3:
                assert await held(store) == await held(twin), f"commit {number}: {changes}"
