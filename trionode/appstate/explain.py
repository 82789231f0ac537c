"""Explain why an app is, or is not, listed at an address (docs/spec/events.md §6).

The events of each address in the order of their times, each with the rule that kept or hid what it says
about the app. Plain data; the command line prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import msgspec

from trionode.appstate.documents import (
    APPREMOVED,
    EVICTED,
    IPCHANGED,
    SIGTERM,
    EventKey,
    EventRow,
)
from trionode.appstate.facts import Fact, MoveFact, PointFact, RunningFact, fact_of, removed_name
from trionode.appstate.windows import Windows

_Test: TypeAlias = Callable[[EventRow, Fact], bool]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What one event does to one app at one address.

    `effect`: "listed" (a location comes from it), "hidden" (it would be one), "hides" (it takes locations
    away), "remaps", or "none". `rule` is a stable word for the reason, `text` the same for people. `by` is
    the key of the event that decided, when another one did. `listed_ip` is where a listed app is shown.
    """

    ip: str
    type: str
    dedup_key: str
    name: str
    at_ms: int
    expire_at_ms: int
    received_at_ms: int | None
    effect: str
    rule: str
    text: str
    by: EventKey | None = None
    listed_ip: str = ""


def explain(
    events: Iterable[EventRow], name: str, ip: str | None, now_ms: int, windows: Windows
) -> list[Step]:
    """Steps for the app `name` (whole name, any case), at stored address `ip` or at all of them.

    `events` are all events of the addresses concerned. Ordered by address, then time. Raises WireError
    if a stored text is damaged.
    """
    by_ip: dict[str, list[tuple[EventRow, Fact]]] = {}
    for row in events:
        if ip is None or row.ip == ip:
            by_ip.setdefault(row.ip, []).append((row, fact_of(row)))
    steps: list[Step] = []
    for address in sorted(by_ip):
        steps += _Address(address, by_ip[address], name, now_ms, windows).steps()
    return _collapsed(steps)


