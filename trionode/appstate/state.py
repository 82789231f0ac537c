"""AppState: everything the rules compare with, in memory (docs/spec/events.md §3, §5, §7).

It is the fold of `Change` values and holds no payload texts; those live in the store. Every record belongs
to one address, so one heap entry per address is enough to expire all of them at the exact moment.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

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
    CopyKey,
    EventKey,
    EventRow,
    InstallErrorRow,
    InstallingRow,
    LocationRow,
    Row,
    SignedCopy,
)
from trionode.appstate.facts import fact_of
from trionode.appstate.index import LocationIndex
from trionode.appstate.windows import Windows

_NEVER = 1 << 62


class Address:
    """The records of one address beside its events. Empty collections are None to stay small."""

    __slots__ = ("copies", "deadline_ms", "errors", "installing", "rows")

    def __init__(self) -> None:
        # A name has more than one row only after a change of address (§4.3, W57); the oldest comes first.
        self.rows: dict[str, tuple[LocationRow, ...]] = {}
        self.installing: dict[str, InstallingRow] | None = None
        self.errors: dict[tuple[str, str], InstallErrorRow] | None = None
        self.copies: dict[CopyKey, int] | None = None
        self.deadline_ms = _NEVER

    @property
    def is_empty(self) -> bool:
        return not (self.rows or self.installing or self.errors or self.copies)


class AppState:
    """The state of the event log. `apply` folds a change in, `advance` expires, the rest answers."""

    def __init__(self, windows: Windows, now_ms: int = -_NEVER) -> None:
        self.windows = windows
        self.index = LocationIndex(windows, now_ms)
        self._addresses: dict[str, Address] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._last_row_id = 0

    @classmethod
    def from_rows(cls, windows: Windows, rows: Iterable[Row], now_ms: int) -> AppState:
        """Rebuild the state from stored documents. Raises WireError when a stored text is damaged."""
        state = cls(windows, now_ms)
        for row in rows:
            state.load(row)
        return state

    def load(self, row: Row) -> None:
        """Fold one stored document in."""
        if isinstance(row, EventRow):
            self.apply(PutEvent(row, fact_of(row)))
        elif isinstance(row, LocationRow):
            self.apply(PutLocation(row))
        elif isinstance(row, InstallingRow):
            self.apply(PutInstalling(row))
        elif isinstance(row, InstallErrorRow):
            self.apply(PutInstallError(row))
        else:
            self.apply(PutCopy(row))

    # Folding

    def apply(self, change: Change) -> None:
        """Fold one change. Deleting what is not there does nothing."""
        match change:
            case PutLocation(row=row):
                self._put_location(row)
            case PutEvent(row=row, fact=fact):
                self.index.put(row.key, fact)
                self._expires(row.ip, row.expire_at_ms)
            case DeleteLocation(row_id=row_id, name=name, ip=ip):
                self._delete_location(row_id, name, ip)
            case DeleteEvent(key=key):
                self.index.remove(key)
            case TouchEvent():
                pass  # receivedAt is of no use to any rule
            case PutInstalling(row=installing):
                self._put_installing(installing)
            case PutInstallError(row=error):
                self._put_error(error)
            case PutCopy(copy=copy):
                self._put_copy(copy)
            case DeleteInstalling(ip=ip, name=name):
                address = self._addresses.get(ip)
                if address is not None and address.installing is not None:
                    address.installing.pop(name, None)
            case DeleteInstallError(ip=ip, name=name, hash=hash_):
                address = self._addresses.get(ip)
                if address is not None and address.errors is not None:
                    address.errors.pop((name, hash_), None)
            case DeleteCopy(key=copy_key):
                address = self._addresses.get(copy_key[1])
                if address is not None and address.copies is not None:
                    address.copies.pop(copy_key, None)

    def _address(self, ip: str) -> Address:
        address = self._addresses.get(ip)
        if address is None:
            address = self._addresses[ip] = Address()
        return address

    def _expires(self, ip: str, expire_at_ms: int) -> None:
        address = self._address(ip)
        # One heap entry an address: an earlier one that is already there looks at everything anyway.
        if expire_at_ms < address.deadline_ms:
            address.deadline_ms = expire_at_ms
            heapq.heappush(self._deadlines, (expire_at_ms, ip))

    def _put_location(self, row: LocationRow) -> None:
        rows = self._address(row.ip).rows
        others = rows.get(row.name)
        if others is None or (len(others) == 1 and others[0].row_id == row.row_id):
            rows[row.name] = (row,)
        else:
            kept = [other for other in others if other.row_id != row.row_id]
            rows[row.name] = tuple(sorted((*kept, row), key=_row_id))
        self._last_row_id = max(self._last_row_id, row.row_id)
        self._expires(row.ip, row.expire_at_ms)

    def _delete_location(self, row_id: int, name: str, ip: str) -> None:
        address = self._addresses.get(ip)
        rows = address.rows.get(name) if address is not None else None
        if address is None or rows is None:
            return
        left = tuple(row for row in rows if row.row_id != row_id)
        if left:
            address.rows[name] = left
        else:
            del address.rows[name]

    def _put_installing(self, row: InstallingRow) -> None:
        address = self._address(row.ip)
        if address.installing is None:
            address.installing = {}
        address.installing[row.name] = row
        self._expires(row.ip, row.expire_at_ms)

    def _put_error(self, row: InstallErrorRow) -> None:
        address = self._address(row.ip)
        if address.errors is None:
            address.errors = {}
        address.errors[row.name, row.hash] = row
        self._expires(row.ip, row.expire_at_ms)

    def _put_copy(self, copy: SignedCopy) -> None:
        address = self._address(copy.ip)
        if address.copies is None:
            address.copies = {}
        address.copies[copy.key] = copy.expire_at_ms
        self._expires(copy.ip, copy.expire_at_ms)

    # Time

    def next_deadline_ms(self) -> int | None:
        """The next moment at which something expires or a served answer changes by time alone."""
        index_ms = self.index.next_deadline_ms()
        if not self._deadlines:
            return index_ms
        own_ms = self._deadlines[0][0]
        return own_ms if index_ms is None else min(own_ms, index_ms)

    def advance(self, now_ms: int) -> list[Change]:
        """Move time forward and drop what expires at or before it; returns the deletions to store."""
        self.index.advance(now_ms)
        deletions: list[Change] = []
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            deadline_ms, ip = heapq.heappop(self._deadlines)
            address = self._addresses.get(ip)
            if address is None or address.deadline_ms != deadline_ms:
                continue
            address.deadline_ms = _NEVER
            expired, next_ms = self._expired(ip, address, now_ms)
            for change in expired:
                self.apply(change)
            deletions += expired
            if next_ms != _NEVER:
                self._expires(ip, next_ms)
            elif address.is_empty:
                del self._addresses[ip]
        return deletions

    def _expired(self, ip: str, address: Address, now_ms: int) -> tuple[list[Change], int]:
        """What of this address is past its expireAt, and when the next of the rest will be."""
        found: list[tuple[int, Change]] = []
        source = self.index.source(ip)
        if source is not None:
            found += [(fact.expire_at_ms, DeleteEvent((ip, kind, key))) for kind, key, fact in source.facts()]
        for rows in address.rows.values():
            found += [(row.expire_at_ms, DeleteLocation(row.row_id, row.name, ip)) for row in rows]
        for installing in (address.installing or {}).values():
            found.append((installing.expire_at_ms, DeleteInstalling(ip, installing.name)))
        for error in (address.errors or {}).values():
            found.append((error.expire_at_ms, DeleteInstallError(ip, error.name, error.hash)))
        for copy_key, expire_at_ms in (address.copies or {}).items():
            found.append((expire_at_ms, DeleteCopy(copy_key)))
        expired = [change for expire_at_ms, change in found if expire_at_ms <= now_ms]
        next_ms = min((expire_at_ms for expire_at_ms, _ in found if expire_at_ms > now_ms), default=_NEVER)
        return expired, next_ms

    # Answers for the rules

    def next_row_id(self) -> int:
        """A row id never used before in this store."""
        return self._last_row_id + 1

    def event_time(self, key: EventKey) -> int | None:
        """broadcastedAt (createdAt of an eviction) of the stored event, None when there is none."""
        source = self.index.source(key[0])
        fact = source.fact(key[1], key[2]) if source is not None else None
        return fact.at_ms if fact is not None else None

    def has_running_event(self, ip: str) -> bool:
        """Whether any running event of this address is stored."""
        source = self.index.source(ip)
        return source is not None and bool(source.running)

    def address(self, ip: str) -> Address | None:
        """The records of an address beside its events."""
        return self._addresses.get(ip)

    def rows_at(self, ip: str) -> list[LocationRow]:
        """The cache rows of an address, in no particular order."""
        address = self._addresses.get(ip)
        return [row for rows in address.rows.values() for row in rows] if address is not None else []

    def row(self, name: str, ip: str) -> LocationRow | None:
        """The cache row of (name, ip); the oldest, where a change of address left two."""
        address = self._addresses.get(ip)
        rows = address.rows.get(name) if address is not None else None
        return rows[0] if rows else None

    def installing_row(self, name: str, ip: str) -> InstallingRow | None:
        address = self._addresses.get(ip)
        return address.installing.get(name) if address is not None and address.installing else None

    def error_row(self, name: str, hash_: str, ip: str) -> InstallErrorRow | None:
        address = self._addresses.get(ip)
        return address.errors.get((name, hash_)) if address is not None and address.errors else None

    def installing_at(self, ip: str) -> list[InstallingRow]:
        address = self._addresses.get(ip)
        return list(address.installing.values()) if address is not None and address.installing else []

    def copies_at(self, ip: str) -> list[CopyKey]:
        """Keys of the signed copies of an address, both kinds."""
        address = self._addresses.get(ip)
        return list(address.copies) if address is not None and address.copies else []

    def has_copy(self, key: CopyKey) -> bool:
        """Whether a signed copy of this key is stored."""
        address = self._addresses.get(key[1])
        return address is not None and address.copies is not None and key in address.copies

    # Answers for the outside

    def location_rows(self, name: str | None = None) -> list[LocationRow]:
        """Rows of the replayed cache (§5); everything served comes from `index` instead."""
        rows = [
            row
            for address in self._addresses.values()
            for same_name in address.rows.values()
            for row in same_name
        ]
        return [row for row in rows if name is None or row.name.lower() == name.lower()]

    def installing(self, name: str | None = None) -> Sequence[InstallingRow]:
        """Installs in progress; `name` is a whole name in any case (§11)."""
        rows = [row for address in self._addresses.values() for row in (address.installing or {}).values()]
        return [row for row in rows if not name or row.name.lower() == name.lower()]

    def install_errors(self, name: str | None = None) -> Sequence[InstallErrorRow]:
        """Failed installs; `name` is a whole name in any case (§11)."""
        rows = [row for address in self._addresses.values() for row in (address.errors or {}).values()]
        return [row for row in rows if not name or row.name.lower() == name.lower()]

    def copy_keys(self) -> list[CopyKey]:
        """Keys of all signed copies."""
        return [key for address in self._addresses.values() for key in (address.copies or ())]

    def counts(self) -> dict[str, int]:
        """How many records of each kind there are."""
        sources = [self.index.source(ip) for ip in self.index.addresses()]
        return {
            "events": sum(len(source.facts()) for source in sources if source is not None),
            "locations": len(self.index),
            "location_rows": sum(
                len(rows) for address in self._addresses.values() for rows in address.rows.values()
            ),
            "installing": len(self.installing()),
            "install_errors": len(self.install_errors()),
            "signed_copies": len(self.copy_keys()),
        }


def _row_id(row: LocationRow) -> int:
    return row.row_id
