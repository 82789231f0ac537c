"""Stores that can be put into trouble and taken out of it again: full, read-only, locked, away.

Each kind is a node's whole set of stores. Under SQLite the disk is full at every commit, or SQLite itself
refuses; MongoDB stands behind a proxy that answers in its place. A disk that really is full:
tests/devnet/test_full_disk.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
from faultproxy import DISK_FULL, Call, Fault, FaultProxy, fault_proxy
from mongohaste import without_a_server
from mongorows import quick
from mongoserver import Databases

from trionode.config.tree import StoreSettings
from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.events import MongoStore
from trionode.store.mongo.localapps import MongoLocalApps
from trionode.store.mongo.registry import MongoRegistryStore
from trionode.store.open import Stores, open_stores
from trionode.store.port import StoreServer
from trionode.store.sqlite_file import SqliteFile

SQLITE = ("sqlite full", "sqlite read-only", "sqlite locked")
MONGO = ("mongo full", "mongo-journal full", "mongo down")
KINDS = (*SQLITE, *MONGO)
WRITES = frozenset({"insert", "update", "delete", "findAndModify", "commitTransaction"})
LOCK_WAIT_MS = 20
"""SQLite itself waits so long for a lock; 5 s in a node."""


class Trouble(msgspec.Struct, frozen=True):
    """Stores, and what happens to them. `end` may be repeated."""

    kind: str
    stores: Stores
    server: StoreServer
    begin: Callable[[], None]
    end: Callable[[], None]

    @property
    def is_sqlite(self) -> bool:
        return self.kind in SQLITE

    @property
    def can_be_read(self) -> bool:
        """Whether reading goes on meanwhile."""
        return self.is_sqlite or self.kind == "mongo full"


@asynccontextmanager
async def trouble(
    kind: str, folder: Path, databases: Databases | None, *, retry_s: float
) -> AsyncIterator[Trouble]:
    """Open stores of that kind; the trouble has not begun."""
    if kind in SQLITE:
        async with _sqlite(kind, folder, retry_s) as made:
            yield made
        return
    assert databases is not None
    with fault_proxy(databases.server.host, databases.server.port) as door:
        async with _mongo(kind, databases, door, retry_s) as made:
            yield made


class FullDisk:
    """A connection to a file whose disk has no room for another commit."""

    def __init__(self, inner: sqlite3.Connection) -> None:
        self.inner = inner

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        if statement == "COMMIT":
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
            raise error
        return self.inner.execute(statement, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@asynccontextmanager
async def _sqlite(kind: str, folder: Path, retry_s: float) -> AsyncIterator[Trouble]:
    locks: list[sqlite3.Connection] = []
    async with open_stores(StoreSettings(sqlite_retry_s=retry_s), folder) as stores:
        assert stores.server is not None
        files = [cast("SqliteFile", store) for store in (stores.events, stores.registry, stores.local)]

        def begin() -> None:
            for file in files:
                assert file._writer is not None
                if kind == "sqlite locked":
                    # What a forgotten transaction in another program does.
                    locks.append(sqlite3.connect(file.path, isolation_level=None, timeout=60))
                    locks[-1].execute("BEGIN IMMEDIATE")
                elif kind == "sqlite full":
                    file._writer = cast("sqlite3.Connection", FullDisk(file._writer))
                else:
                    file._writer.execute("PRAGMA query_only = ON")

        def end() -> None:
            while locks:
                locks.pop().close()
            for file in files:
                if isinstance(file._writer, FullDisk):
                    file._writer = file._writer.inner
                if file._writer is not None:
                    file._writer.execute("PRAGMA query_only = OFF")

        for file in files:
            assert file._writer is not None
            file._writer.execute(f"PRAGMA busy_timeout = {LOCK_WAIT_MS}")
        try:
            yield Trouble(kind, stores, stores.server, begin, end)
        finally:
            end()


@asynccontextmanager
async def _mongo(kind: str, databases: Databases, door: FaultProxy, retry_s: float) -> AsyncIterator[Trouble]:
    url = databases.server.url_at(door.host, door.port)
    haste = ExitStack()
    async with open_mongo(quick(url, databases.prefix, mongo_retry_s=retry_s)) as server:
        server.has_transactions = server.has_transactions and not kind.startswith("mongo-journal")
        events, registry = MongoStore(server), MongoRegistryStore(server)
        await events.open()
        await registry.open()

        def judge(call: Call) -> Fault | None:
            return Fault(answer=DISK_FULL) if call.name in WRITES else None

        def begin() -> None:
            if kind.endswith("down"):
                haste.enter_context(without_a_server(server))
                door.down()
            else:
                door.judge = judge

        def end() -> None:
            door.judge = None
            haste.close()
            if door.is_down:
                door.up()

        try:
            yield Trouble(kind, Stores(events, registry, MongoLocalApps(server), server), server, begin, end)
        finally:
            end()
