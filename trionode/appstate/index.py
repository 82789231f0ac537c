"""LocationIndex: who runs what where, kept current event by event (docs/spec/events.md §6, §11).

The index holds slim facts per address and the rows that follow from them. A change of one address
recomputes only that address; a heap of deadlines makes expiry and the end of a grace exact. Its answers
equal `view.view` over the same documents at the same time, which the tests hold it to.

Time only goes forward here: `advance` with an earlier time does nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import msgspec

from trionode.appstate.documents import (
    APPREMOVED,
    APPRUNNING,
    EVICTED,
    IPCHANGED,
    SIGTERM,
    EventKey,
)
from trionode.appstate.facts import Fact, MoveFact, PointFact, RunningFact, removed_name
from trionode.appstate.messages import date_ms
from trionode.appstate.windows import Windows
from trionode.wire.jsjson import JsValue

_NEVER = 1 << 62


class LocationView(msgspec.Struct, frozen=True, gc=False):
    """One location as served: payload values as received, times in milliseconds."""

    name: str
    hash: str
    ip: str
    broadcasted_at_ms: int
    expire_at_ms: int
    running_since: JsValue
    os_uptime: JsValue
    static_ip: JsValue

    @property
    def running_since_ms(self) -> int:
        """runningSince as a date; the time of the message when it has none (§6, last paragraph)."""
        since_ms = date_ms(self.running_since)
        return self.broadcasted_at_ms if since_ms is None else since_ms


class Source:
    """All facts of one stored address and the rows they give."""

    __slots__ = ("deadline_ms", "evicted", "ip", "moved", "removed", "rows", "running", "sigterm")

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.running: dict[str, RunningFact] = {}
        self.removed: dict[str, PointFact] | None = None
        self.sigterm: PointFact | None = None
        self.evicted: PointFact | None = None
        self.moved: MoveFact | None = None
        self.rows: tuple[LocationView, ...] = ()
        self.deadline_ms = _NEVER

    @property
    def is_empty(self) -> bool:
        return not (self.running or self.removed or self.sigterm or self.evicted or self.moved)

    def fact(self, kind: str, dedup_key: str) -> Fact | None:
        """The stored fact of this type and dedup key."""
        if kind == APPRUNNING:
            return self.running.get(dedup_key)
        if kind == APPREMOVED:
            return self.removed.get(removed_name(dedup_key)) if self.removed else None
        if kind == SIGTERM:
            return self.sigterm
        return self.evicted if kind == EVICTED else self.moved

    def facts(self) -> list[tuple[str, str, Fact]]:
        """Every fact with its type and dedup key."""
        found: list[tuple[str, str, Fact]] = [(APPRUNNING, key, fact) for key, fact in self.running.items()]
        if self.removed:
            found += [(APPREMOVED, f"{APPREMOVED}:{name}", fact) for name, fact in self.removed.items()]
        for kind, single in ((SIGTERM, self.sigterm), (EVICTED, self.evicted), (IPCHANGED, self.moved)):
            if single is not None:
                found.append((kind, kind, single))
        return found


class LocationIndex:
    """The fold of the event log into locations. `put`/`remove` events, `advance` time, ask."""

    def __init__(self, windows: Windows, now_ms: int = -_NEVER) -> None:
        self._running_ms = windows.running_ms
        self._grace_ms = windows.sigterm_grace_ms
        self._now_ms = now_ms
        self._sources: dict[str, Source] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._by_name: dict[str, dict[str, LocationView]] = {}
        self._spellings: dict[str, tuple[str, ...]] = {}
        # Addresses that rows of other addresses were moved to, with those others.
        self._moved_to: dict[str, set[str]] = {}
        self._name_answers: dict[str, tuple[LocationView, ...]] = {}
        self._whole_answer: tuple[LocationView, ...] | None = ()
        self._count = 0

    # Asking

    def locations(self, name: str | None = None, ip: str | None = None) -> Sequence[LocationView]:
        """The rows of an app (whole name, any case), of a stored address, of both, or all of them.

        The answer is shared and immutable; its order means nothing.
        """
        if ip:
            source = self._sources.get(ip)
            rows = source.rows if source is not None else ()
            if not name:
                return rows
            wanted = name.lower()
            return tuple([row for row in rows if row.name.lower() == wanted])
        if name:
            return self._named(name.lower())
        if self._whole_answer is None:
            self._whole_answer = tuple([row for rows in self._by_name.values() for row in rows.values()])
        return self._whole_answer

    def _named(self, lower: str) -> tuple[LocationView, ...]:
        answer = self._name_answers.get(lower)
        if answer is None:
            spellings = self._spellings.get(lower)
            if spellings is None:
                return ()
            answer = tuple([row for name in spellings for row in self._by_name[name].values()])
            self._name_answers[lower] = answer
        return answer

    def names(self) -> Sequence[str]:
        """The names of all apps that have a location, as spelt by their nodes."""
        return tuple(self._by_name)

    def addresses(self) -> Sequence[str]:
        """Every address the log has an event of, with or without locations."""
        return tuple(self._sources)

    def source(self, ip: str) -> Source | None:
        """The facts of one stored address, for the rules that compare with them."""
        return self._sources.get(ip)

    def __len__(self) -> int:
        return self._count

    @property
    def now_ms(self) -> int:
        return self._now_ms

    # Events

    def put(self, key: EventKey, fact: Fact) -> None:
        """Insert or replace the fact of this event."""
        ip, kind, dedup_key = key
        source = self._sources.get(ip)
        if source is None:
            source = self._sources[ip] = Source(ip)
        if isinstance(fact, RunningFact):
            source.running[dedup_key] = fact
        elif isinstance(fact, MoveFact):
            source.moved = fact
        elif kind == APPREMOVED:
            if source.removed is None:
                source.removed = {}
            source.removed[removed_name(dedup_key)] = fact
        elif kind == SIGTERM:
            source.sigterm = fact
        else:
            source.evicted = fact
        self._refold(source)

    def remove(self, key: EventKey) -> None:
        """Forget an event; unknown keys are ignored."""
        ip, kind, dedup_key = key
        source = self._sources.get(ip)
        if source is None:
            return
        if kind == APPRUNNING:
            source.running.pop(dedup_key, None)
        elif kind == IPCHANGED:
            source.moved = None
        elif kind == APPREMOVED:
            if source.removed:
                source.removed.pop(removed_name(dedup_key), None)
        elif kind == SIGTERM:
            source.sigterm = None
        else:
            source.evicted = None
        self._refold(source)
        if source.is_empty:
            del self._sources[ip]

    # Time

    def next_deadline_ms(self) -> int | None:
        """The next moment at which an answer may change by time alone."""
        return self._deadlines[0][0] if self._deadlines else None

    def advance(self, now_ms: int) -> int:
        """Move time to `now_ms`; returns how many addresses were looked at again."""
        if now_ms <= self._now_ms:
            return 0
        self._now_ms = now_ms
        looked_at = 0
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            deadline_ms, ip = heapq.heappop(self._deadlines)
            source = self._sources.get(ip)
            if source is not None and source.deadline_ms == deadline_ms:
                source.deadline_ms = _NEVER
                self._refold(source)
                looked_at += 1
        return looked_at

    # Folding

    def _refold(self, source: Source) -> None:
        rows, deadline_ms = self._rows_of(source)
        # An entry that is already in the heap for an earlier moment serves for the later one as well.
        if deadline_ms < source.deadline_ms:
            source.deadline_ms = deadline_ms
            heapq.heappush(self._deadlines, (deadline_ms, source.ip))
        if rows != source.rows:
            self._publish(source, rows)

    def _rows_of(self, source: Source) -> tuple[tuple[LocationView, ...], int]:
        """Rules 1 to 8 of §6 for one address, and the moment from which the answer may differ."""
        now_ms = self._now_ms
        deadline_ms = _NEVER
        listed: RunningFact | None = None
        named: dict[str, RunningFact] | None = None
        for fact in source.running.values():
            if fact.expire_at_ms <= now_ms:
                continue
            deadline_ms = min(deadline_ms, fact.expire_at_ms)
            if fact.apps is not None and (listed is None or fact.at_ms > listed.at_ms):
                listed = fact
            if fact.name is not None:
                if named is None:
                    named = {}
                other = named.get(fact.name)
                if other is None or fact.at_ms > other.at_ms:
                    named[fact.name] = fact
        if listed is None and named is None:
            return (), deadline_ms

        stop_ms, stop_is_sigterm = -_NEVER, False
        if source.sigterm is not None:
            stop_ms, stop_is_sigterm = source.sigterm.at_ms, True
        if source.evicted is not None and source.evicted.at_ms >= stop_ms:
            stop_ms, stop_is_sigterm = source.evicted.at_ms, False
        grace_end_ms = stop_ms + self._grace_ms if stop_is_sigterm else -_NEVER
        in_grace = grace_end_ms > now_ms

        removed = source.removed
        if removed:
            for removal in removed.values():
                if removal.expire_at_ms > now_ms:
                    deadline_ms = min(deadline_ms, removal.expire_at_ms)
        moved = source.moved
        if moved is not None:
            if moved.expire_at_ms > now_ms:
                deadline_ms = min(deadline_ms, moved.expire_at_ms)
            else:
                moved = None

        found: dict[tuple[str, str], LocationView] | None = None
        rows: list[LocationView] = []
        plain = named is None and moved is None
        seen: set[str] = set()
        for fact in (listed, *(named.values() if named else ())):
            if fact is None:
                continue
            is_list = fact is listed
            at_ms = fact.at_ms
            if not is_list and listed is not None and at_ms <= listed.at_ms:
                continue
            expire_at_ms = at_ms + self._running_ms
            if at_ms < stop_ms:
                if not in_grace:
                    continue
                expire_at_ms = grace_end_ms
                deadline_ms = min(deadline_ms, grace_end_ms)
            out_ip = moved.new_ip if moved is not None and moved.at_ms > at_ms else source.ip
            for app in fact.apps or () if is_list else (fact,):
                name = app.name
                if name is None or (removed and self._is_removed(removed, name, at_ms)):
                    continue
                since = app.running_since
                row = LocationView(
                    name,
                    app.hash,
                    out_ip,
                    at_ms,
                    expire_at_ms,
                    fact.running_since if since is None else since,
                    fact.os_uptime,
                    fact.static_ip,
                )
                if plain:
                    if name not in seen:
                        seen.add(name)
                        rows.append(row)
                    continue
                if found is None:
                    found = {}
                other_row = found.get((name, out_ip))
                if other_row is None or at_ms > other_row.broadcasted_at_ms:
                    found[name, out_ip] = row
        return tuple(found.values() if found is not None else rows), deadline_ms

    def _is_removed(self, removed: dict[str, PointFact], name: str, at_ms: int) -> bool:
        removal = removed.get(name)
        return removal is not None and removal.expire_at_ms > self._now_ms and at_ms <= removal.at_ms

    # Answers

    def _publish(self, source: Source, rows: tuple[LocationView, ...]) -> None:
        """Replace the rows of one address in the answers."""
        ip = source.ip
        before, source.rows = source.rows, rows
        self._whole_answer = None
        if (
            ip not in self._moved_to
            and all(row.ip == ip for row in rows)
            and all(row.ip == ip for row in before)
        ):
            kept = {row.name for row in rows}
            for row in before:
                if row.name not in kept:
                    self._drop(row.name, ip)
            for row in rows:
                self._set(row)
            return
        for target in {row.ip for row in before} - {ip}:
            sources = self._moved_to[target]
            sources.discard(ip)
            if not sources:
                del self._moved_to[target]
        for target in sorted({row.ip for row in rows} - {ip}):
            self._moved_to.setdefault(target, set()).add(ip)
        for name, target in dict.fromkeys((row.name, row.ip) for row in before + rows):
            winner = self._winner(name, target)
            if winner is None:
                self._drop(name, target)
            else:
                self._set(winner)

    def _winner(self, name: str, ip: str) -> LocationView | None:
        """Rule 8 over all addresses that may have a row for (name, ip)."""
        best: tuple[int, str] | None = None
        winner: LocationView | None = None
        for candidate in {ip, *self._moved_to.get(ip, ())}:
            source = self._sources.get(candidate)
            for row in source.rows if source is not None else ():
                if row.name == name and row.ip == ip:
                    rank = (-row.broadcasted_at_ms, candidate)
                    if best is None or rank < best:
                        best, winner = rank, row
        return winner

    def _set(self, row: LocationView) -> None:
        name = row.name
        rows = self._by_name.get(name)
        lower = name.lower()
        if rows is None:
            rows = self._by_name[name] = {}
            self._spellings[lower] = (*self._spellings.get(lower, ()), name)
        if row.ip not in rows:
            self._count += 1
        rows[row.ip] = row
        self._name_answers.pop(lower, None)

    def _drop(self, name: str, ip: str) -> None:
        rows = self._by_name.get(name)
        if rows is None or rows.pop(ip, None) is None:
            return
        self._count -= 1
        lower = name.lower()
        self._name_answers.pop(lower, None)
        if not rows:
            del self._by_name[name]
            left = tuple(spelling for spelling in self._spellings[lower] if spelling != name)
            if left:
                self._spellings[lower] = left
            else:
                del self._spellings[lower]
