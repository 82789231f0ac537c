"""What one commit of the event log writes, collection by collection.

Of several changes to one document only the outcome is written. An event is written by two plain guarded
updates next to each other: "add it if there is none" and "replace it if it is older", so whatever another
writer does in between, the newest stays, and of two of the same moment the first (docs/spec/events.md §3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

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
    CopyKey,
    CopyKind,
    EventKey,
    EventRow,
    InstallErrorRow,
    InstallingRow,
    LocationRow,
    SignedCopy,
)
from trionode.store.mongo.indexes import Index, Indexes
from trionode.store.mongo.shapes_events import (
    EXACT,
    copy_document,
    copy_key,
    error_document,
    event_document,
    event_key,
    installing_document,
    location_document,
)
from trionode.store.mongo.values import date, safe_text
from trionode.store.mongo.writes import Delete, Document, Replace, Update, Write, Writes

DATABASE = "globalzelapps"
EVENTS = "appstateevents"
LOCATIONS = "zelappslocation"
INSTALLING = "appsinstallinglocations"
ERRORS = "appsInstallingErrorsLocations"
COPIES: dict[CopyKind, str] = {
    "installing": "fluxappinstallingbroadcasts",
    "error": "fluxappinstallingerrorsbroadcasts",
}

_AT_EXPIRY = Index(("expireAt",), expire_after_s=0)
_BY_TIME = Index(("broadcastedAt",))
INDEXES = (
    Indexes(
        EVENTS,
        (_AT_EXPIRY, Index(("ip", "type", "dedupKey"), unique=True), _BY_TIME, Index(("createdAt",))),
    ),
    Indexes(LOCATIONS, (_AT_EXPIRY, Index(("name",)), Index(("ip", "name"))), ("broadcastedAt_1",)),
    Indexes(INSTALLING, (_AT_EXPIRY, Index(("name",)), Index(("name", "ip"))), ("broadcastedAt_1",)),
    Indexes(COPIES["installing"], (_AT_EXPIRY, _BY_TIME, Index(("data.name", "data.ip"), unique=True))),
    Indexes(
        ERRORS,
        (_AT_EXPIRY, Index(("name",)), Index(("name", "hash")), Index(("name", "hash", "ip"))),
        ("broadcastedAt_1", "cachedAt_1"),
    ),
    Indexes(
        COPIES["error"],
        (_AT_EXPIRY, _BY_TIME, Index(("data.name", "data.hash", "data.ip"), unique=True)),
    ),
)

_CHANGING = ("broadcastedAt", "createdAt", "expireAt", "data", "envelope", EXACT)


class _EventOutcome:
    """What is left to do with one event: perhaps delete, then perhaps write, perhaps only touch."""

    __slots__ = ("deleted", "received_at_ms", "row")

    def __init__(self) -> None:
        self.deleted = False
        self.row: EventRow | None = None
        self.received_at_ms: int | None = None


def plan(changes: Sequence[Change], location_key: Callable[[int], Any]) -> list[Writes]:
    """The writes of a commit. `location_key` says under which `_id` a location row is stored."""
    return _Plan(changes).writes(location_key)


class _Plan:
    def __init__(self, changes: Sequence[Change]) -> None:
        self._events: dict[EventKey, _EventOutcome] = {}
        self._locations: dict[int, LocationRow | None] = {}
        self._installing: dict[tuple[str, str], InstallingRow | None] = {}
        self._errors: dict[tuple[str, str, str], InstallErrorRow | None] = {}
        self._copies: dict[CopyKey, SignedCopy | None] = {}
        for change in changes:
            self._add(change)

    def _add(self, change: Change) -> None:
        match change:
            case PutLocation(row=row):
                self._locations[row.row_id] = row
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
                self._installing[installing.ip, installing.name] = installing
            case DeleteInstalling(ip=ip, name=name):
                self._installing[ip, name] = None
            case PutInstallError(row=error):
                self._errors[error.ip, error.name, error.hash] = error
            case DeleteInstallError(ip=ip, name=name, hash=hash_):
                self._errors[ip, name, hash_] = None
            case PutCopy(copy=copy):
                self._copies[copy.key] = copy
            case DeleteCopy(key=copy_key_):
                self._copies[copy_key_] = None

    def writes(self, location_key: Callable[[int], Any]) -> list[Writes]:
        parts = [
            (EVENTS, self._event_writes()),
            (LOCATIONS, self._location_writes(location_key)),
            (INSTALLING, self._installing_writes()),
            (ERRORS, self._error_writes()),
            *((COPIES[kind], self._copy_writes(kind)) for kind in COPIES),
        ]
        return [Writes(DATABASE, collection, writes) for collection, writes in parts if writes]

    def _event_writes(self) -> list[Write]:
        events = self._events.items()
        writes: list[Write] = [Delete(event_key(key)) for key, left in events if left.deleted]
        for key, left in events:
            if left.row is not None:
                writes += put_event(left.row, left.received_at_ms)
            elif left.received_at_ms is not None:
                update = {"$set": {"receivedAt": date(left.received_at_ms)}}
                writes.append(Update(event_key(key), update))
        return writes

    def _location_writes(self, location_key: Callable[[int], Any]) -> list[Write]:
        gone = [row_id for row_id, row in self._locations.items() if row is None]
        writes: list[Write] = [Delete({"_id": location_key(row_id)}) for row_id in gone]
        for row_id, row in self._locations.items():
            if row is not None:
                key = location_key(row_id)
                writes.append(Replace({"_id": key}, location_document(row, key)))
        return writes

    def _installing_writes(self) -> list[Write]:
        rows = ((_of(name=name, ip=ip), row) for (ip, name), row in self._installing.items())
        return _puts_and_deletes(rows, installing_document)

    def _error_writes(self) -> list[Write]:
        rows = ((_of(name=name, hash=hash_, ip=ip), row) for (ip, name, hash_), row in self._errors.items())
        return _puts_and_deletes(rows, error_document)

    def _copy_writes(self, kind: CopyKind) -> list[Write]:
        rows = ((copy_key(*key), copy) for key, copy in self._copies.items() if key[0] == kind)
        return _puts_and_deletes(rows, copy_document)


def put_event(row: EventRow, received_at_ms: int | None) -> list[Write]:
    """Store one event unless one at least as new is there; an eviction always."""
    key, document = event_key(row.key), event_document(row)
    changing = {name: document[name] for name in _CHANGING if name in document}
    if received_at_ms is not None:
        changing["receivedAt"] = date(received_at_ms)
    if row.type == EVICTED:
        return [Update(key, {"$set": changing}, upsert=True)]
    replace: Document = {"$set": changing}
    if EXACT not in changing:
        replace["$unset"] = {EXACT: ""}
    # No broadcastedAt counts as the oldest, as `null` here also stands for "has none".
    older = {**key, "$or": [{"broadcastedAt": {"$lt": date(row.at_ms)}}, {"broadcastedAt": None}]}
    return [Update(key, {"$setOnInsert": changing}, upsert=True), Update(older, replace)]


def _of(**values: str) -> Document:
    return {name: safe_text(value) for name, value in values.items()}


def _puts_and_deletes(
    rows: Iterable[tuple[Document, Any]], document_of: Callable[[Any], Document]
) -> list[Write]:
    """Deletions first, so that both kinds take one round trip each."""
    gone: list[Write] = []
    puts: list[Write] = []
    for key, row in rows:
        if row is None:
            gone.append(Delete(key, many=True))
        else:
            puts.append(Replace(key, document_of(row)))
    return gone + puts
