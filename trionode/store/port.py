"""Store: the port behind which the event log is kept (docs/spec/events.md §2, §3).

A store speaks in documents and changes. The rules have been applied before; the only one a store repeats
is that an event never replaces a newer one. `commit` is atomic, and what it acknowledged survives the
sudden death of the process. All methods raise StoreError, which says what to do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from trionode.appstate.changes import Change
from trionode.appstate.documents import CopyKey, CopyKind, EventRow, Row, SignedCopy
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters


class Store(Protocol):
    """Documents of the event log, and a few named values (`meta`)."""

    @property
    def immediate(self) -> bool:
        """True when `commit_now` may be used: committing takes no waiting and no thread."""
        ...

    def load(self) -> AsyncIterator[Row]:
        """Every stored document, kind by kind; used at start."""
        ...

    async def commit(self, changes: Sequence[Change]) -> None:
        """Store all changes or none of them. Durable when it returns."""
        ...

    def commit_now(self, changes: Sequence[Change]) -> None:
        """`commit` without waiting; only on an `immediate` store."""
        ...

    async def event(self, ip: str, kind: str, dedup_key: str) -> EventRow | None:
        """One event with its text."""
        ...

    async def events_for(self, *, ip: str | None = None, name: str | None = None) -> Sequence[EventRow]:
        """All events of an address; or of every address with an event that mentions the app `name`."""
        ...

    def stream_events(self, after_ms: int, *, page: int = 500) -> AsyncIterator[EventRow]:
        """Events with broadcastedAt or createdAt > `after_ms`, ascending by broadcastedAt, those without
        it (evictions) first. An event replaced meanwhile comes at its new place."""
        ...

    def stream_copies(self, kind: CopyKind, after_ms: int, *, page: int = 500) -> AsyncIterator[SignedCopy]:
        """Signed copies with broadcastedAt > `after_ms`, ascending by broadcastedAt."""
        ...

    async def signed_copy(self, key: CopyKey) -> SignedCopy | None:
        """One signed copy."""
        ...

    async def get_meta(self, key: str) -> str | None:
        """A named value, None when never put."""
        ...

    async def put_meta(self, key: str, value: str) -> None:
        """Put a named value, durable when it returns."""
        ...

    async def counts(self) -> dict[str, int]:
        """Number of documents of each kind: events, locations, installing, install_errors, signed_copies."""
        ...

    async def aclose(self) -> None:
        """Close; a second call does nothing."""
        ...


class StoreServer(Protocol):
    """What the stores of a node are on: a database server, or the disk of SQLite files."""

    @property
    def is_connected(self) -> bool:
        """Whether all of it works: False while it cannot be reached, or not be written."""
        ...

    @property
    def is_readable(self) -> bool:
        """Whether it answers questions."""
        ...

    def document(self) -> dict[str, Any]:
        """For the status of the node."""
        ...

    def report_to(self, counters: Counters, bus: EventBus) -> None:
        """From now on count there, and publish `store:connection` {connected, server, problem}."""
        ...
