"""The tables of the registry in SQLite, and their rows (docs/spec/registry.md §2).

`seq` is the order of insertion: the search for a predecessor walks messages in that order (§10). Columns
without a type hold a JavaScript number as it came. A text that is no valid Unicode (a lone surrogate, which
only an encrypted specification can smuggle in) is kept as a blob: equal texts stay equal, others differ.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from trionode.registry.rows import ChainMessageRow, CurrentSpec, HashRow, PermanentRow, TemporaryRow
from trionode.store.sqlite_file import Schema

Values: TypeAlias = tuple[Any, ...]

_TABLES = """
CREATE TABLE scanned (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    height INTEGER NOT NULL
);
INSERT INTO scanned (one, height) VALUES (1, 0);
CREATE TABLE block_hashes (
    height INTEGER PRIMARY KEY,
    hash TEXT NOT NULL
);
CREATE TABLE hashes (
    seq INTEGER PRIMARY KEY,
    txid TEXT NOT NULL,
    height INTEGER NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    value_sat INTEGER NOT NULL,
    message INTEGER NOT NULL,
    message_not_found INTEGER,
    sync_attempts INTEGER,
    next_retry_height INTEGER,
    retry_from_height INTEGER
);
CREATE INDEX hashes_by_height ON hashes (height);
CREATE INDEX hashes_missing ON hashes (height) WHERE message = 0;
CREATE TABLE permanents (
    seq INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    version NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    timestamp_ms NOT NULL,
    signature TEXT NOT NULL,
    txid TEXT NOT NULL,
    height INTEGER NOT NULL,
    value_sat INTEGER NOT NULL,
    spec_text TEXT NOT NULL
);
CREATE INDEX permanents_by_name ON permanents (name, height);
CREATE INDEX permanents_by_height ON permanents (height);
CREATE INDEX permanents_by_owner ON permanents (owner);
CREATE TABLE temporaries (
    seq INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    version NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    timestamp_ms NOT NULL,
    signature TEXT NOT NULL,
    received_at_ms INTEGER NOT NULL,
    expire_at_ms INTEGER NOT NULL,
    arcane_sender INTEGER,
    spec_text TEXT NOT NULL
);
CREATE TABLE current_specs (
    name TEXT PRIMARY KEY,
    hash TEXT NOT NULL,
    height INTEGER NOT NULL,
    spec_text TEXT NOT NULL
);
CREATE TABLE chain_messages (
    seq INTEGER PRIMARY KEY,
    txid TEXT NOT NULL UNIQUE,
    height INTEGER NOT NULL,
    message TEXT NOT NULL,
    version TEXT NOT NULL
);
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
"""

REGISTRY: Final = Schema(
    application_id=0x74726F72,  # "tror"
    version=1,
    statements=_TABLES,
    checkpoint_pages=4000,
)

HASH_COLUMNS = (
    "txid, height, hash, value_sat, message, message_not_found, sync_attempts,"
    " next_retry_height, retry_from_height"
)
PERMANENT_COLUMNS = (
    "hash, type, version, spec_text, name, owner, timestamp_ms, signature, txid, height, value_sat"
)
TEMPORARY_COLUMNS = (
    "hash, type, version, spec_text, name, owner, timestamp_ms, signature, received_at_ms,"
    " expire_at_ms, arcane_sender"
)
CURRENT_COLUMNS = "name, spec_text, hash, height"
CHAIN_MESSAGE_COLUMNS = "txid, height, message, version"


def text_value(text: str) -> str | bytes:
    """A text as SQLite can keep it."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def hash_values(row: HashRow) -> Values:
    return (
        row.txid,
        row.height,
        row.hash,
        row.value_sat,
        row.message,
        row.message_not_found,
        row.sync_attempts,
        row.next_retry_height,
        row.retry_from_height,
    )


def hash_row(values: Values) -> HashRow:
    return HashRow(
        values[0],
        values[1],
        values[2],
        values[3],
        bool(values[4]),
        _flag(values[5]),
        values[6],
        values[7],
        values[8],
    )


def permanent_values(row: PermanentRow) -> Values:
    return (
        text_value(row.hash),
        text_value(row.type),
        row.version,
        text_value(row.spec_text),
        text_value(row.name),
        text_value(row.owner),
        row.timestamp_ms,
        text_value(row.signature),
        row.txid,
        row.height,
        row.value_sat,
    )


def permanent_row(values: Values) -> PermanentRow:
    return PermanentRow(
        _text(values[0]),
        _text(values[1]),
        values[2],
        _text(values[3]),
        _text(values[4]),
        _text(values[5]),
        values[6],
        _text(values[7]),
        values[8],
        values[9],
        values[10],
    )


def temporary_values(row: TemporaryRow) -> Values:
    return (
        text_value(row.hash),
        text_value(row.type),
        row.version,
        text_value(row.spec_text),
        text_value(row.name),
        text_value(row.owner),
        row.timestamp_ms,
        text_value(row.signature),
        row.received_at_ms,
        row.expire_at_ms,
        row.arcane_sender,
    )


def temporary_row(values: Values) -> TemporaryRow:
    return TemporaryRow(
        _text(values[0]),
        _text(values[1]),
        values[2],
        _text(values[3]),
        _text(values[4]),
        _text(values[5]),
        values[6],
        _text(values[7]),
        values[8],
        values[9],
        _flag(values[10]),
    )


def current_values(row: CurrentSpec) -> Values:
    return (text_value(row.name), text_value(row.spec_text), text_value(row.hash), row.height)


def current_row(values: Values) -> CurrentSpec:
    return CurrentSpec(_text(values[0]), _text(values[1]), _text(values[2]), values[3])


def chain_message_values(row: ChainMessageRow) -> Values:
    return (row.txid, row.height, text_value(row.message), text_value(row.version))


def chain_message_row(values: Values) -> ChainMessageRow:
    return ChainMessageRow(values[0], values[1], _text(values[2]), _text(values[3]))
