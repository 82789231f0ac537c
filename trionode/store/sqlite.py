"""SqliteStore: the event log in one SQLite file (docs/spec/events.md §2; durability: sqlite_file.py)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from trionode.appstate.changes import Change
from trionode.appstate.documents import CopyKey, CopyKind, EventRow, Row, SignedCopy
from trionode.errors import StoreError
from trionode.store.mentions import mentions
from trionode.store.sqlite_disk import SqliteDisk
from trionode.store.sqlite_file import SqliteFile
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
from trionode.store.sqlite_schema import EVENT_LOG
from trionode.wire.jsjson import quote

_LOAD_PAGE = 1000
_TABLES: tuple[tuple[str, str, str, Callable[[Values], Row]], ...] = (
    ("events", "id", EVENT_COLUMNS, event_row),
    ("locations", "row_id", LOCATION_COLUMNS, location_row),
    ("installing", "rowid", INSTALLING_COLUMNS, installing_row),
    ("install_errors", "rowid", ERROR_COLUMNS, error_row),
    ("signed_copies", "id", COPY_COLUMNS, copy_row),
)


@asynccontextmanager
async def open_sqlite(path: Path, disk: SqliteDisk | None = None) -> AsyncIterator[SqliteStore]:
    """An open store for the length of a block. Raises StoreError."""
    store = SqliteStore(path, disk)
    await store.open()
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True):
            await store.aclose()


class SqliteStore(SqliteFile):
    """The store on disk. `open` before use; one process at a time."""

    immediate = False

    def __init__(self, path: Path, disk: SqliteDisk | None = None) -> None:
        super().__init__(path, EVENT_LOG, disk)

    # Writing

    async def commit(self, changes: Sequence[Change]) -> None:
        await self._write(lambda connection: Group(changes).write(connection))

    def commit_now(self, changes: Sequence[Change]) -> None:
        raise StoreError("the SQLite store does not commit without waiting", remedy="use commit")

    async def put_meta(self, key: str, value: str) -> None:
        statement = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"
        await self._write_now(lambda connection: connection.execute(statement, (key, value)))

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
