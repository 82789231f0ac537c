"""MemoryStore: the store without a disk, for the simulator and for tests. No threads, no waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TypeVar

import msgspec
import trio

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
    Row,
    SignedCopy,
)
from trionode.errors import StoreError
from trionode.store.mentions import mentions

_T = TypeVar("_T", bound=EventRow | SignedCopy)


class MemoryStore:
    """Keeps every document in dictionaries; forgets all of it with the object."""

    immediate = True

    def __init__(self) -> None:
        self._events: dict[EventKey, EventRow] = {}
        self._locations: dict[int, LocationRow] = {}
        self._installing: dict[tuple[str, str], InstallingRow] = {}
        self._errors: dict[tuple[str, str, str], InstallErrorRow] = {}
        self._copies: dict[CopyKey, SignedCopy] = {}
        self._meta: dict[str, str] = {}
        self._closed = False

    async def load(self) -> AsyncIterator[Row]:
        await trio.lowlevel.checkpoint()
        for row in self.rows():
            yield row

    def rows(self) -> list[Row]:
        """Every document at once (simulator invariants, tests)."""
        return [
            *self._events.values(),
            *self._locations.values(),
            *self._installing.values(),
            *self._errors.values(),
            *self._copies.values(),
        ]

    async def commit(self, changes: Sequence[Change]) -> None:
        await trio.lowlevel.checkpoint()
        self.commit_now(changes)

    def commit_now(self, changes: Sequence[Change]) -> None:
        if self._closed:
            raise StoreError("the store is closed", remedy="open it again")
        for change in changes:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        match change:
            case PutEvent(row=row):
                self._put_event(row)
            case PutLocation(row=location):
                self._locations[location.row_id] = location
            case DeleteLocation(row_id=row_id):
                self._locations.pop(row_id, None)
            case TouchEvent(key=key, received_at_ms=received_at_ms):
                event = self._events.get(key)
                if event is not None:
                    self._events[key] = msgspec.structs.replace(event, received_at_ms=received_at_ms)
            case DeleteEvent(key=key):
                self._events.pop(key, None)
            case PutInstalling(row=installing):
                self._installing[installing.ip, installing.name] = installing
            case DeleteInstalling(ip=ip, name=name):
                self._installing.pop((ip, name), None)
            case PutInstallError(row=error):
                self._errors[error.ip, error.name, error.hash] = error
            case DeleteInstallError(ip=ip, name=name, hash=hash_):
                self._errors.pop((ip, name, hash_), None)
            case PutCopy(copy=copy):
                self._copies[copy.key] = copy
            case DeleteCopy(key=copy_key):
                self._copies.pop(copy_key, None)

    def _put_event(self, row: EventRow) -> None:
        stored = self._events.get(row.key)
        if stored is not None:
            if row.type != EVICTED and row.at_ms <= stored.at_ms:
                return
            if row.received_at_ms is None:
                row = msgspec.structs.replace(row, received_at_ms=stored.received_at_ms)
        self._events[row.key] = row

    async def event(self, ip: str, kind: str, dedup_key: str) -> EventRow | None:
        await trio.lowlevel.checkpoint()
        return self._events.get((ip, kind, dedup_key))

    async def events_for(self, *, ip: str | None = None, name: str | None = None) -> Sequence[EventRow]:
        await trio.lowlevel.checkpoint()
        rows = [row for row in self._events.values() if ip is None or row.ip == ip]
        if name:
            ips = {row.ip for row in rows if mentions(row, name)}
            rows = [row for row in rows if row.ip in ips]
        return rows

    def stream_events(self, after_ms: int, *, page: int = 500) -> AsyncIterator[EventRow]:
        def wanted() -> Iterable[EventRow]:
            return (row for row in self._events.values() if row.at_ms > after_ms)

        return _paged(wanted, page)

    def stream_copies(self, kind: CopyKind, after_ms: int, *, page: int = 500) -> AsyncIterator[SignedCopy]:
        def wanted() -> Iterable[SignedCopy]:
            return (
                copy
                for copy in self._copies.values()
                if copy.kind == kind and copy.broadcasted_at_ms > after_ms
            )

        return _paged(wanted, page)

    async def signed_copy(self, key: CopyKey) -> SignedCopy | None:
        await trio.lowlevel.checkpoint()
        return self._copies.get(key)

    async def get_meta(self, key: str) -> str | None:
        await trio.lowlevel.checkpoint()
        return self._meta.get(key)

    async def put_meta(self, key: str, value: str) -> None:
        await trio.lowlevel.checkpoint()
        self._meta[key] = value

    async def counts(self) -> dict[str, int]:
        await trio.lowlevel.checkpoint()
        return {
            "events": len(self._events),
            "locations": len(self._locations),
            "installing": len(self._installing),
            "install_errors": len(self._errors),
            "signed_copies": len(self._copies),
        }

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self._closed = True


def _place(row: EventRow | SignedCopy) -> tuple[int, str, str, str]:
    at_ms = row.broadcasted_at_ms
    key = row.key
    return (-(1 << 62) if at_ms is None else at_ms, key[0], key[1], "/".join(key[2:]))


async def _paged(wanted: Callable[[], Iterable[_T]], page: int) -> AsyncIterator[_T]:
    """Page by page in order, looking again for each page: a replaced row is met at its new place."""
    last: tuple[int, str, str, str] | None = None
    while True:
        await trio.lowlevel.checkpoint()
        rows = sorted(
            (row for row in wanted() if last is None or _place(row) > last),
            key=_place,
        )[:page]
        for row in rows:
            yield row
        if len(rows) < page:
            return
        last = _place(rows[-1])
