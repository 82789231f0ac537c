"""LocalAppStore: the apps installed on this node, kept through every restart (docs/spec/registry.md §2).

A row is the specification as installed, flattened with `hash` and `height`; of an encrypted one the closed
form, with members unknown to us kept. Beside the rows are a few named values: what an unfinished operation
has touched must be known after a sudden death. All methods raise StoreError, which says what to do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import trio

from trionode.errors import StoreError
from trionode.registry.rows import CurrentSpec
from trionode.store.registry_schema import CURRENT_COLUMNS, current_row, text_value
from trionode.store.sqlite_disk import SqliteDisk
from trionode.store.sqlite_file import Schema, SqliteFile

LOCAL_KIND: Final = "local_apps"
LOCAL_META: Final = ("backupHolds", "installRecords", "operatorStops", "tamperingEvents", "testedPorts")
"""The named values that move with the apps."""


class LocalAppStore(Protocol):
    """Rows by name, and named values."""

    async def rows(self) -> Sequence[CurrentSpec]:
        """Every row, by name."""
        ...

    async def put(self, row: CurrentSpec) -> None:
        """Add the row, or replace the one of that name. Durable when it returns."""
        ...

    async def delete(self, name: str) -> None:
        """Delete the row of exactly that name, if there is one."""
        ...

    async def get_meta(self, key: str) -> str | None:
        """A named value, None when never put."""
        ...

    async def put_meta(self, key: str, value: str) -> None:
        """Put a named value, durable when it returns."""
        ...

    async def aclose(self) -> None:
        """Close; a second call does nothing."""
        ...


async def held_locally(store: LocalAppStore) -> list[CurrentSpec | tuple[str, str]]:
    """Everything that moves with the apps: rows, and named values."""
    held: list[CurrentSpec | tuple[str, str]] = list(await store.rows())
    for key in LOCAL_META:
        value = await store.get_meta(key)
        if value is not None:
            held.append((key, value))
    return held


async def copy_local(source: LocalAppStore, target: LocalAppStore) -> None:
    """Make `target` hold what `source` holds; repeated, it writes nothing twice."""
    wanted, there = await held_locally(source), await held_locally(target)
    names = {row.name for row in wanted if isinstance(row, CurrentSpec)}
    for row in there:
        if isinstance(row, CurrentSpec) and row.name not in names:
            await target.delete(row.name)
    for held in wanted:
        if held in there:
            continue
        if isinstance(held, CurrentSpec):
            await target.put(held)
        else:
            await target.put_meta(*held)


class MemoryLocalApps:
    """Without a disk: simulator and tests. `failing`: the next calls of these methods fail."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self._rows: dict[str, CurrentSpec] = {}
        self._meta: dict[str, str] = {}

    async def rows(self) -> list[CurrentSpec]:
        await self._answer("rows")
        return sorted(self._rows.values(), key=lambda row: row.name)

    async def put(self, row: CurrentSpec) -> None:
        await self._answer("put")
        self._rows[row.name] = row

    async def delete(self, name: str) -> None:
        await self._answer("delete")
        self._rows.pop(name, None)

    async def get_meta(self, key: str) -> str | None:
        await self._answer("get_meta")
        return self._meta.get(key)

    async def put_meta(self, key: str, value: str) -> None:
        await self._answer("put_meta")
        self._meta[key] = value

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    async def _answer(self, call: str) -> None:
        await trio.lowlevel.checkpoint()
        if call in self.failing:
            raise StoreError(f"the store was told to fail ({call})", remedy="tell it otherwise")


LOCAL: Final = Schema(
    application_id=0x54524C41,  # "TRLA"
    version=1,
    statements="""
CREATE TABLE local_apps (
    name TEXT PRIMARY KEY,
    hash TEXT NOT NULL,
    height INTEGER NOT NULL,
    spec_text TEXT NOT NULL
);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
""",
    # Nobody else knows what is installed here: unlike gossip, it has to survive a power cut.
    synchronous="FULL",
)


@asynccontextmanager
async def open_sqlite_local(path: Path, disk: SqliteDisk | None = None) -> AsyncIterator[SqliteLocalApps]:
    """An open store for the length of a block. Raises StoreError."""
    store = SqliteLocalApps(path, disk)
    await store.open()
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True):
            await store.aclose()


class SqliteLocalApps(SqliteFile):
    """A small file of its own. `open` before use; one process at a time."""

    waits = False  # looking after containers must not stand still; its callers try again by themselves

    def __init__(self, path: Path, disk: SqliteDisk | None = None) -> None:
        super().__init__(path, LOCAL, disk)

    async def rows(self) -> list[CurrentSpec]:
        statement = f"SELECT {CURRENT_COLUMNS} FROM local_apps ORDER BY name"
        return await self._read(lambda c: [current_row(values) for values in c.execute(statement)])

    async def put(self, row: CurrentSpec) -> None:
        values = (text_value(row.name), text_value(row.spec_text), text_value(row.hash), row.height)
        statement = f"INSERT OR REPLACE INTO local_apps ({CURRENT_COLUMNS}) VALUES (?, ?, ?, ?)"
        await self._execute(statement, values)

    async def delete(self, name: str) -> None:
        await self._execute("DELETE FROM local_apps WHERE name = ?", (text_value(name),))

    async def get_meta(self, key: str) -> str | None:
        rows = await self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    async def put_meta(self, key: str, value: str) -> None:
        await self._execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    async def _execute(self, statement: str, values: tuple[object, ...]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(statement, values)

        await self._write(work)
