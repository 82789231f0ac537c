"""Documents to SQLite rows and back, and the group of changes of one commit.

Of several changes to one document only the outcome is written, so a group costs one statement a document.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from trionode.appstate.changes import (
    Change,
    DeleteCopy,
    DeleteEvent,
    DeleteInstallError,
    DeleteInstalling,
    DeleteLocation,
    PutCopy,
    PutEvent,
    PutInstallError,
    PutInstalling,
    PutLocation,
    TouchEvent,
)
from trionode.appstate.documents import (
    EVICTED,
    EventKey,
    EventRow,
    InstallErrorRow,
    InstallingRow,
    LocationRow,
    Signed,
    SignedCopy,
)
from trionode.wire.jsjson import JsValue, parse, stringify

Values: TypeAlias = tuple[Any, ...]

EVENT_COLUMNS = (
    "ip, type, dedup_key, broadcasted_at, created_at, expire_at, received_at, data,"
    " version, timestamp, pub_key, signature"
)
LOCATION_COLUMNS = "row_id, name, hash, ip, broadcasted_at, expire_at, running_since, os_uptime, static_ip"
INSTALLING_COLUMNS = "name, ip, broadcasted_at, expire_at"
ERROR_COLUMNS = "name, hash, ip, error, broadcasted_at, expire_at"
COPY_COLUMNS = (
    "kind, ip, name, hash, broadcasted_at, expire_at, received_at, data,"
    " version, timestamp, pub_key, signature"
)

_PUT_EVENT = f"""
INSERT INTO events ({EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (ip, type, dedup_key) DO UPDATE SET
    broadcasted_at = excluded.broadcasted_at, created_at = excluded.created_at,
    expire_at = excluded.expire_at, received_at = coalesce(excluded.received_at, received_at),
    data = excluded.data, version = excluded.version, timestamp = excluded.timestamp,
    pub_key = excluded.pub_key, signature = excluded.signature
WHERE excluded.broadcasted_at IS NULL OR excluded.broadcasted_at > coalesce(broadcasted_at, 0)
"""
_TOUCH_EVENT = "UPDATE events SET received_at = ? WHERE ip = ? AND type = ? AND dedup_key = ?"
_DELETE_EVENT = "DELETE FROM events WHERE ip = ? AND type = ? AND dedup_key = ?"
_PUT_LOCATION = f"INSERT OR REPLACE INTO locations ({LOCATION_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DELETE_LOCATION = "DELETE FROM locations WHERE row_id = ?"
_PUT_INSTALLING = f"INSERT OR REPLACE INTO installing ({INSTALLING_COLUMNS}) VALUES (?, ?, ?, ?)"
_DELETE_INSTALLING = "DELETE FROM installing WHERE ip = ? AND name = ?"
_PUT_ERROR = f"INSERT OR REPLACE INTO install_errors ({ERROR_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
_DELETE_ERROR = "DELETE FROM install_errors WHERE ip = ? AND name = ? AND hash = ?"
_PUT_COPY = (
    f"INSERT OR REPLACE INTO signed_copies ({COPY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_DELETE_COPY = "DELETE FROM signed_copies WHERE kind = ? AND ip = ? AND name = ? AND hash = ?"


def to_column(value: JsValue) -> Any:
    """A JavaScript value for an untyped column."""
    kind = type(value)
    if value is None or kind is int or kind is float:
        return value
    return stringify(value)


def from_column(value: Any) -> JsValue:
    return parse(value) if isinstance(value, str) else value


def event_values(row: EventRow, received_at_ms: int | None) -> Values:
    signed = row.signed
    head = (
        row.ip,
        row.type,
        row.dedup_key,
        row.broadcasted_at_ms,
        row.created_at_ms,
        row.expire_at_ms,
        received_at_ms,
        row.data_text,
    )
    return head + (signed_values(signed) if signed is not None else (None, None, None, None))


def signed_values(signed: Signed) -> Values:
    return (to_column(signed.version), to_column(signed.timestamp), signed.pub_key, signed.signature)


def event_row(values: Values) -> EventRow:
    signed = None
    if values[11] is not None:
        signed = Signed(from_column(values[8]), from_column(values[9]), values[10], values[11])
    return EventRow(
        values[0],
        values[1],
        values[2],
        values[5],
        broadcasted_at_ms=values[3],
        created_at_ms=values[4],
        received_at_ms=values[6],
        data_text=values[7],
        signed=signed,
    )


def location_values(row: LocationRow) -> Values:
    return (
        row.row_id,
        row.name,
        row.hash,
        row.ip,
        row.broadcasted_at_ms,
        row.expire_at_ms,
        row.running_since_ms,
        to_column(row.os_uptime),
        to_column(row.static_ip),
    )


def location_row(values: Values) -> LocationRow:
    row_id, name, hash_, ip, at_ms, expire_at_ms, since_ms, os_uptime, static_ip = values
    return LocationRow(
        row_id,
        name,
        hash_,
        ip,
        at_ms,
        expire_at_ms,
        since_ms,
        from_column(os_uptime),
        from_column(static_ip),
    )


def installing_row(values: Values) -> InstallingRow:
    return InstallingRow(*values)


def error_row(values: Values) -> InstallErrorRow:
    return InstallErrorRow(*values)


def copy_values(copy: SignedCopy) -> Values:
    head = (copy.kind, copy.ip, copy.name, copy.hash, copy.broadcasted_at_ms, copy.expire_at_ms)
    return (*head, copy.received_at_ms, copy.data_text, *signed_values(copy.signed))


def copy_row(values: Values) -> SignedCopy:
    kind, ip, name, hash_, at_ms, expire_at_ms, received_at_ms, data_text = values[:8]
    signed = Signed(from_column(values[8]), from_column(values[9]), values[10], values[11])
    return SignedCopy(kind, ip, name, hash_, at_ms, expire_at_ms, received_at_ms, data_text, signed)


class _EventOutcome:
    """What is left to do with one event: perhaps delete, then perhaps write, perhaps only touch."""

    __slots__ = ("deleted", "received_at_ms", "row")

    def __init__(self) -> None:
        self.deleted = False
        self.row: EventRow | None = None
        self.received_at_ms: int | None = None


class Group:
    """The outcome of a sequence of changes, document by document."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self._events: dict[EventKey, _EventOutcome] = {}
        self._locations: dict[int, Values | None] = {}
        self._installing: dict[Values, Values | None] = {}
        self._errors: dict[Values, Values | None] = {}
        self._copies: dict[Values, Values | None] = {}
        for change in changes:
            self._add(change)

    def _add(self, change: Change) -> None:
        match change:
            case PutLocation(row=row):
                self._locations[row.row_id] = location_values(row)
            case PutEvent(row=event):
                outcome = self._events.setdefault(event.key, _EventOutcome())
                if outcome.row is not None and event.type != EVICTED and event.at_ms <= outcome.row.at_ms:
                    return
                outcome.row = event
                if event.received_at_ms is not None:
                    outcome.received_at_ms = event.received_at_ms
            case TouchEvent(key=key, received_at_ms=received_at_ms):
                self._events.setdefault(key, _EventOutcome()).received_at_ms = received_at_ms
            case DeleteEvent(key=key):
                outcome = self._events[key] = _EventOutcome()
                outcome.deleted = True
            case DeleteLocation(row_id=row_id):
                self._locations[row_id] = None
            case PutInstalling(row=installing):
                values = (
                    installing.name,
                    installing.ip,
                    installing.broadcasted_at_ms,
                    installing.expire_at_ms,
                )
                self._installing[installing.ip, installing.name] = values
            case DeleteInstalling(ip=ip, name=name):
                self._installing[ip, name] = None
            case PutInstallError(row=error):
                self._errors[error.ip, error.name, error.hash] = (
                    error.name,
                    error.hash,
                    error.ip,
                    error.error,
                    error.broadcasted_at_ms,
                    error.expire_at_ms,
                )
            case DeleteInstallError(ip=ip, name=name, hash=hash_):
                self._errors[ip, name, hash_] = None
            case PutCopy(copy=copy):
                self._copies[copy.key] = copy_values(copy)
            case DeleteCopy(key=copy_key):
                self._copies[copy_key] = None

    def write(self, connection: sqlite3.Connection) -> None:
        """Execute the statements; the caller holds the transaction."""
        run = connection.executemany
        events = self._events.items()
        _some(run, _DELETE_EVENT, [key for key, left in events if left.deleted])
        puts = [event_values(left.row, left.received_at_ms) for _, left in events if left.row is not None]
        _some(run, _PUT_EVENT, puts)
        touches = [
            (left.received_at_ms, *key) for key, left in events if left.row is None and not left.deleted
        ]
        _some(run, _TOUCH_EVENT, touches)
        rows = self._locations.items()
        _some(run, _DELETE_LOCATION, [(row_id,) for row_id, values in rows if values is None])
        _some(run, _PUT_LOCATION, [values for _, values in rows if values is not None])
        for put, delete, documents in (
            (_PUT_INSTALLING, _DELETE_INSTALLING, self._installing),
            (_PUT_ERROR, _DELETE_ERROR, self._errors),
            (_PUT_COPY, _DELETE_COPY, self._copies),
        ):
            _some(run, delete, [key for key, values in documents.items() if values is None])
            _some(run, put, [values for values in documents.values() if values is not None])


def _some(run: Callable[[str, list[Values]], Any], statement: str, values: list[Any]) -> None:
    if values:
        run(statement, values)
