"""What the engine has, kept up to date in memory: one list call, then event by event (lifecycle.md §9, §13).

Pure bookkeeping: rows and events go in, changes come out. Every end says what brought it about, because a
container that ended by itself is started again at once and one that was told to stop is not.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from trionode.containers.engine import ContainerRow, EngineEvent
from trionode.lifecycle.local import EXITED, RUNNING
from trionode.plans import labels
from trionode.plans.createoptions import BURST_LABEL

CREATED = "created"
PAUSED = "paused"
ALIVE = frozenset({RUNNING, PAUSED, "restarting"})
UNHEALTHY = "unhealthy"
ENGINE_STOP_MS = 30_000
"""An engine that goes down tells its containers to stop first; it takes no longer than this over it."""
_STATES = frozenset({"create", "start", "die", "destroy", "pause", "unpause", "rename", "health_status"})
"""Events after which a container is another one than before."""
_NO_STOPS = frozenset({"1", "10", "12", "28", "HUP", "USR1", "USR2", "WINCH"})
"""Signals that are no request to end."""


class Ending(enum.Enum):
    """What brought a container to an end."""

    ITSELF = "itself"
    ASKED = "asked"
    """Somebody told the engine to stop or kill it: this node, or a person."""
    ENGINE = "engine"
    """It went down with the engine, or nobody saw it end."""


class Entry(msgspec.Struct, frozen=True):
    """One container. `id` is "" until a list told it. `app`: by its label of ownership, "" without one.

    `asked_ms`: when it was told to end. Times are Unix milliseconds, 0 when unknown.
    """

    id: str
    state: str
    app: str = ""
    unhealthy: bool = False
    may_burst: bool = False
    started_ms: int = 0
    asked_ms: int = 0


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something about a container is different now. `state` None: it is gone; `before` None: it is new.

    `ran_ms`: how long one that ended or became unhealthy had been running, None when that is not known.
    """

    container: str
    app: str
    before: str | None
    state: str | None
    unhealthy: bool = False
    may_burst: bool = False
    ending: Ending | None = None
    ran_ms: int | None = None
    at_ms: int = 0


