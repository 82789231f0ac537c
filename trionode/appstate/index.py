"""LocationIndex: who runs what where, kept current event by event (docs/spec/events.md §6, §11).

The index holds slim facts per address and the rows that follow from them. A change of one address
recomputes only that address; a heap of deadlines makes expiry and the end of a grace exact. Its answers
equal `view.view` over the same documents at the same time, which the tests hold it to.

Time only goes forward here: `advance` with an earlier time does nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from trionode.appstate.documents import APPREMOVED, APPRUNNING, IPCHANGED, SIGTERM, EventKey
from trionode.appstate.facts import Fact, MoveFact, RunningFact, removed_name
from trionode.appstate.source import NEVER, LocationView, Source, fold
from trionode.appstate.windows import Windows

__all__ = ["LocationIndex", "LocationView", "Source"]


class LocationIndex:
    """The fold of the event log into locations. `put`/`remove` events, `advance` time, ask."""

    def __init__(self, windows: Windows, now_ms: int = -NEVER) -> None:
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
                source.deadline_ms = NEVER
                self._refold(source)
                looked_at += 1
        return looked_at

    # Folding

    def _refold(self, source: Source) -> None:
        rows, deadline_ms = fold(source, self._now_ms, self._running_ms, self._grace_ms)
        # An entry that is already in the heap for an earlier moment serves for the later one as well.
        if deadline_ms < source.deadline_ms:
            source.deadline_ms = deadline_ms
            heapq.heappush(self._deadlines, (deadline_ms, source.ip))
        if rows != source.rows:
            self._publish(source, rows)

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
