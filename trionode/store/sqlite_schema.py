"""Opening an SQLite store: ownership, settings, schema, and errors a person can act on.

Durability. "Acknowledged" must survive the sudden death of the process at any moment. With a write-ahead
log and `synchronous=NORMAL` a commit has been handed to the operating system when it returns, so a killed
process loses nothing. What NORMAL leaves out against FULL is waiting for the disk at every commit: after
a power cut the newest commits may be gone, but the file is whole, and what is gone is gossip of the last
moments that every peer still has and state sync brings back (docs/spec/events.md §10). FULL would cost
one disk flush a commit for data that others hold anyway.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trionode.errors import StoreError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x74726F6E  # "tron" in the file header: tells our file from anybody else's

_SETTINGS = (
    # Readers never wait for the writer, and a commit is one append.
    "PRAGMA journal_mode = WAL",
    # See above: kill-safe, not power-cut-safe for the last moments.
    "PRAGMA synchronous = NORMAL",
    # Nobody else writes (lock file), but an operator may look in with another program for a moment.
    "PRAGMA busy_timeout = 5000",
    # 16 MiB of pages: the whole log of today's network stays cached.
    "PRAGMA cache_size = -16384",
    "PRAGMA temp_store = MEMORY",
    # After a burst the write-ahead log shrinks back to at most 16 MiB.
    "PRAGMA journal_size_limit = 16777216",
)

# Times are milliseconds since 1970. `data` is the signed text, never changed after it is written. Columns
# without a type hold a JavaScript value: a number as such, anything else as its JSON text.
_SCHEMA = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    ip TEXT NOT NULL,
    type TEXT NOT NULL,
    dedup_key TEXT NOT NULL,
    broadcasted_at INTEGER,
    created_at INTEGER,
    expire_at INTEGER NOT NULL,
    received_at INTEGER,
    data TEXT,
    version,
    timestamp,
    pub_key TEXT,
    signature TEXT,
    UNIQUE (ip, type, dedup_key)
);
CREATE INDEX events_by_time ON events (broadcasted_at, id);
CREATE TABLE locations (
    row_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    hash TEXT NOT NULL,
    ip TEXT NOT NULL,
    broadcasted_at INTEGER NOT NULL,
    expire_at INTEGER NOT NULL,
    running_since INTEGER,
    os_uptime,
    static_ip
);
CREATE TABLE installing (
    ip TEXT NOT NULL,
    name TEXT NOT NULL,
    broadcasted_at INTEGER NOT NULL,
    expire_at INTEGER NOT NULL,
    PRIMARY KEY (ip, name)
);
CREATE TABLE install_errors (
    ip TEXT NOT NULL,
    name TEXT NOT NULL,
    hash TEXT NOT NULL,
    error TEXT NOT NULL,
    broadcasted_at INTEGER NOT NULL,
    expire_at INTEGER NOT NULL,
    PRIMARY KEY (ip, name, hash)
);
CREATE TABLE signed_copies (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    ip TEXT NOT NULL,
    name TEXT NOT NULL,
    hash TEXT NOT NULL,
    broadcasted_at INTEGER NOT NULL,
    expire_at INTEGER NOT NULL,
    received_at INTEGER,
    data TEXT NOT NULL,
    version,
    timestamp,
    pub_key TEXT NOT NULL,
    signature TEXT NOT NULL,
    UNIQUE (kind, ip, name, hash)
);
CREATE INDEX signed_copies_by_time ON signed_copies (kind, broadcasted_at, id);
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
"""

_MOVE_AWAY = "move the file away and start again: the node refills it from its peers"
_REMEDIES = {
    "SQLITE_FULL": "free some space on the disk of the data folder and start again",
    "SQLITE_IOERR": "check the disk of the data folder (kernel log, free space)",
    "SQLITE_READONLY": "make the data folder and the file writable for this user",
    "SQLITE_CANTOPEN": "check that the data folder exists and is writable for this user",
    "SQLITE_PERM": "make the data folder and the file writable for this user",
    "SQLITE_BUSY": "close the other program that uses the file",
    "SQLITE_LOCKED": "close the other program that uses the file",
    "SQLITE_NOTADB": _MOVE_AWAY,
    "SQLITE_CORRUPT": _MOVE_AWAY,
}


def store_error(path: Path, doing: str, error: Exception) -> StoreError:
    """The error of SQLite or the system as one that names the file and the remedy."""
    name = getattr(error, "sqlite_errorname", "") or ""
    remedy = next((text for key, text in _REMEDIES.items() if name.startswith(key)), "")
    if isinstance(error, OSError):
        remedy = remedy or "check that the data folder exists and is writable for this user"
        return StoreError(f"cannot {doing} {path}: {error.strerror or error}", remedy=remedy)
    return StoreError(f"cannot {doing} {path}: {error}", remedy=remedy or "see the log for the reason")


@contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """Turn errors of SQLite and the file system into StoreError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise store_error(path, doing, error) from error


def take_ownership(path: Path) -> int:
    """Lock `<path>.lock` for this process; the lock ends with the process, however it ends.

    Returns the descriptor to close. Raises StoreError when another process holds it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreError(
            f"{path} is in use by another process",
            remedy="stop the other node, or give this one its own data folder",
        ) from None
    return descriptor


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection with the settings above; transactions are begun and ended by hand."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        for setting in _SETTINGS:
            connection.execute(setting)
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check the file and create the schema in an empty one. Raises StoreError or sqlite3.Error."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables:
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
        return
    if application_id != APPLICATION_ID:
        raise StoreError(f"{path} is the database of another program", remedy="choose another store.url")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version}, this program knows {SCHEMA_VERSION}",
            remedy="run the version of trionode that wrote it, or move the file away",
        )
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise StoreError(f"{path} is damaged: {verdict}", remedy=_MOVE_AWAY)
