"""Apps kept back while somebody backs their files up or restores them (docs/spec/lifecycle.md §9, §17).

A held app is neither started, healed, redeployed nor elected, and is announced as if it ran. A hold ends when
it is let go, when its time is over, and with its app. It survives the process and a power cut: the list lies
beside the installed apps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack

import msgspec
import trio

from trionode.containers.health.operatorstops import MetaStore
from trionode.containers.operations import Operations
from trionode.errors import StoreError
from trionode.hosting.port import APP_REMOVED
from trionode.runtime.bus import EventBus, Subscription
from trionode.runtime.clock import WallClock
from trionode.runtime.logs import get_logger

META = "backupHolds"
LOOK_S = 60.0
"""So soon a clock that was set forward is noticed, and a list that could not be written is tried again."""

log = get_logger("containers.holds")


class Holds:
    """Service "holds": ready when the list is read; ends holds in time."""

    name = "holds"

    def __init__(self, store: MetaStore, operations: Operations, bus: EventBus, clock: WallClock) -> None:
        self._store = store
        self._operations = operations
        self._bus = bus
        self._clock = clock
        self._until_ms: dict[str, int] = {}
        self._written: Mapping[str, int] = {}
        self._held: dict[str, ExitStack] = {}
        self._writing = trio.Lock()
        self._changed = trio.Event()

    @property
    def until_ms(self) -> Mapping[str, int]:
        """App -> when its hold ends, milliseconds since the epoch."""
        return dict(self._until_ms)

    async def load(self) -> None:
        """Read the list; `run` does it too. Raises StoreError."""
        text = await self._store.get_meta(META)
        try:
            self._written = msgspec.json.decode(text, type=dict[str, int]) if text else {}
        except msgspec.DecodeError as error:
            raise StoreError(
                f"the list of apps that are backed up or restored cannot be read: {error}",
                remedy=f"delete the value {META!r}: nothing is held then",
            ) from error
        self._set(dict(self._written))

    async def put(self, app: str, until_ms: int) -> None:
        """Hold the app until then. Durable when it returns. Raises StoreError; nothing has changed then."""
        async with self._writing:
            await self._write({**self._until_ms, app: until_ms})
        log.info("an app is held for a backup or restore", app=app, until_ms=until_ms)

    async def drop(self, app: str) -> None:
        """Let the app go. Raises StoreError; nothing has changed then."""
        async with self._writing:
            await self._write(_without(self._until_ms, {app}))
        log.info("an app is no longer held", app=app)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self._bus.subscribe(APP_REMOVED) as removed:
            await self.load()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, removed)
                task_status.started()
                await self._end_in_time()

    async def _follow(self, removed: Subscription) -> None:
        while True:
            event = await removed.receive()
            async with self._writing:
                self._set(_without(self._until_ms, {str(event.data.get("name"))}))

    async def _end_in_time(self) -> None:
        while True:
            await self._catch_up()
            self._changed = trio.Event()
            with trio.move_on_after(self._rest_s()):
                await self._changed.wait()

    async def _catch_up(self) -> None:
        """End what is over, and write down what ended without anybody waiting for it."""
        async with self._writing:
            now_ms = self._clock.now_ms()
            over = {app for app, until_ms in self._until_ms.items() if until_ms <= now_ms}
            if over:
                log.warning("holds ended, their time is over", apps=sorted(over))
                self._set(_without(self._until_ms, over))
            if self._until_ms == self._written:
                return
            try:
                await self._write(self._until_ms)
            except StoreError as error:
                # the holds have ended all the same; a restart would bring those of removed apps back
                log.error("the list of holds is not written, tried again", problem=error.one_line())

    def _rest_s(self) -> float:
        """How long nothing is to be done, if nothing changes."""
        if self._until_ms != self._written:
            return LOOK_S
        next_ms = min(self._until_ms.values(), default=None)
        if next_ms is None:
            return math.inf
        return min(LOOK_S, max(0.0, (next_ms - self._clock.now_ms()) / 1000))

    async def _write(self, until_ms: Mapping[str, int]) -> None:
        with trio.CancelScope(shield=True):  # store and memory must not part
            await self._store.put_meta(META, msgspec.json.encode(until_ms, order="sorted").decode())
            self._written = dict(until_ms)
            self._set(dict(until_ms))

    def _set(self, until_ms: dict[str, int]) -> None:
        self._until_ms = until_ms
        for app in [app for app in self._held if app not in until_ms]:
            self._held.pop(app).close()
        for app in until_ms:
            if app not in self._held:
                self._held[app] = ExitStack()
                self._held[app].enter_context(self._operations.holding(app))
        self._changed.set()


def _without(until_ms: Mapping[str, int], apps: set[str]) -> dict[str, int]:
    return {app: at_ms for app, at_ms in until_ms.items() if app not in apps}
