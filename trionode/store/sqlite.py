"""SqliteStore: the event log in one SQLite file (docs/spec/events.md §2; durability: sqlite_schema.py).

All writing goes through one connection that one thread at a time may use (a limiter of its own with one
place); reading has a second connection, so an iteration never waits for a commit nor holds one up. Every
hop into a thread carries a whole batch, and no cursor stays open between hops.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from trionode.appstate.changes import Change
from trionode.appstate.documents import CopyKey, CopyKind, EventRow, Row, SignedCopy
from trionode.errors import StoreError
from trionode.store.mentions import mentions
from trionode.store.sqlite_rows import (
    COPY_COLUMNS,
    ERROR_COLUMNS,
    EVENT_COLUMNS,
    INSTALLING_COLUMNS,
    LOCATION_COLUMNS,
    Group,
    Values,
    copy_row,
    error_row,
    event_row,
    installing_row,
    location_row,
)
from trionode.store.sqlite_schema import connect, prepare, take_ownership, translated
from trionode.wire.jsjson import quote

_T = TypeVar("_T")

_LOAD_PAGE = 1000
_TABLES: tuple[tuple[str, str, str, Callable[[Values], Row]], ...] = (
    ("events", "id", EVENT_COLUMNS, event_row),
    ("locations", "row_id", LOCATION_COLUMNS, location_row),
    ("installing", "rowid", INSTALLING_COLUMNS, installing_row),
    ("install_errors", "rowid", ERROR_COLUMNS, error_row),
    ("signed_copies", "id", COPY_COLUMNS, copy_row),
)


@asynccontextmanager
async def open_sqlite(path: Path) -> AsyncIterator[SqliteStore]:
    """An open store for the length of a block. Raises StoreError."""
    store = SqliteStore(path)
    await store.open()
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True):
            await store.aclose()


class SqliteStore:
    """The store on disk. `open` before use; one process at a time."""

    immediate = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._write_limit = trio.CapacityLimiter(1)
        self._read_limit = trio.CapacityLimiter(1)

    async def open(self) -> None:
        """Take the file into ownership, check it, create what is missing. Raises StoreError."""
        await trio.to_thread.run_sync(self._open, limiter=self._write_limit)

    def _open(self) -> None:
        with translated(self.path, "open"):
            self._lock = take_ownership(self.path)
            try:
                self._writer = connect(self.path)
                prepare(self._writer, self.path)
                self._reader = connect(self.path, read_only=True)
            except (sqlite3.Error, OSError, StoreError):
                self._close()
                raise

    async def aclose(self) -> None:
        if self._lock is not None:
            await trio.to_thread.run_sync(self._close, limiter=self._write_limit)

    def _close(self) -> None:
        """Close the reader first, so that the writer's close folds the write-ahead log into the file."""
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        lock, self._lock = self._lock, None
        for connection in (reader, writer):
            if connection is not None:
                connection.close()
        if lock is not None:
            os.close(lock)

    # Writing

    async def commit(self, changes: Sequence[Change]) -> None:
        await self._write(lambda connection: Group(changes).write(connection))

    def commit_now(self, changes: Sequence[Change]) -> None:
        raise StoreError("the SQLite store does not commit without waiting", remedy="use commit")

    async def put_meta(self, key: str, value: str) -> None:
        statement = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"
        await self._write(lambda connection: connection.execute(statement, (key, value)))

    async def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        await trio.to_thread.run_sync(self._transact, work, limiter=self._write_limit)

    def _transact(self, work: Callable[[sqlite3.Connection], object]) -> None:
        connection = self._writer
        if connection is None:
            raise StoreError(f"{self.path} is not open", remedy="open the store first")
        with translated(self.path, "write"):
            connection.execute("BEGIN IMMEDIATE")
            try:
                work(connection)
                connection.execute("COMMIT")
            except Exception:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    # Reading

    async def load(self) -> AsyncIterator[Row]:
        for table, key, columns, row_of in _TABLES:
            statement = (
                f"SELECT {columns}, {key} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT {_LOAD_PAGE}"
            )
            last = -1
            while True:
                rows = await self._rows(statement, (last,))
                for values in rows:
                    yield row_of(values[:-1])
                if len(rows) < _LOAD_PAGE:
                    break
                last = rows[-1][-1]

    async def event(self, ip: str, kind: str, dedup_key: str) -> EventRow | None:
        statement = f"SELECT {EVENT_COLUMNS} FROM events WHERE ip = ? AND type = ? AND dedup_key = ?"
        rows = await self._rows(statement, (ip, kind, dedup_key))
        return event_row(rows[0]) if rows else None

    async def events_for(self, *, ip: str | None = None, name: str | None = None) -> Sequence[EventRow]:
        return await self._read(lambda connection: _events_for(connection, ip, name))

    async def stream_events(self, after_ms: int, *, page: int = 500) -> AsyncIterator[EventRow]:
        # Evictions have no broadcastedAt and come first (§10.2).
        first = (
            f"SELECT {EVENT_COLUMNS}, id FROM events WHERE broadcasted_at IS NULL"
            " AND created_at > ? AND id > ? ORDER BY id LIMIT ?"
        )
        last_id = -1
        while True:
            rows = await self._rows(first, (after_ms, last_id, page))
            for values in rows:
                yield event_row(values)
            if len(rows) < page:
                break
            last_id = rows[-1][12]
        then = (
            f"SELECT {EVENT_COLUMNS}, id FROM events WHERE (broadcasted_at, id) > (?, ?)"
            " ORDER BY broadcasted_at, id LIMIT ?"
        )
        last = (after_ms, 1 << 62)
        while True:
            rows = await self._rows(then, (*last, page))
            for values in rows:
                yield event_row(values)
            if len(rows) < page:
                return
            last = (rows[-1][3], rows[-1][12])

    async def stream_copies(
        self, kind: CopyKind, after_ms: int, *, page: int = 500
    ) -> AsyncIterator[SignedCopy]:
        statement = (
            f"SELECT {COPY_COLUMNS}, id FROM signed_copies WHERE kind = ?"
            " AND (broadcasted_at, id) > (?, ?) ORDER BY broadcasted_at, id LIMIT ?"
        )
        last = (after_ms, 1 << 62)
        while True:
            rows = await self._rows(statement, (kind, *last, page))
            for values in rows:
                yield copy_row(values)
            if len(rows) < page:
                return
            last = (rows[-1][4], rows[-1][12])

    async def signed_copy(self, key: CopyKey) -> SignedCopy | None:
        statement = (
            f"SELECT {COPY_COLUMNS} FROM signed_copies WHERE kind = ? AND ip = ? AND name = ? AND hash = ?"
        )
        rows = await self._rows(statement, key)
        return copy_row(rows[0]) if rows else None

    async def get_meta(self, key: str) -> str | None:
        rows = await self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        value: str | None = rows[0][0] if rows else None
        return value

    async def counts(self) -> dict[str, int]:
        statement = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table[0]})" for table in _TABLES)
        (counts,) = await self._rows(statement, ())
        return {table[0]: count for table, count in zip(_TABLES, counts, strict=True)}

    async def _rows(self, statement: str, values: Values) -> list[Any]:
        return await self._read(lambda connection: connection.execute(statement, values).fetchall())

    async def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        return await trio.to_thread.run_sync(self._look, work, limiter=self._read_limit)

    def _look(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._reader
        if connection is None:
            raise StoreError(f"{self.path} is not open", remedy="open the store first")
        with translated(self.path, "read"):
            return work(connection)


def _events_for(connection: sqlite3.Connection, ip: str | None, name: str | None) -> list[EventRow]:
    statement = f"SELECT {EVENT_COLUMNS} FROM events"
    if ip is not None:
        rows = [event_row(values) for values in connection.execute(f"{statement} WHERE ip = ?", (ip,))]
        return rows if not name or any(mentions(row, name) for row in rows) else []
    if not name:
        return [event_row(values) for values in connection.execute(statement)]
    # SQLite folds the case of ASCII only; another name is looked for in every text.
    hint = quote(name)[1:-1].lower() if name.isascii() else ""
    candidates = connection.execute(f"{statement} WHERE instr(lower(data), ?)", (hint,))
    ips = sorted({row.ip for row in map(event_row, candidates) if mentions(row, name)})
    return [
        event_row(values)
        for address in ips
        for values in connection.execute(f"{statement} WHERE ip = ?", (address,))
    ]
