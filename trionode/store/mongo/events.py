"""MongoStore: the event log in the database every node of the network knows (docs/spec/events.md §2, §3).

Location rows are told apart by `_id`: ours are numbers (the row id), those of another node keep the `_id`
they have and get a row id for as long as this process runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from bson import Int64, ObjectId
from pymongo import ASCENDING
from pymongo.collection import Collection

from trionode.appstate.changes import Change
from trionode.appstate.documents import (
    APPREMOVED,
    APPRUNNING,
    CopyKey,
    CopyKind,
    EventRow,
    InstallErrorRow,
    InstallingRow,
    Row,
    SignedCopy,
)
from trionode.errors import StoreError, WireError
from trionode.runtime.logs import get_logger
from trionode.store.mentions import mentions
from trionode.store.mongo.connection import MongoServer, Session
from trionode.store.mongo.events_plan import (
    COPIES,
    DATABASE,
    ERRORS,
    EVENTS,
    INDEXES,
    INSTALLING,
    LOCATIONS,
    plan,
)
from trionode.store.mongo.indexes import ensure
from trionode.store.mongo.named_values import get_value, put_value
from trionode.store.mongo.passed_over import EVENTS as STRANGE
from trionode.store.mongo.passed_over import UNREADABLE, find_passed_over, tell_passed_over
from trionode.store.mongo.shapes_events import (
    copy_key,
    copy_row,
    error_row,
    event_key,
    event_row,
    installing_row,
    location_row,
)
from trionode.store.mongo.values import date, safe_text
from trionode.store.mongo.writes import Document, Writes
from trionode.store.port import Store

SCOPE = "events"

_T = TypeVar("_T")
_LOAD_PAGE = 2000  # measured: docs/storage.md
_FIRST = Int64(-(2**63))

log = get_logger("store.mongo")


class MongoStore(Store):
    """The event log on MongoDB. `open` before use; the server is closed by who opened it."""

    immediate = False

    def __init__(self, server: MongoServer) -> None:
        self._server = server
        self._closed = False
        self._foreign: dict[int, Any] = {}
        self._row_ids: dict[Any, int] = {}
        self._last_row_id = 0
        self._has_told = False

    async def open(self) -> None:
        """Finish an interrupted commit, create what is missing. Raises StoreError."""
        await self._server.recover(SCOPE)

        def work() -> None:
            database = self._server.database(DATABASE)
            for wanted in INDEXES:
                ensure(database, wanted)

        await self._server.call(work, doing="prepare", writes=True)

    async def aclose(self) -> None:
        """Close; a second call does nothing. A commit that runs is waited for."""
        async with self._server.quiet(SCOPE):
            self._closed = True

    # Writing

    async def commit(self, changes: Sequence[Change]) -> None:
        self._check_open()

        def build(session: Session) -> tuple[list[Writes], None]:
            return plan(changes, self._location_key), None

        await self._server.commit(SCOPE, build)

    def commit_now(self, changes: Sequence[Change]) -> None:
        raise StoreError("the MongoDB store does not commit without waiting", remedy="use commit")

    async def put_meta(self, key: str, value: str) -> None:
        self._check_open()
        await put_value(self._server, SCOPE, key, value)

    def _location_key(self, row_id: int) -> Any:
        return self._foreign.get(row_id, row_id)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed", remedy="open it again")

    # Reading

    async def load(self) -> AsyncIterator[Row]:
        if not self._has_told:
            strange = await self._server.call(lambda: find_passed_over(self._server.database, STRANGE))
            tell_passed_over(strange, self._server.counters)
            self._has_told = True
        async for event in self._all(EVENTS, event_row):
            yield event
        async for location in self._all(LOCATIONS, self._location):
            yield location
        # The other node keeps (name, ip) apart only by looking first: of two the newer one counts.
        installing: dict[tuple[str, str], InstallingRow] = {}
        async for row in self._all(INSTALLING, installing_row):
            other = installing.get((row.name, row.ip))
            if other is None or other.broadcasted_at_ms <= row.broadcasted_at_ms:
                installing[row.name, row.ip] = row
        for row in installing.values():
            yield row
        errors: dict[tuple[str, str, str], InstallErrorRow] = {}
        async for error in self._all(ERRORS, error_row):
            former = errors.get((error.name, error.hash, error.ip))
            if former is None or former.broadcasted_at_ms <= error.broadcasted_at_ms:
                errors[error.name, error.hash, error.ip] = error
        for error in errors.values():
            yield error
        for kind in COPIES:
            async for copy in self._all(COPIES[kind], _copies(kind)):
                yield copy

    def _location(self, document: Document) -> Row:
        key = document["_id"]
        row_id = int(key) if isinstance(key, int) else self._row_ids.get(key) or self._last_row_id + 1
        row = location_row(document, row_id)
        self._last_row_id = max(self._last_row_id, row_id)
        if not isinstance(key, int):
            self._row_ids[key] = row_id
            self._foreign[row_id] = key
        return row

    async def event(self, ip: str, kind: str, dedup_key: str) -> EventRow | None:
        def work() -> EventRow | None:
            found = self._collection(EVENTS).find_one(event_key((ip, kind, dedup_key)))
            return None if found is None else self._readable(event_row, found)

        return await self._server.call(work)

    async def events_for(self, *, ip: str | None = None, name: str | None = None) -> Sequence[EventRow]:
        return await self._server.call(lambda: self._events_for(ip, name))

    def _events_for(self, ip: str | None, name: str | None) -> list[EventRow]:
        events = self._collection(EVENTS)
        wanted: Document = {} if ip is None else {"ip": safe_text(ip)}
        if name:
            # Compared here: no text of a user becomes a pattern of the database.
            told = {**wanted, "type": {"$in": [APPRUNNING, APPREMOVED]}}
            rows = self._rows(event_row, events.find(told))
            wanted = {"ip": {"$in": sorted({safe_text(row.ip) for row in rows if mentions(row, name)})}}
        return self._rows(event_row, events.find(wanted))

    async def stream_events(self, after_ms: int, *, page: int = 500) -> AsyncIterator[EventRow]:
        # Evictions have no broadcastedAt and come first (§10.2).
        evicted = {"broadcastedAt": None, "createdAt": {"$gt": date(after_ms)}}
        async for row in self._by_id(EVENTS, evicted, event_row, page):
            yield row
        async for row in self._by_time(EVENTS, after_ms, event_row, page):
            yield row

    async def stream_copies(
        self, kind: CopyKind, after_ms: int, *, page: int = 500
    ) -> AsyncIterator[SignedCopy]:
        async for copy in self._by_time(COPIES[kind], after_ms, _copies(kind), page):
            yield copy

    async def signed_copy(self, key: CopyKey) -> SignedCopy | None:
        kind = key[0]

        def work() -> SignedCopy | None:
            found = self._collection(COPIES[kind]).find_one(copy_key(*key))
            return None if found is None else self._readable(_copies(kind), found)

        return await self._server.call(work)

    async def get_meta(self, key: str) -> str | None:
        return await get_value(self._server, SCOPE, key)

    async def counts(self) -> dict[str, int]:
        def work() -> dict[str, int]:
            def count(name: str) -> int:
                return self._collection(name).count_documents({})

            return {
                "events": count(EVENTS),
                "locations": count(LOCATIONS),
                "installing": count(INSTALLING),
                "install_errors": count(ERRORS),
                "signed_copies": sum(count(name) for name in COPIES.values()),
            }

        async with self._server.settled(SCOPE):
            return await self._server.call(work)

    # Pages

    def _all(self, name: str, row_of: Callable[[Document], _T]) -> AsyncIterator[_T]:
        return self._by_id(name, {}, row_of, _LOAD_PAGE)

    async def _by_id(
        self, name: str, wanted: Mapping[str, Any], row_of: Callable[[Document], _T], page: int
    ) -> AsyncIterator[_T]:
        # Two kinds of `_id` take two walks: a comparison never crosses from numbers to object ids.
        for first in (_FIRST, ObjectId(b"\0" * 12)):
            start: Document = {"$gte": first}
            while True:
                where = {**wanted, "_id": start}
                rows, last = await self._page(name, where, [("_id", ASCENDING)], page, row_of)
                for row in rows:
                    yield row
                if last is None:
                    break
                start = {"$gt": last["_id"]}

    async def _by_time(
        self, name: str, after_ms: int, row_of: Callable[[Document], _T], page: int
    ) -> AsyncIterator[_T]:
        after: Any = date(after_ms)
        while after is not None:
            rows, after = await self._server.call(partial(self._time_page, name, after, row_of, page))
            for row in rows:
                yield row

    def _time_page(
        self, name: str, after: Any, row_of: Callable[[Document], _T], page: int
    ) -> tuple[list[_T], Any]:
        """Documents later than `after`, about a page of them and whole moments only; and the last moment.

        So the index of the moments alone gives the order, and nothing has to be sorted.
        """
        collection, moment = self._collection(name), "broadcastedAt"
        later = collection.find({moment: {"$gt": after}}).sort(moment, ASCENDING)
        found = list(later.limit(page + 1).batch_size(page + 2))
        if len(found) <= page:
            return self._rows(row_of, found), None
        last = found[page - 1][moment]
        if found.pop()[moment] == last:
            found = [document for document in found if document[moment] != last]
            found += collection.find({moment: last})
        return self._rows(row_of, found), last

    async def _page(
        self,
        name: str,
        wanted: Mapping[str, Any],
        order: list[tuple[str, int]],
        page: int,
        row_of: Callable[[Document], _T],
    ) -> tuple[list[_T], Document | None]:
        """One page, made into rows in the thread; and its last document, None on the last page."""

        def work() -> tuple[list[_T], Document | None]:
            found = list(self._collection(name).find(wanted).sort(order).limit(page).batch_size(page))
            return self._rows(row_of, found), found[-1] if len(found) == page else None

        return await self._server.call(work)

    def _collection(self, name: str) -> Collection[Document]:
        return self._server.database(DATABASE)[name]

    def _rows(self, row_of: Callable[[Document], _T], documents: Iterable[Document]) -> list[_T]:
        rows = (self._readable(row_of, document) for document in documents)
        return [row for row in rows if row is not None]

    def _readable(self, row_of: Callable[[Document], _T], document: Document) -> _T | None:
        """The row, or None for a document that is not what its collection should hold: left alone."""
        try:
            return row_of(document)
        except (ValueError, TypeError, LookupError, AttributeError, WireError) as error:
            # Whatever another program put there: one document must not keep the node from starting.
            self._server.counters.add(UNREADABLE)
            log.warning("a document was passed over", key=str(document.get("_id")), problem=str(error))
            return None


def _copies(kind: CopyKind) -> Callable[[Document], SignedCopy]:
    return lambda document: copy_row(kind, document)
