"""SqliteRegistryStore: the registry in one SQLite file (docs/spec/registry.md §2).

Durability is that of sqlite_file.py. Rows become values in the thread that read them, page by page, so a
long list never holds up the node.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from trionode.errors import StoreError
from trionode.registry.changes import CommitReport, RegistryChange
from trionode.registry.rows import ChainMessageRow, CurrentSpec, HashRow, PermanentRow, TemporaryRow
from trionode.store.registry_port import HashCounts, PermanentOrder, RegistryStore
from trionode.store.registry_schema import (
    CHAIN_MESSAGE_COLUMNS,
    CURRENT_COLUMNS,
    HASH_COLUMNS,
    PERMANENT_COLUMNS,
    REGISTRY,
    TEMPORARY_COLUMNS,
    Values,
    chain_message_row,
    current_row,
    hash_row,
    permanent_row,
    temporary_row,
    text_value,
)
from trionode.store.registry_writes import in_chunks, known, write
from trionode.store.sqlite_disk import SqliteDisk
from trionode.store.sqlite_file import SqliteFile

_T = TypeVar("_T")

_NEWEST = (
    f"SELECT {PERMANENT_COLUMNS} FROM permanents WHERE name = ?"
    " ORDER BY height DESC, timestamp_ms DESC, hash DESC LIMIT 1"
)
_OF_NAME = f"SELECT {PERMANENT_COLUMNS} FROM permanents WHERE name = ? ORDER BY "
_ORDERS: dict[PermanentOrder, str] = {"stored": "seq", "height": "height, seq"}
_COUNTED = ("hashes", "permanents", "temporaries", "current_specs", "chain_messages")


@asynccontextmanager
async def open_sqlite_registry(
    path: Path, disk: SqliteDisk | None = None
) -> AsyncIterator[SqliteRegistryStore]:
    """An open store for the length of a block. Raises StoreError."""
    store = SqliteRegistryStore(path, disk)
    await store.open()
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True):
            await store.aclose()


class SqliteRegistryStore(SqliteFile, RegistryStore):
    """The registry on disk. `open` before use; one process at a time."""

    immediate = False

    def __init__(self, path: Path, disk: SqliteDisk | None = None) -> None:
        super().__init__(path, REGISTRY, disk)

    # Writing

    async def commit(self, changes: Sequence[RegistryChange]) -> CommitReport:
        return await self._write(lambda connection: write(connection, changes))

    def commit_now(self, changes: Sequence[RegistryChange]) -> CommitReport:
        raise StoreError("the SQLite store does not commit without waiting", remedy="use commit")

    # The chain

    async def scanned_height(self) -> int:
        ((height,),) = await self._rows("SELECT height FROM scanned")
        return int(height)

    async def block_hashes(self) -> dict[int, str]:
        return dict(await self._rows("SELECT height, hash FROM block_hashes ORDER BY height"))

    async def chain_messages(self, version: str | None = None) -> list[ChainMessageRow]:
        where, values = ("", ()) if version is None else ("WHERE version = ?", (text_value(version),))
        statement = f"SELECT {CHAIN_MESSAGE_COLUMNS} FROM chain_messages {where} ORDER BY height, seq"
        return await self._values(chain_message_row, statement, values)

    # Payments

    async def hashes(self, *, missing: bool | None = None, due_at: int | None = None) -> list[HashRow]:
        conditions: list[str] = []
        values: list[Any] = []
        if missing is not None:
            conditions.append(f"message = {int(not missing)}")
        if due_at is not None:
            conditions.append(
                "message = 0 AND message_not_found IS NOT 1"
                " AND (next_retry_height IS NULL OR next_retry_height <= ?)"
            )
            values.append(due_at)
        statement = f"SELECT {HASH_COLUMNS} FROM hashes {_where(conditions)} ORDER BY height, seq"
        return await self._values(hash_row, statement, tuple(values))

    async def stream_hashes(self, *, page: int = 1000) -> AsyncIterator[HashRow]:
        statement = f"SELECT {HASH_COLUMNS}, seq FROM hashes WHERE seq > ? ORDER BY seq LIMIT ?"
        place: Values = (0,)
        while True:
            rows = await self._placed(hash_row, statement, (*place, page), 1)
            for row, _ in rows:
                yield row
            if len(rows) < page:
                return
            place = rows[-1][1]

    async def hash_rows(self, hashes: Iterable[str]) -> dict[str, HashRow]:
        wanted = list(hashes)

        def look(connection: sqlite3.Connection) -> dict[str, HashRow]:
            found: dict[str, HashRow] = {}
            for chunk, marks in in_chunks(wanted):
                statement = f"SELECT {HASH_COLUMNS} FROM hashes WHERE hash IN ({marks})"
                for values in connection.execute(statement, chunk):
                    row = hash_row(values)
                    found[row.hash] = row
            return found

        return await self._read(look)

    async def known_hashes(self, hashes: Iterable[str]) -> set[str]:
        wanted = list(hashes)
        return await self._read(lambda connection: known(connection, "hashes", wanted))

    async def hash_counts(self) -> HashCounts:
        ((total,),) = await self._rows("SELECT count(*) FROM hashes")
        statement = (
            "SELECT count(*), count(CASE WHEN message_not_found = 1 THEN 1 END),"
            " min(CASE WHEN message_not_found IS NOT 1 THEN coalesce(next_retry_height, 0) END),"
            " min(height) FROM hashes WHERE message = 0"
        )
        ((missing, unreachable, next_retry_height, oldest),) = await self._rows(statement)
        return HashCounts(total, missing, unreachable, next_retry_height, oldest)

    # Messages

    async def permanent(self, hash: str) -> PermanentRow | None:
        statement = f"SELECT {PERMANENT_COLUMNS} FROM permanents WHERE hash = ?"
        return _first(await self._values(permanent_row, statement, (text_value(hash),)))

    async def known_permanents(self, hashes: Iterable[str]) -> set[str]:
        wanted = list(hashes)
        return await self._read(lambda connection: known(connection, "permanents", wanted))

    async def permanents_of(self, name: str, *, order: PermanentOrder = "height") -> list[PermanentRow]:
        return await self._values(permanent_row, _OF_NAME + _ORDERS[order], (text_value(name),))

    async def permanents_of_names(self, names: Iterable[str]) -> dict[str, list[PermanentRow]]:
        wanted = list(names)

        def look(connection: sqlite3.Connection) -> dict[str, list[PermanentRow]]:
            found: dict[str, list[PermanentRow]] = {}
            for chunk, marks in in_chunks(wanted):
                statement = (
                    f"SELECT {PERMANENT_COLUMNS} FROM permanents WHERE name IN ({marks})"
                    " ORDER BY name, height, seq"
                )
                for values in connection.execute(statement, chunk):
                    row = permanent_row(values)
                    found.setdefault(row.name, []).append(row)
            return found

        return await self._read(look)

    async def newest_permanent(self, name: str) -> PermanentRow | None:
        return _first(await self._values(permanent_row, _NEWEST, (text_value(name),)))

    async def stream_newest(self, *, page: int = 500) -> AsyncIterator[PermanentRow]:
        last: str | bytes | None = None
        while True:
            names, rows = await self._newest_page(last, page)
            for row in rows:
                yield row
            if len(names) < page:
                return
            last = names[-1]

    async def stream_permanents(
        self,
        *,
        hash: str | None = None,
        owner: str | None = None,
        name: str | None = None,
        from_height: int | None = None,
        order: PermanentOrder = "stored",
        page: int = 500,
    ) -> AsyncIterator[PermanentRow]:
        conditions: list[str] = []
        filters: list[Any] = []
        for column, text in (("hash", hash), ("owner", owner), ("name", name)):
            if text is not None:
                conditions.append(f"{column} = ?")
                filters.append(text_value(text))
        if from_height is not None:
            conditions.append("height >= ?")
            filters.append(from_height)
        place: Values = (0,)
        place_of_row, after = "seq", "seq > ?"
        if order == "height":
            place = (-1, 0)
            place_of_row, after = "height, seq", "(height, seq) > (?, ?)"
        statement = (
            f"SELECT {PERMANENT_COLUMNS}, {place_of_row} FROM permanents {_where([*conditions, after])}"
            f" ORDER BY {place_of_row} LIMIT ?"
        )
        while True:
            rows = await self._placed(permanent_row, statement, (*filters, *place, page), len(place))
            for row, _ in rows:
                yield row
            if len(rows) < page:
                return
            place = rows[-1][1]

    async def permanent_counts(self, *, owner: str | None = None) -> int:
        statement = "SELECT count(*) FROM permanents"
        if owner is None:
            ((count,),) = await self._rows(statement)
        else:
            ((count,),) = await self._rows(f"{statement} WHERE owner = ?", (text_value(owner),))
        return int(count)

    async def temporary(self, hash: str) -> TemporaryRow | None:
        statement = f"SELECT {TEMPORARY_COLUMNS} FROM temporaries WHERE hash = ?"
        return _first(await self._values(temporary_row, statement, (text_value(hash),)))

    async def temporaries(self) -> list[TemporaryRow]:
        statement = f"SELECT {TEMPORARY_COLUMNS} FROM temporaries ORDER BY received_at_ms, seq"
        return await self._values(temporary_row, statement)

    # Current specifications and the rest

    async def current(self, name: str) -> CurrentSpec | None:
        statement = f"SELECT {CURRENT_COLUMNS} FROM current_specs WHERE name = ?"
        return _first(await self._values(current_row, statement, (text_value(name),)))

    async def stream_current(self, *, page: int = 500) -> AsyncIterator[CurrentSpec]:
        after = ""
        values: Values = ()
        while True:
            statement = f"SELECT {CURRENT_COLUMNS} FROM current_specs {after} ORDER BY name LIMIT ?"
            rows = await self._values(current_row, statement, (*values, page))
            for row in rows:
                yield row
            if len(rows) < page:
                return
            after, values = "WHERE name > ?", (text_value(rows[-1].name),)

    async def get_meta(self, key: str) -> str | None:
        rows = await self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    async def counts(self) -> dict[str, int]:
        statement = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in _COUNTED)
        (counts,) = await self._rows(statement)
        names = (table.removesuffix("_specs") for table in _COUNTED)
        return dict(zip(names, counts, strict=True))

    async def _values(self, row_of: Callable[[Values], _T], statement: str, values: Values = ()) -> list[_T]:
        return await self._read(lambda c: [row_of(found) for found in c.execute(statement, values)])

    async def _placed(
        self, row_of: Callable[[Values], _T], statement: str, values: Values, width: int
    ) -> list[tuple[_T, Values]]:
        """Rows, each with its place: its last `width` columns."""
        return await self._read(
            lambda c: [(row_of(found), found[-width:]) for found in c.execute(statement, values)]
        )

    async def _newest_page(
        self, after: str | bytes | None, page: int
    ) -> tuple[list[str | bytes], list[PermanentRow]]:
        return await self._read(lambda connection: _newest(connection, after, page))


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _first(rows: Sequence[_T]) -> _T | None:
    return rows[0] if rows else None


def _newest(
    connection: sqlite3.Connection, after: str | bytes | None, page: int
) -> tuple[list[str | bytes], list[PermanentRow]]:
    """A page of names after `after`, and the newest message of each."""
    where, values = ("", ()) if after is None else ("WHERE name > ?", (after,))
    statement = f"SELECT DISTINCT name FROM permanents {where} ORDER BY name LIMIT ?"
    names = [found[0] for found in connection.execute(statement, (*values, page))]
    return names, [permanent_row(connection.execute(_NEWEST, (name,)).fetchone()) for name in names]
