"""Changes of the registry as SQLite statements; run inside one transaction of the writer's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from trionode.registry.changes import (
    KEPT_BLOCK_HASHES,
    AddHashes,
    AddPermanents,
    ClearCurrent,
    CommitReport,
    DeleteCurrent,
    DeleteTemporaries,
    ExpireTemporaries,
    PutBlockHash,
    PutChainMessage,
    PutCurrent,
    PutMeta,
    PutTemporary,
    RegistryChange,
    ResolveHashes,
    Rewind,
    SetScannedHeight,
    UpdateHashes,
)
from trionode.registry.rows import HashRow, PermanentRow
from trionode.store.registry_schema import (
    CHAIN_MESSAGE_COLUMNS,
    CURRENT_COLUMNS,
    HASH_COLUMNS,
    PERMANENT_COLUMNS,
    TEMPORARY_COLUMNS,
    chain_message_values,
    current_values,
    hash_values,
    permanent_values,
    temporary_values,
    text_value,
)

IN_CHUNK = 1000
"""Values in one `IN (...)`; far below the limit of SQLite, and few enough statements."""

_ADD_HASH = f"INSERT INTO hashes ({HASH_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE_HASH = (
    "UPDATE hashes SET txid = ?1, height = ?2, value_sat = ?4, message = ?5, message_not_found = ?6,"
    " sync_attempts = ?7, next_retry_height = ?8, retry_from_height = ?9 WHERE hash = ?3"
)
_RESOLVE_HASH = "UPDATE hashes SET message = 1, message_not_found = 0 WHERE hash = ?"
_ADD_PERMANENT = f"INSERT INTO permanents ({PERMANENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_TEMPORARY = (
    f"INSERT OR REPLACE INTO temporaries ({TEMPORARY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT_CURRENT = f"INSERT OR REPLACE INTO current_specs ({CURRENT_COLUMNS}) VALUES (?, ?, ?, ?)"
_PUT_CHAIN_MESSAGE = f"""
INSERT INTO chain_messages ({CHAIN_MESSAGE_COLUMNS}) VALUES (?, ?, ?, ?)
ON CONFLICT (txid) DO UPDATE SET
    height = excluded.height, message = excluded.message, version = excluded.version
"""
_TRIM_BLOCK_HASHES = (
    f"DELETE FROM block_hashes WHERE height <= (SELECT max(height) FROM block_hashes) - {KEPT_BLOCK_HASHES}"
)


def write(connection: sqlite3.Connection, changes: Sequence[RegistryChange]) -> CommitReport:
    """Carry out the changes in order; says what was stored already."""
    known_hashes: list[str] = []
    known_permanents: list[str] = []
    for change in changes:
        match change:
            case AddHashes(rows=hash_rows):
                known_hashes += _add_hashes(connection, hash_rows)
            case AddPermanents(rows=permanents):
                known_permanents += _add_permanents(connection, permanents)
            case Rewind(height=height, apps=apps):
                _rewind(connection, height, apps)
            case _:
                _write_one(connection, change)
    return CommitReport(tuple(known_hashes), tuple(known_permanents))


def _write_one(connection: sqlite3.Connection, change: RegistryChange) -> None:
    match change:
        case SetScannedHeight(height=height):
            connection.execute("UPDATE scanned SET height = ?", (height,))
        case UpdateHashes(rows=rows):
            connection.executemany(_UPDATE_HASH, map(hash_values, rows))
        case ResolveHashes(hashes=hashes):
            connection.executemany(_RESOLVE_HASH, _singles(hashes))
        case PutTemporary(row=temporary):
            connection.execute(_PUT_TEMPORARY, temporary_values(temporary))
        case DeleteTemporaries(hashes=hashes):
            connection.executemany("DELETE FROM temporaries WHERE hash = ?", _singles(hashes))
        case ExpireTemporaries(now_ms=now_ms):
            connection.execute("DELETE FROM temporaries WHERE expire_at_ms <= ?", (now_ms,))
        case PutCurrent(row=current):
            connection.execute(_PUT_CURRENT, current_values(current))
        case DeleteCurrent(name=name):
            connection.execute("DELETE FROM current_specs WHERE name = ?", (text_value(name),))
        case ClearCurrent():
            connection.execute("DELETE FROM current_specs")
        case PutChainMessage(row=message):
            connection.execute(_PUT_CHAIN_MESSAGE, chain_message_values(message))
        case PutBlockHash(height=height, hash=hash_):
            connection.execute(
                "INSERT OR REPLACE INTO block_hashes (height, hash) VALUES (?, ?)", (height, hash_)
            )
            connection.execute(_TRIM_BLOCK_HASHES)
        case PutMeta(key=key, value=value):
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))


def _add_hashes(connection: sqlite3.Connection, rows: Sequence[HashRow]) -> list[str]:
    seen = known(connection, "hashes", (row.hash for row in rows))
    fresh: list[HashRow] = []
    left_out: list[str] = []
    for row in rows:
        if row.hash in seen:
            left_out.append(row.hash)
        else:
            seen.add(row.hash)
            fresh.append(row)
    connection.executemany(_ADD_HASH, map(hash_values, fresh))
    return left_out


def _add_permanents(connection: sqlite3.Connection, rows: Sequence[PermanentRow]) -> list[str]:
    seen = known(connection, "permanents", (row.hash for row in rows))
    fresh: list[PermanentRow] = []
    left_out: list[str] = []
    for row in rows:
        if row.hash in seen:
            left_out.append(row.hash)
        else:
            seen.add(row.hash)
            fresh.append(row)
    connection.executemany(_ADD_PERMANENT, map(permanent_values, fresh))
    return left_out


def _rewind(connection: sqlite3.Connection, height: int, apps: bool) -> None:
    connection.execute("UPDATE scanned SET height = min(height, ?)", (height,))
    tables = ["hashes", "chain_messages", "block_hashes"]
    if apps:
        tables += ["permanents", "current_specs"]
    for table in tables:
        connection.execute(f"DELETE FROM {table} WHERE height > ?", (height,))


def known(
    connection: sqlite3.Connection, table: Literal["hashes", "permanents"], hashes: Iterable[str]
) -> set[str]:
    """Which of these hashes the table holds."""
    found: set[str] = set()
    for chunk, marks in in_chunks(hashes):
        rows = connection.execute(f"SELECT hash FROM {table} WHERE hash IN ({marks})", chunk)
        found.update(row[0] for row in rows)
    return found


def in_chunks(texts: Iterable[str]) -> Iterator[tuple[list[str | bytes], str]]:
    """Values and question marks for `IN (...)`, each text once."""
    distinct = [text_value(text) for text in dict.fromkeys(texts)]
    for at in range(0, len(distinct), IN_CHUNK):
        chunk = distinct[at : at + IN_CHUNK]
        yield chunk, ",".join("?" * len(chunk))


def _singles(hashes: Iterable[str]) -> Iterator[tuple[str | bytes]]:
    return ((text_value(hash_),) for hash_ in hashes)
