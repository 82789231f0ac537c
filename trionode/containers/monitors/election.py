"""Carries the election of `g:` apps out: one node runs such an app at a time (docs/spec/lifecycle.md §17).

`plans.election` decides; here the domain managers and other nodes are asked, containers stopped and
started. What one app's questions take or bring to an end concerns no other app. File sync is not managed by
this node: the folders of its apps count as in sync, and only their rights are set. Answers are kept until
the next cycle: the present plan is the same election on what was heard last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

import trio

from trionode.config.tree import MonitorSettings
from trionode.containers.disk import Disk
from trionode.containers.engine import ContainerRow, Engine
from trionode.containers.operations import Operations
from trionode.containers.planned import Kind, PlannedAction
from trionode.errors import TrionodeError
from trionode.lifecycle.local import RUNNING, Component, InstalledApp
from trionode.lifecycle.names import container_name
from trionode.plans.election import (
    AskManager,
    Elect,
    Election,
    ElectionFacts,
    FolderStep,
    Member,
    Memory,
    Need,
    StartPrimary,
    StopApp,
    elect,
    elected_component,
    may_elect,
)
from trionode.runtime.appturns import AppTurns
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

ELECTIONS_AT_A_TIME = 8
STOP_GRACE_S = 10.0

log = get_logger("containers.election")


class Electorate(Protocol):
    """What an election asks the world. Neither method raises; each has its own time limit."""

    async def listed(self, url: str) -> Collection[str] | None:
        """Addresses a domain manager lists, none when it knows of none; None: it did not answer."""
        ...

    async def running(self, address: str) -> Collection[str] | None:
        """Names of the containers a node runs; None: it did not answer."""
        ...


class ElectedApps(Protocol):
    """What the node knows of its own apps."""

    @property
    def own_address(self) -> str | None: ...

    async def installed(self) -> Sequence[InstalledApp]:
        """With their opened components."""
        ...

    def installed_now(self) -> Sequence[InstalledApp]:
        """The same without opening any that is not yet."""
        ...

    def members(self, app: str) -> Sequence[Member]:
        """Its location rows."""
        ...


class Volumes(Protocol):
    """Sees to it that what a container mounts is there (`containers.health.mountrecovery.MountRecovery`)."""

    async def ensure(self, container: str) -> None:
        """Mount the volumes of the app of this container, as far as they are not. Raises DiskError."""
        ...


class Starter(Protocol):
    """Starts and stops containers (`containers.host.EngineHost`)."""

    async def start(self, identifier: str) -> None:
        """Unless it was stopped on purpose; its volumes are mounted first. Raises EngineError, DiskError."""
        ...

    async def stop(self, container: str, grace_s: float) -> None: ...


class ElectionWatch:
    """Service "election". `results` are the last result of each app, for status pages.

    `urls(app)`: the domain managers that answer for it. `let_alone(app)`: its operator stopped it.
    `boot_settled`: until then the apps may still be found to belong elsewhere. `departing`: the machine
    goes down.
    """

    name = "election"

    def __init__(
        self,
        settings: MonitorSettings,
        *,
        apps: ElectedApps,
        electorate: Electorate,
        engine: Engine,
        host: Starter,
        disk: Disk,
        volumes: Volumes,
        operations: Operations,
        boot_settled: Gate,
        clock: WallClock,
        counters: Counters,
        urls: Callable[[str], Sequence[str]],
        let_alone: Callable[[str], bool] = lambda app: False,
        departing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._interval_s = settings.primary_interval_s
        self._apps = apps
        self._electorate = electorate
        self._engine = engine
        self._host = host
        self._disk = disk
        self._volumes = volumes
        self._operations = operations
        self._boot_settled = boot_settled
        self._clock = clock
        self._counters = counters
        self._turns = AppTurns("election", counters)
        self._urls = urls
        self._let_alone = let_alone
        self._departing = departing
        self._memories: dict[str, Memory] = {}
        self._heard: dict[str, dict[Need, Collection[str] | None]] = {}
        self._next_s: float | None = None
        self._limiter = trio.CapacityLimiter(ELECTIONS_AT_A_TIME)
        self.results: dict[str, str] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One cycle per interval; an engine that is away costs a cycle, no more."""
        task_status.started()
        await self._boot_settled.wait()
        while True:
            try:
                await self._cycle()
            except TrionodeError as error:
                self._counters.add("containers.election.failed")
                log.error("election not held", problem=error.one_line())
            self._next_s = trio.current_time() + self._interval_s
            await trio.sleep(self._interval_s)

    def plan(self, rows: Iterable[ContainerRow]) -> tuple[PlannedAction, ...]:
        """What the next cycle does if it hears the same again. `rows`: what the engine has."""
        running = _running(rows)
        apps = [(app, elected_component(app.components)) for app in self._apps.installed_now()]
        return tuple(self._planned(app, part, running) for app, part in apps if part is not None)

    def _planned(self, app: InstalledApp, part: Component, running: frozenset[str]) -> PlannedAction:
        address, blocked = self._apps.own_address, self._blocked(app.name)
        if address is None or blocked:
            return PlannedAction("leave", app.name, part.identifier, blocked)
        decided = self._decided_before(self._facts(app, address, running))
        if not isinstance(decided, Election):
            return PlannedAction("elect", app.name, part.identifier, _question(decided), due_s=self._next_s)
        action = decided.action
        if action is None:
            due_ms = decided.memory.start_at_ms
            return PlannedAction("elect", app.name, part.identifier, decided.reason, due_ms)
        kind: Kind = "stop" if isinstance(action, StopApp) else "start_primary"
        return PlannedAction(kind, app.name, ", ".join(action.identifiers), action.reason, due_s=self._next_s)

    def _decided_before(self, facts: ElectionFacts) -> Election | Need:
        """The election on the last answers, or the first question that was not asked."""
        heard = self._heard.get(facts.app, {})
        steps = self._steps(facts)
        answer: Collection[str] | None = None
        while True:
            try:
                need = steps.send(answer)
            except StopIteration as done:
                election: Election = done.value
                return election
            if need not in heard:
                return need
            answer = heard[need]

    async def _cycle(self) -> None:
        if not may_elect(busy=self._operations.is_busy, files_in_order=True):
            return
        apps = [app for app in await self._apps.installed() if elected_component(app.components) is not None]
        names = {app.name for app in apps}
        self._memories = {name: memory for name, memory in self._memories.items() if name in names}
        self.results = {name: text for name, text in self.results.items() if name in names}
        self._heard = {name: heard for name, heard in self._heard.items() if name in names}
        if not apps:
            return
        running = _running(await self._engine.containers())
        async with trio.open_nursery() as nursery:
            for app in apps:
                nursery.start_soon(self._hold, app, running)

    async def _hold(self, app: InstalledApp, running: frozenset[str]) -> None:
        async with self._limiter:
            address = self._apps.own_address
            if address is None or self._blocked(app.name):
                return
            with self._turns.of(app.name) as turn:
                election = await self._decide(self._facts(app, address, running))
                self._memories[app.name] = election.memory
                self.results[app.name] = election.reason
                await self._carry_out(election)
            if turn.failed:
                self.results[app.name] = turn.problem

    def _blocked(self, app: str) -> str:
        """Why no election is held for an app, "" when one is."""
        if self._apps.own_address is None:
            return "the own address is not known"
        return "its operator stopped it" if self._let_alone(app) else ""

    def _facts(self, app: InstalledApp, address: str, running: frozenset[str]) -> ElectionFacts:
        return ElectionFacts(
            app=app.name,
            components=app.components,
            members=self._apps.members(app.name),
            own_address=address,
            running=running,
            held=_is_held(app, self._operations.held),
            now_ms=self._clock.now_ms(),
        )

    def _steps(self, facts: ElectionFacts) -> Elect:
        return elect(facts, self._memories.get(facts.app, Memory()), self._urls(facts.app))

    async def _decide(self, facts: ElectionFacts) -> Election:
        steps = self._steps(facts)
        heard: dict[Need, Collection[str] | None] = {}
        answer: Collection[str] | None = None
        while True:
            try:
                need = steps.send(answer)
            except StopIteration as done:
                self._heard[facts.app] = heard
                election: Election = done.value
                return election
            if isinstance(need, AskManager):
                answer = await self._electorate.listed(need.url)
            else:
                answer = await self._electorate.running(need.address)
            heard[need] = answer

    async def _carry_out(self, election: Election) -> None:
        action = election.action
        # asked again: the questions took their time
        if action is None or self._operations.is_busy or self._departing() or self._blocked(action.app):
            return
        try:
            if isinstance(action, StopApp):
                await self._stop(action)
            else:
                await self._start(action)
        except TrionodeError as error:
            self._counters.add("containers.election.action_failed")
            log.error("election not carried out", app=action.app, problem=error.one_line())

    async def _stop(self, action: StopApp) -> None:
        log.warning("app stopped, another node is its primary", app=action.app, why=action.reason)
        self._counters.add("containers.election.stopped")
        for identifier in action.identifiers:
            await self._host.stop(container_name(identifier), STOP_GRACE_S)

    async def _start(self, action: StartPrimary) -> None:
        log.info("app started as primary", app=action.app, why=action.reason)
        for step in action.steps:
            if step.what in ("open", "restart"):
                # never beneath its mount: what it writes there would be gone with the next mount
                await self._volumes.ensure(container_name(step.target))
            await self._step(action.app, step)
        self._counters.add("containers.election.started")

    async def _step(self, app: str, step: FolderStep) -> None:
        if step.what == "open":
            await self._disk.open_folder(step.target)
        elif step.what == "restart":
            if self._blocked(app):  # stopped while its folders were opened
                return
            await self._host.stop(container_name(step.target), STOP_GRACE_S)
            await self._host.start(step.target)


def _question(need: Need) -> str:
    if isinstance(need, AskManager):
        return "the domain managers are to be asked who runs it"
    return f"{need.address} is to be asked whether it runs it"


def _running(rows: Iterable[ContainerRow]) -> frozenset[str]:
    return frozenset(row.name for row in rows if row.state == RUNNING)


def _is_held(app: InstalledApp, held: frozenset[str]) -> bool:
    return app.name in held or any(part.identifier in held for part in app.components)


def documents(results: Mapping[str, str]) -> list[dict[str, str]]:
    """[{app, result}] by name, for status pages."""
    return [{"app": app, "result": results[app]} for app in sorted(results)]
