"""The tables of the event log in SQLite (docs/spec/events.md §2, §3)."""

from __future__ import annotations

from typing import Final

from trionode.store.sqlite_file import Schema

# Times are milliseconds since 1970. `data` is the signed text, never changed after it is written. Columns
# without a type hold a JavaScript value: a number as such, anything else as its JSON text.
_TABLES = """
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

EVENT_LOG: Final = Schema(application_id=0x74726F6E, version=1, statements=_TABLES)  # "tron"