class _Address:
    """The events of one address, judged for one app."""

    def __init__(
        self,
        ip: str,
        events: Sequence[tuple[EventRow, Fact]],
        name: str,
        now_ms: int,
        windows: Windows,
    ) -> None:
        self.ip = ip
        self.wanted = name.lower()
        self.now_ms = now_ms
        self.grace_ms = windows.sigterm_grace_ms
        self.events = sorted(events, key=lambda event: (event[1].at_ms, event[0].type, event[0].dedup_key))
        self.listed = self._newest(lambda _, fact: isinstance(fact, RunningFact) and fact.apps is not None)
        self.moved = self._newest(lambda row, _: row.type == IPCHANGED)
        stops = [event for event in self.events if event[0].type in (SIGTERM, EVICTED)]
        self.stop = max(stops, key=lambda event: (event[1].at_ms, event[0].type == EVICTED), default=None)

    def _alive(self, fact: Fact) -> bool:
        return fact.expire_at_ms > self.now_ms

    def _newest(self, test: _Test) -> tuple[EventRow, Fact] | None:
        found = [event for event in self.events if self._alive(event[1]) and test(*event)]
        return max(found, key=lambda event: (event[1].at_ms, event[0].dedup_key), default=None)

    def steps(self) -> list[Step]:
        found: list[Step] = []
        for row, fact in self.events:
            if isinstance(fact, RunningFact):
                found += self._running(row, fact)
            elif isinstance(fact, MoveFact):
                found.append(self._move(row, fact))
            elif row.type == APPREMOVED:
                if removed_name(row.dedup_key).lower() == self.wanted:
                    found.append(self._removal(row, fact))
            else:
                found.append(self._shutdown(row, fact))
        return found

    def _step(
        self,
        row: EventRow,
        effect: str,
        rule: str,
        text: str,
        *,
        name: str = "",
        by: EventRow | None = None,
        listed_ip: str = "",
    ) -> Step:
        return Step(
            ip=self.ip,
            type=row.type,
            dedup_key=row.dedup_key,
            name=name,
            at_ms=row.at_ms,
            expire_at_ms=row.expire_at_ms,
            received_at_ms=row.received_at_ms,
            effect=effect,
            rule=rule,
            text=text,
            by=by.key if by is not None else None,
            listed_ip=listed_ip,
        )

    def _running(self, row: EventRow, fact: RunningFact) -> list[Step]:
        names = [app.name for app in fact.apps or ()]
        if fact.apps is None and fact.name is not None:
            names = [fact.name]
        names = list(dict.fromkeys(name for name in names if name.lower() == self.wanted))
        if names:
            return [self._location(row, fact, name) for name in names]
        if fact.apps is None:
            return []
        if not self._alive(fact):
            return [self._step(row, "none", "expired", "expired; it did not list the app")]
        return [self._step(row, "hides", "not_in_list", "lists the apps of this node, without this one")]

    def _location(self, row: EventRow, fact: RunningFact, name: str) -> Step:
        if not self._alive(fact):
            return self._step(row, "hidden", "expired", "expired", name=name)
        listed = self.listed
        if listed is not None and listed[1] is not fact and fact.at_ms <= listed[1].at_ms:
            text = "superseded by a list of apps that is not older"
            return self._step(row, "hidden", "superseded_by_v2", text, name=name, by=listed[0])
        stop = self.stop
        grace = False
        if stop is not None and fact.at_ms < stop[1].at_ms:
            if stop[0].type == EVICTED:
                text = "the node was evicted later (not in the node list, not confirmed)"
                return self._step(row, "hidden", "evicted", text, name=name, by=stop[0])
            if stop[1].at_ms + self.grace_ms <= self.now_ms:
                text = "the node shut down later and its grace is over"
                return self._step(row, "hidden", "sigterm", text, name=name, by=stop[0])
            grace = True
        removal = self._removal_of(name)
        if removal is not None and fact.at_ms <= removal[1].at_ms:
            text = "removed by its node, not before this"
            return self._step(row, "hidden", "removed", text, name=name, by=removal[0])
        moved = self.moved
        listed_ip, rule, text, by = self.ip, "current", "listed", None
        if moved is not None and isinstance(moved[1], MoveFact) and moved[1].at_ms > fact.at_ms:
            listed_ip, by = moved[1].new_ip, moved[0]
            rule, text = "remapped", f"listed at {listed_ip}: the node changed its address later"
        if grace and stop is not None:
            left_s = (stop[1].at_ms + self.grace_ms - self.now_ms) / 1000
            rule, by = "sigterm_grace", stop[0]
            text += f"; the node is shutting down, hidden in {left_s:.0f} s"
        return self._step(row, "listed", rule, text, name=name, by=by, listed_ip=listed_ip)

    def _removal_of(self, name: str) -> tuple[EventRow, Fact] | None:
        return self._newest(lambda row, _: row.type == APPREMOVED and removed_name(row.dedup_key) == name)

    def _move(self, row: EventRow, fact: MoveFact) -> Step:
        if not self._alive(fact):
            return self._step(row, "none", "expired", f"expired; moved to {fact.new_ip} then")
        text = f"what is older is shown at {fact.new_ip}"
        return self._step(row, "remaps", "ipchanged", text)

    def _removal(self, row: EventRow, fact: PointFact) -> Step:
        name = removed_name(row.dedup_key)
        if not self._alive(fact):
            return self._step(row, "none", "expired", "expired removal", name=name)
        return self._step(row, "hides", "removed", "hides the app in what is not newer", name=name)

    def _shutdown(self, row: EventRow, fact: PointFact) -> Step:
        if self.stop is not None and self.stop[0] is not row:
            text = "a later shutdown or eviction counts instead"
            return self._step(row, "none", "superseded", text, by=self.stop[0])
        if row.type == EVICTED:
            return self._step(row, "hides", "evicted", "hides everything older")
        if fact.at_ms + self.grace_ms > self.now_ms:
            left_s = (fact.at_ms + self.grace_ms - self.now_ms) / 1000
            return self._step(row, "none", "sigterm_grace", f"hides everything older in {left_s:.0f} s")
        return self._step(row, "hides", "sigterm", "hides everything older, the grace is over")


def _collapsed(steps: Sequence[Step]) -> list[Step]:
    """Of several events that list the same app at the same place only the newest is shown (rule 8)."""
    best: dict[tuple[str, str], Step] = {}
    for step in steps:
        if step.effect == "listed":
            key = (step.name, step.listed_ip)
            other = best.get(key)
            if other is None or (-step.at_ms, step.ip) < (-other.at_ms, other.ip):
                best[key] = step
    result = []
    for step in steps:
        winner = best.get((step.name, step.listed_ip)) if step.effect == "listed" else step
        if winner is not step and winner is not None:
            step = msgspec.structs.replace(
                step,
                effect="hidden",
                rule="newer_at_same_place",
                text=f"a newer message lists it at {step.listed_ip}",
                by=(winner.ip, winner.type, winner.dedup_key),
                listed_ip="",
            )
        result.append(step)
    return result
