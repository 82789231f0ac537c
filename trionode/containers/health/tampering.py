"""TamperingLog: signs that somebody else had a hand in the apps here (docs/spec/lifecycle.md §9, §19).

A vanished container, a recreation that failed, a pruned network, a wiped crontab. The last events are kept
for 30 days through every restart and served as `/apps/tamperingevents`; each is told on the bus.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import trio

from trionode.errors import StoreError
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

TAMPERING = "app:tampering"
KEY = "tamperingEvents"
KEPT = 200
KEPT_MS = 30 * 24 * 3_600_000
RETRY_S = 60.0

log = get_logger("containers.tampering")


class TamperingEvent(msgspec.Struct, frozen=True, rename="camel"):
    """One sign. `kind`: container_vanished, recreation_failed, network_pruned, mount_vanished, ..."""

    app: str
    kind: str
    reason: str
    at_ms: int


class NamedValues(Protocol):
    """A durable place for a small text (`store.localapps.LocalAppStore`)."""

    async def get_meta(self, key: str) -> str | None: ...

    async def put_meta(self, key: str, value: str) -> None: ...


class TamperingLog:
    """Service "tampering log": ready when the former events are read; `note` may be called before."""

    name = "tampering log"

    def __init__(self, store: NamedValues, bus: EventBus, counters: Counters, clock: WallClock) -> None:
        self._store = store
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._events: tuple[TamperingEvent, ...] = ()
        self._is_read = False
        self._noted = trio.Event()

    def events(self, app: str | None = None) -> tuple[TamperingEvent, ...]:
        """The last ones, newest first; those of one app if it is named."""
        since_ms = self._clock.now_ms() - KEPT_MS
        found = reversed([event for event in self._events if event.at_ms > since_ms])
        return tuple(event for event in found if app is None or event.app == app)

    def note(self, app: str, kind: str, reason: str) -> None:
        """Count, tell and keep it; never waits."""
        event = TamperingEvent(app, kind, reason, self._clock.now_ms())
        self._events = (*self._events, event)[-KEPT:]
        self._counters.add(f"containers.tampering.{kind}")
        log.warning("tampering", app=app, kind=kind, why=reason)
        self._bus.publish(TAMPERING, {"name": app, "kind": kind, "reason": reason})
        self._noted.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read what was kept, then keep what is noted."""
        if not self._is_read:
            former = _decoded(await self._store.get_meta(KEY))
            self._events = (*former, *self._events)[-KEPT:]
            self._is_read = True
        task_status.started()
        while True:
            await self._noted.wait()
            self._noted = trio.Event()
            try:
                await self._store.put_meta(KEY, msgspec.json.encode(self._events).decode())
            except StoreError as error:
                log.error("tampering events not kept, tried again", problem=error.one_line())
                self._noted.set()
                await trio.sleep(RETRY_S)


def _decoded(text: str | None) -> tuple[TamperingEvent, ...]:
    if text is None:
        return ()
    try:
        return msgspec.json.decode(text, type=tuple[TamperingEvent, ...])
    except msgspec.DecodeError as error:
        log.error("former tampering events cannot be read, the list is begun anew", problem=str(error))
        return ()
