"""One address of the location index: its facts, and the rows they give (docs/spec/events.md §6)."""

from __future__ import annotations

import msgspec

from trionode.appstate.documents import APPREMOVED, APPRUNNING, EVICTED, IPCHANGED, SIGTERM
from trionode.appstate.facts import Fact, MoveFact, PointFact, RunningFact, removed_name
from trionode.appstate.messages import date_ms
from trionode.wire.jsjson import JsValue

NEVER = 1 << 62


class LocationView(msgspec.Struct, frozen=True, gc=False):
    """One location as served: payload values as received, times in milliseconds."""

    name: str
    hash: JsValue
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
        self.deadline_ms = NEVER

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


def fold(source: Source, now_ms: int, running_ms: int, grace_ms: int) -> tuple[tuple[LocationView, ...], int]:
    """Rules 1 to 8 of §6 for one address, and the moment from which the answer may differ."""
    deadline_ms = NEVER
    listed: RunningFact | None = None
    listed_key = ""
    named: dict[str, tuple[int, str, RunningFact]] | None = None
    for key, fact in source.running.items():
        if fact.expire_at_ms <= now_ms:
            continue
        at_ms = fact.at_ms
        deadline_ms = min(deadline_ms, fact.expire_at_ms)
        # Of equal times the greater dedup key counts, so that the order of arrival never does.
        if fact.apps is not None and (
            listed is None or at_ms > listed.at_ms or (at_ms == listed.at_ms and key > listed_key)
        ):
            listed, listed_key = fact, key
        if fact.name is not None:
            if named is None:
                named = {}
            rank = (at_ms, key, fact)
            other = named.get(fact.name)
            if other is None or rank[:2] > other[:2]:
                named[fact.name] = rank
    if listed is None and named is None:
        return (), deadline_ms

    stop_ms, stop_is_sigterm = -NEVER, False
    if source.sigterm is not None:
        stop_ms, stop_is_sigterm = source.sigterm.at_ms, True
    if source.evicted is not None and source.evicted.at_ms >= stop_ms:
        stop_ms, stop_is_sigterm = source.evicted.at_ms, False
    grace_end_ms = stop_ms + grace_ms if stop_is_sigterm else -NEVER
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
    for fact in _candidates(listed, named):
        is_list = fact is listed
        at_ms = fact.at_ms
        if not is_list and listed is not None and at_ms <= listed.at_ms:
            continue
        expire_at_ms = at_ms + running_ms
        if at_ms < stop_ms:
            if not in_grace:
                continue
            expire_at_ms = grace_end_ms
            deadline_ms = min(deadline_ms, grace_end_ms)
        out_ip = moved.new_ip if moved is not None and moved.at_ms > at_ms else source.ip
        for app in fact.apps or () if is_list else (fact,):
            name = app.name
            if name is None or (removed and _is_removed(removed, name, at_ms, now_ms)):
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


def _candidates(
    listed: RunningFact | None, named: dict[str, tuple[int, str, RunningFact]] | None
) -> list[RunningFact]:
    """The newest list, then the newest message of each name."""
    candidates = [] if listed is None else [listed]
    if named is not None:
        candidates += [fact for _, _, fact in named.values()]
    return candidates


def _is_removed(removed: dict[str, PointFact], name: str, at_ms: int, now_ms: int) -> bool:
    removal = removed.get(name)
    return removal is not None and removal.expire_at_ms > now_ms and at_ms <= removal.at_ms
