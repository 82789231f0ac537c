"""EngineHost: the apps of this node in a real container engine (docs/spec/lifecycle.md §9, §13).

Implements `hosting.port.AppHost`. The states of all containers are kept in memory by one list call and the
events of the engine; a slow sweep is the safety net. Every change is told on the bus as
`containers:changed`. An engine that is away costs nothing but its own work: it is waited for, its problem
is shown, and what happened meanwhile is found by the list that follows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
import trio

from trionode.config.tree import HostingSettings
from trionode.containers.actions import AppActions
from trionode.containers.engine import Engine, EngineError, EngineUnreachable
from trionode.containers.hiding import start_container
from trionode.containers.operations import Busy, Operations
from trionode.containers.table import Change, ContainerTable
from trionode.errors import HostError
from trionode.hosting.port import AppNews, RunningApp
from trionode.lifecycle.local import RUNNING, Container, InstalledApp
from trionode.lifecycle.names import container_name, is_app_container
from trionode.lifecycle.running import runs_well
from trionode.runtime.appturns import AppTurns
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

CONTAINER_CHANGED = "containers:changed"
"""A `table.Change` as a mapping."""
ENGINE_AWAY = "containers:engineAway"
ENGINE_BACK = "containers:engineBack"
LIST_S = 60.0
"""An engine that does not list its containers within this is away."""
RETRY_S = 5.0
"""An engine that is away is asked again after this."""

log = get_logger("containers.host")


class LocalTable(Protocol):
    """The apps installed here (`containers.installedapps.InstalledApps`)."""

    def names(self) -> frozenset[str]: ...

    def installed(self) -> tuple[InstalledApp, ...]: ...


class Volumes(Protocol):
    """Sees to it that what a container mounts is there (`containers.health.mountrecovery.MountRecovery`)."""

    async def ensure(self, container: str) -> None:
        """Mount the volumes of the app of this container, as far as they are not. Raises DiskError."""
        ...


class Links(Protocol):
    """Connects linked apps (`containers.health.linking.Linker`)."""

    async def sweep(self) -> None: ...

    async def repair(self, container: str) -> bool:
        """Whether a container whose networks had changed may start now. Raises EngineError."""
        ...


class EngineHost:
    """Service "engine host". `rows_changed` and `tell` listen to the local table and the operations.

    `reachable`: opened while the engine answers; what it has is known then. `since_ms(app)`: start in our
    own location row, None without one. `leaving()`: apps whose removal has begun, with which nobody is
    concerned any more but that removal. `kept_down()`: components stopped on purpose or in a backup, by
    identifier; nobody starts them, whatever was planned before.
    """

    name = "engine host"
    registry_free = False

    def __init__(
        self,
        settings: HostingSettings,
        *,
        engine: Engine,
        installed: LocalTable,
        actions: AppActions,
        operations: Operations,
        volumes: Volumes,
        links: Links,
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
        reachable: Gate,
        since_ms: Callable[[str], int | None] = lambda app: None,
        leaving: Callable[[], frozenset[str]] = frozenset,
        kept_down: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._installed = installed
        self._actions = actions
        self._operations = operations
        self._volumes = volumes
        self._links = links
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._stored_since_ms = since_ms
        self._leaving = leaving
        self._kept_down = kept_down
        self._turns: dict[str, trio.Lock] = {}
        self._since_ms: dict[str, int] = {}
        self._told: tuple[tuple[RunningApp, ...] | None, frozenset[str]] | None = None
        self._news = AppNews()
        self._wanted = trio.Event()
        self._app_turns = AppTurns("host", counters)
        self._lost_ms = 0
        self._away_since_s: float | None = None
        self._rows: tuple[InstalledApp, ...] | None = None
        self.table = ContainerTable()
        self.reachable = reachable
        self.problem = "the container engine has not been asked yet"
        """Why the engine is not usable, "" while it is."""

    # --- the service --------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ready when the engine has told what it has, or has turned out to be away."""
        try:
            await self._follow(task_status)
        except Exception:
            # what is in memory grows old from now on, so nobody may go on building on it
            self._is_away("what follows it has crashed and is started again")
            raise

    async def _follow(self, task_status: trio.TaskStatus[None]) -> None:
        async with self._engine.events() as events, trio.open_nursery() as nursery:
            await self._refresh()
            task_status.started()
            nursery.start_soon(self._sweep)
            async for event in events:
                if event.lost:
                    self._counters.add("containers.host.events_lost")
                    self._lost_ms = self._clock.now_ms() - round(event.away_s * 1000)
                    self._wanted.set()
                    continue
                with self._app_turns.of(event.name):
                    change = self.table.apply(event, self._clock.now_ms())
                    if change is not None:
                        self._publish([change])
        raise EngineError("the events of the engine came to an end", remedy="see what the engine says")

    async def _sweep(self) -> None:
        """List everything now and then, at once when events were missed, and often while it is away."""
        while True:
            pause_s = self._settings.engine_sweep_s if self.reachable.is_open else RETRY_S
            with trio.move_on_after(pause_s):
                await self._wanted.wait()
            self._wanted = trio.Event()
            await self._refresh()

    async def _refresh(self) -> None:
        lost_ms = self._lost_ms
        self.table.before_list()
        try:
            with trio.fail_after(LIST_S):
                rows = await self._engine.containers()
        except trio.TooSlowError:
            self._is_away(f"it did not list its containers within {LIST_S:g} s")
            return
        except EngineError as error:
            self._is_away(error.one_line())
            return
        if self._lost_ms == lost_ms:
            self._lost_ms = 0
        self._rows = None
        first = not self.reachable.is_open and not len(self.table)
        changes = self.table.replace(rows, self._clock.now_ms(), lost_ms=lost_ms)
        self._is_back()
        self._publish(() if first else changes)

    def _is_away(self, problem: str) -> None:
        self.problem = problem
        if self._away_since_s is None:
            self._away_since_s = trio.current_time()
            self._counters.add("containers.engine.away")
            log.error(
                "the container engine is away", problem=problem, remedy="see whether its service is running"
            )
            self._bus.publish(ENGINE_AWAY, {"problem": problem})
        self.reachable.close()
        self.tell()

    def _is_back(self) -> None:
        self.problem = ""
        was_away, self._away_since_s = self._away_since_s is not None, None
        self.reachable.open()
        if was_away:
            log.info("the container engine answers again", containers=len(self.table))
            self._bus.publish(ENGINE_BACK, {"containers": len(self.table)})

    def _publish(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if is_app_container(change.container) or change.app:
                self._counters.add(f"containers.seen.{change.state or 'gone'}")
                self._bus.publish(CONTAINER_CHANGED, msgspec.to_builtins(change))
        self.tell()

    def rows_changed(self) -> None:
        """The local table is another one now."""
        self._rows = None
        self.tell()

    def tell(self) -> None:
        """Tell the bus when what runs or is here has changed; called after whatever may have done that."""
        now = (self.apps(), self.names())
        if now != self._told:
            self._told = now
            self._news.tell(self._bus, self)

    # --- what is here -------------------------------------------------------------------------

    @property
    def is_known(self) -> bool:
        """Whether what the engine has is known; an engine that has just gone away may still run it all."""
        if self.reachable.is_open:
            return True
        if self._away_since_s is None or not len(self.table):
            return False
        return trio.current_time() - self._away_since_s < self._settings.engine_away_s

    def states(self) -> Mapping[str, str]:
        """Container name -> state, by what was last heard."""
        return self.table.states()

    def running_count(self) -> int:
        """How many containers of apps run."""
        return sum(state == RUNNING and is_app_container(name) for name, state in self.states().items())

    def apps(self) -> tuple[RunningApp, ...] | None:
        """See `RunningApps.apps`. A stopped container that a backup or restore holds counts as running."""
        if not self.is_known:
            return None
        states = self._announced_states()
        running = [app for app in self.installed() if self._runs(app, states)]
        self._since_ms = {app.name: self._since(app.name) for app in running}
        return tuple(RunningApp(app.name, app.hash, self._since_ms[app.name]) for app in running)

    def names(self) -> frozenset[str]:
        """See `RunningApps.names`; an app that is being redeployed is here too."""
        return self._installed.names() | self._operations.names()

    def installed(self) -> tuple[InstalledApp, ...]:
        """See `AppHost.installed`. Read anew after every change of the table, and with every list."""
        if self._rows is None:
            self._rows = self._installed.installed()
        leaving = self._leaving()
        return tuple(row for row in self._rows if row.name not in leaving) if leaving else self._rows

    async def containers(self) -> tuple[Container, ...]:
        """See `AppHost.containers`: what the engine says now."""
        return tuple(Container(row.name, row.state) for row in await self._engine.containers())

    def _announced_states(self) -> Mapping[str, str]:
        states = self.table.states()
        for held in self._operations.held:
            for name in (container_name(held), *self.table.of_app(held)):
                if name in states:
                    states[name] = RUNNING
        return states

    def _runs(self, app: InstalledApp, states: Mapping[str, str]) -> bool:
        """An app that cannot be opened here is judged by the containers that carry its label (D-25)."""
        if app.components:
            return runs_well(app, states)
        own = [states[name] for name in self.table.of_app(app.name)]
        return bool(own) and all(state == RUNNING for state in own)

    def _since(self, app: str) -> int:
        """As the network was told before, else from now on: it outlives restarts of its containers."""
        stored = self._stored_since_ms(app)
        return stored if stored is not None else self._since_ms.get(app, self._clock.now_ms())

    # --- what can be done ---------------------------------------------------------------------

    async def start(self, identifier: str) -> None:
        """See `AppHost.start`; its volumes are mounted first, its networks seen to when one is missing."""
        name = container_name(identifier)
        async with self._turn(name):
            if identifier in self._kept_down():
                log.info("not started, it was stopped on purpose or is held", component=identifier)
                return
            await self._volumes.ensure(name)
            try:
                await start_container(self._engine, name)
            except EngineUnreachable:
                raise
            except EngineError:
                if not await self._links.repair(name):
                    raise
                await start_container(self._engine, name)

    async def stop(self, container: str, grace_s: float) -> None:
        """See `AppHost.stop`. A start that is under way comes to its end first, else it would be the last."""
        async with self._turn(container):
            await self._engine.stop(container, grace_s)

    @asynccontextmanager
    async def _turn(self, container: str) -> AsyncIterator[None]:
        lock = self._turns.setdefault(container, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._turns.pop(container, None)

    async def kill(self, container: str) -> None:
        """See `AppHost.kill`."""
        await self._engine.kill(container)

    async def remove(self, app: str, *, reason: str) -> None:
        """See `AppHost.remove`: by force, whatever else is under way."""
        if app not in self._installed.names():
            return
        try:
            outcome = await self._actions.remove(app, reason=reason, force=True)
        except Busy as error:
            raise HostError(error.message, remedy=error.remedy) from error
        if not outcome.ok:
            raise HostError(f"{app} was not removed: {outcome.problem}", remedy="it is tried again later")

    async def link(self) -> None:
        """See `AppHost.link`."""
        await self._links.sweep()