class ContainerTable:
    """All containers by name. `replace` takes a whole list, `apply` one event."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._listing = False
        self._heard: set[str] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, container: str) -> Entry | None:
        """By its name without a slash."""
        return self._entries.get(container)

    def states(self) -> dict[str, str]:
        """Container name -> state."""
        return {name: entry.state for name, entry in self._entries.items()}

    def unhealthy(self) -> frozenset[str]:
        """Running containers whose own check fails."""
        return frozenset(
            name for name, entry in self._entries.items() if entry.unhealthy and entry.state == RUNNING
        )

    def of_app(self, app: str) -> dict[str, str]:
        """The containers that carry the label of this app, with their states."""
        return {name: entry.state for name, entry in self._entries.items() if entry.app == app}

    def before_list(self) -> None:
        """The engine is about to be asked for a list: what events tell from now on is newer than it."""
        self._listing = True
        self._heard.clear()

    def replace(self, rows: Iterable[ContainerRow], now_ms: int, *, lost_ms: int = 0) -> tuple[Change, ...]:
        """Take a whole list; the changes since the last one.

        `lost_ms`: when the stream of events broke off, 0 if it did not. Who was told to stop right before
        went down with the engine.
        """
        before, listed = self._entries, {row.name: _entry(row) for row in rows}
        self._entries = {name: entry for name, entry in listed.items() if name not in self._heard}
        self._entries |= {name: before[name] for name in self._heard if name in before}
        self._listing = False
        self._heard.clear()
        found = []
        for name, entry in self._entries.items():
            old = before.get(name)
            if old is not None and old.id in ("", entry.id):  # events do not tell ids
                engine_took_it = _engine_took(old, entry, lost_ms)
                self._entries[name] = entry = _with_memory(entry, old, engine_took_it)
            else:
                engine_took_it = False
            if engine_took_it or old is None or (old.state, old.unhealthy) != (entry.state, entry.unhealthy):
                found.append(_difference(name, old, entry, now_ms, engine_took_it=engine_took_it))
        found += [
            Change(container=name, app=old.app, before=old.state, state=None, at_ms=now_ms)
            for name, old in before.items()
            if name not in self._entries
        ]
        return tuple(found)

    def apply(self, event: EngineEvent, now_ms: int) -> Change | None:
        """Take an event; what it changed, None for nothing."""
        if event.kind != "container":
            return None
        action, at_ms = event.action, event.at_ms or now_ms
        if self._listing and action in _STATES:
            self._heard |= {event.name, event.attributes.get("oldName", event.name).removeprefix("/")}
        if action == "rename":
            return self._rename(event, at_ms)
        old = self._entries.get(event.name)
        if action == "destroy":
            return self._destroyed(event.name, at_ms)
        if action == "create":
            return self._put(event.name, _created(event), at_ms)
        if old is None:
            # Its making was not heard of: the next list tells, and until then it counts as what it does.
            if action not in {"start", "die", "unpause", "pause"}:
                return None
            old = _created(event)
        if action == "kill" and event.attributes.get("signal", "15") not in _NO_STOPS:
            self._entries[event.name] = msgspec.structs.replace(old, asked_ms=at_ms)
            return None
        if action == "stop":
            return self._stopped(event.name, old, at_ms)
        new = _after(old, action, event.attributes.get("health", ""), at_ms)
        return None if new is None else self._put(event.name, new, at_ms)

    def _put(self, name: str, new: Entry, at_ms: int) -> Change | None:
        old = self._entries.get(name)
        self._entries[name] = new
        if old is not None and (old.id, old.state, old.unhealthy) == (new.id, new.state, new.unhealthy):
            return None
        ended = old is not None and old.state in ALIVE and new.state not in ALIVE
        ending = (Ending.ASKED if new.asked_ms else Ending.ITSELF) if ended else None
        began_ms = old.started_ms if old is not None and (ended or new.unhealthy) else 0
        return Change(
            container=name,
            app=new.app,
            before=None if old is None else old.state,
            state=new.state,
            unhealthy=new.unhealthy,
            may_burst=new.may_burst,
            ending=ending,
            ran_ms=at_ms - began_ms if began_ms else None,
            at_ms=at_ms,
        )

    def _stopped(self, name: str, old: Entry, at_ms: int) -> Change | None:
        """Told after the end: it was asked to, with whatever signal its image names for that."""
        if old.state in ALIVE or old.asked_ms:
            return None
        self._entries[name] = msgspec.structs.replace(old, asked_ms=at_ms)
        return Change(
            container=name,
            app=old.app,
            before=old.state,
            state=old.state,
            ending=Ending.ASKED,
            at_ms=at_ms,
        )

    def _destroyed(self, name: str, at_ms: int) -> Change | None:
        old = self._entries.pop(name, None)
        if old is None:
            return None
        return Change(container=name, app=old.app, before=old.state, state=None, at_ms=at_ms)

    def _rename(self, event: EngineEvent, at_ms: int) -> Change | None:
        """Under its new name it is known from now on; under the old one it is missing."""
        former = event.attributes.get("oldName", "").removeprefix("/")
        entry = self._entries.pop(former, None)
        if entry is None:
            return None
        self._entries[event.name] = entry
        return Change(container=former, app=entry.app, before=entry.state, state=None, at_ms=at_ms)


def _entry(row: ContainerRow) -> Entry:
    return Entry(
        id=row.id,
        state=row.state,
        app=row.labels.get(labels.OWNER, ""),
        unhealthy=row.is_unhealthy,
        may_burst=BURST_LABEL in row.labels,
    )


def _created(event: EngineEvent) -> Entry:
    return Entry(
        id="",
        state=CREATED,
        app=event.attributes.get(labels.OWNER, ""),
        may_burst=BURST_LABEL in event.attributes,
    )


def _after(old: Entry, action: str, health: str, at_ms: int) -> Entry | None:
    """The entry after an event; None for one that changes nothing."""
    change = msgspec.structs.replace
    if action == "start":
        return change(old, state=RUNNING, unhealthy=False, started_ms=at_ms, asked_ms=0)
    if action == "die":
        return change(old, state=EXITED, unhealthy=False)
    if action == "pause":
        return change(old, state=PAUSED)
    if action == "unpause":
        return change(old, state=RUNNING)
    if action == "health_status":
        return change(old, unhealthy=health == UNHEALTHY)
    return None


def _with_memory(entry: Entry, old: Entry, engine_took_it: bool) -> Entry:
    """What a list does not tell and was known."""
    if entry.state in ALIVE and old.state not in ALIVE:
        return entry
    asked_ms = 0 if engine_took_it else old.asked_ms
    return msgspec.structs.replace(entry, started_ms=old.started_ms, asked_ms=asked_ms)


def _engine_took(old: Entry, new: Entry, lost_ms: int) -> bool:
    """Whether its end, though asked for and maybe not told any more, was part of the engine's own."""
    asked = lost_ms and old.asked_ms and old.asked_ms > lost_ms - ENGINE_STOP_MS
    return bool(asked) and new.state not in ALIVE


def _difference(name: str, old: Entry | None, new: Entry, now_ms: int, *, engine_took_it: bool) -> Change:
    ended = old is not None and old.state in ALIVE and new.state not in ALIVE
    asked = ended and new.asked_ms and not engine_took_it
    ending = Ending.ASKED if asked else Ending.ENGINE if ended or engine_took_it else None
    return Change(
        container=name,
        app=new.app,
        before=None if old is None else old.state,
        state=new.state,
        unhealthy=new.unhealthy,
        may_burst=new.may_burst,
        ending=None if new.state in ALIVE else ending,
        at_ms=now_ms,
    )
