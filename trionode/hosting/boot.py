"""The boot manager: decides once per start what becomes of the apps found here, and carries it out.

After a reboot containers stand still, and by the rules of the network some of their apps now run elsewhere
(docs/spec/lifecycle.md §4). Whatever happens, `settled` opens at the end and `boot:settled` is told: the
first announcement, health checks and the spawner wait for it. No wait is without an end (D-23).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec
import trio

from trionode.config.tree import BootSettings, HostingSettings, SystemSettings
from trionode.errors import HostError, TrionodeError
from trionode.hosting.heartbeat import Heartbeat
from trionode.hosting.port import AppHost, in_time
from trionode.hosting.removal import AppRemoval
from trionode.lifecycle.boot import (
    BootAction,
    BootContext,
    BootDecision,
    BootFacts,
    BootLimits,
    BootWait,
    decide,
)
from trionode.lifecycle.local import Component, Container
from trionode.lifecycle.reconcile import LeaveApp, ReconcileStep, RemoveApp, StartApp, plan_reconcile
from trionode.runtime.appturns import AppTurns
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

log = get_logger("hosting.boot")


class BootResults(msgspec.Struct):
    """What the boot manager did, app by app. `failed`: identifier or app, and why."""

    checked: int = 0
    started: list[str] = msgspec.field(default_factory=list)
    partially_started: list[str] = msgspec.field(default_factory=list)
    left_to_election: list[str] = msgspec.field(default_factory=list)
    without_spec: list[str] = msgspec.field(default_factory=list)
    stopped: list[str] = msgspec.field(default_factory=list)
    removed: list[str] = msgspec.field(default_factory=list)
    failed: list[tuple[str, str]] = msgspec.field(default_factory=list)


class BootGates(msgspec.Struct, frozen=True):
    """What the decision waits for and asks, handed in.

    `status`: the confirmation, None while the daemon has not told it; `status_known` opens with it.
    `listed(app)`: whether the own log has an unexpired row of the app at our address.
    `specs(app)`: components by the specification in force, None when there is none. `engine_ready`: open
    while the engine answers. `stops()`: components somebody stopped on purpose, or that a backup or
    restore works on.
    """

    daemon_ready: Gate
    status_known: Gate
    db_ready: Gate
    confirmed: Callable[[], bool]
    is_dos: Callable[[], bool]
    listed: Callable[[str], bool]
    specs: Callable[[str], Sequence[Component] | None]
    engine_ready: Gate = msgspec.field(default_factory=lambda: Gate(is_open=True))
    stops: Callable[[], Collection[str]] = tuple


class BootManager:
    """Service "boot". `decision` and `results` are for status pages."""

    name = "boot"

    def __init__(
        self,
        settings: SystemSettings,
        boot: BootSettings,
        hosting: HostingSettings,
        limits: BootLimits,
        *,
        host: AppHost,
        heartbeat: Heartbeat,
        removal: AppRemoval,
        gates: BootGates,
        bus: EventBus,
        counters: Counters,
        settled: Gate | None = None,
    ) -> None:
        self._settings = settings
        self._spacing_s = boot.start_spacing_s
        self._engine_s = hosting.engine_timeout_s
        self._apps_at_once = hosting.parallel_starts
        self._limits = limits
        self._host = host
        self._heartbeat = heartbeat
        self._removal = removal
        self._gates = gates
        self._bus = bus
        self._counters = counters
        self.settled = Gate() if settled is None else settled
        """Opens once, when the decision has been carried out."""
        self.decision: BootDecision | None = None
        self.waits_for: BootWait | None = None
        self._is_postponed = False
        self._turns = AppTurns("boot", counters)
        self.results = BootResults()

    @property
    def context(self) -> BootContext:
        """How this start relates to the last life; right from the moment the heartbeat is ready."""
        return self._heartbeat.context

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ready at once; decides, carries out, and then only rests."""
        task_status.started()
        if not self.settled.is_open:
            await self._settle()
        if self._is_postponed:
            await self._catch_up()
        await trio.sleep_forever()

    @property
    def pending(self) -> BootDecision | None:
        """The decision as long as it is not carried out: it is under way, or the engine is waited for."""
        return None if self.settled.is_open and not self._is_postponed else self.decision

    def steps(self, containers: Sequence[Container]) -> tuple[ReconcileStep, ...]:
        """What is done to apps that do not run when they are to be started again."""
        gates = self._gates
        found = plan_reconcile(
            self._host.installed(), containers, gates.specs, gates.listed, stops=gates.stops()
        )
        return found or ()

    async def _settle(self) -> None:
        self.results = BootResults()
        self.decision = decision = await self._decide()
        log.info("boot decision", rule=decision.rule, action=decision.action.value, why=decision.reason)
        try:
            if decision.action is not BootAction.NOTHING:
                await self._carry_out(decision)
        except TrionodeError as error:
            self._counters.add("boot.failed")
            self.results.failed.append(("", error.one_line()))
            log.error("boot decision not carried out", problem=error.message, remedy=error.remedy)
        self.settled.open()
        self._bus.publish("boot:settled", {})
        await self._heartbeat.settled()

    async def _carry_out(self, decision: BootDecision) -> None:
        """With an engine: one that is away for too long is not waited for by the rest of the node."""
        if not await _opens(self._gates.engine_ready, self._engine_s):
            self._is_postponed = True
            raise HostError(
                f"the container engine did not answer within {self._engine_s:g} s",
                remedy="see whether its service is running; the apps are seen to as soon as it answers",
            )
        if decision.action is BootAction.REMOVE_ALL:
            await self._remove_all(decision)
        else:
            await self._reconcile()

    async def _catch_up(self) -> None:
        """What the boot decision could not do without the engine."""
        await self._gates.engine_ready.wait()
        self._is_postponed = False
        decision = self.decision
        log.info("boot decision carried out late", action=None if decision is None else decision.action.value)
        try:
            if decision is not None:
                await self._carry_out(decision)
        except TrionodeError as error:
            self._counters.add("boot.failed")
            self.results.failed.append(("", error.one_line()))
            log.error("boot decision not carried out", problem=error.message, remedy=error.remedy)

    async def _decide(self) -> BootDecision:
        if not self._host.installed() and self.context.machine_rebooted:
            return BootDecision(0, BootAction.NOTHING, "no app is installed")
        facts = BootFacts()
        while True:
            found = decide(self.context, facts, self._limits)
            if isinstance(found, BootDecision):
                self.waits_for = None
                return found
            self.waits_for = found
            facts = await self._learn(found, facts)

    async def _learn(self, wanted: BootWait, facts: BootFacts) -> BootFacts:
        """Wait for one fact, no longer than its time."""
        gates, settings = self._gates, self._settings
        if wanted is BootWait.DAEMON:
            ready = await _opens(gates.daemon_ready, settings.boot_daemon_timeout_s)
            return msgspec.structs.replace(facts, daemon_ready=ready)
        if wanted is BootWait.STATUS:
            known = await _opens(gates.status_known, settings.boot_daemon_timeout_s)
            return msgspec.structs.replace(
                facts, status_known=known, confirmed=gates.confirmed(), dos=gates.is_dos()
            )
        ready = await _opens(gates.db_ready, settings.boot_sync_timeout_s)
        return msgspec.structs.replace(facts, data_ready=ready)

    async def _remove_all(self, decision: BootDecision) -> None:
        found = await self._removal.remove_all(f"boot: {decision.reason}")
        self.results.removed += found.removed
        self.results.failed += found.failed

    async def _reconcile(self) -> None:
        """Apps side by side within a limit, the components of one app in order."""
        steps = self.steps(await in_time(self._host.containers(), self._engine_s, "list its containers"))
        if not steps:
            return
        began_s, turns = trio.current_time(), trio.Semaphore(self._apps_at_once)
        async with trio.open_nursery() as nursery:
            for step in steps:
                await turns.acquire()  # in the order of the plan, whoever ends first
                nursery.start_soon(self._take, step, turns)
        order = {step.app: number for number, step in enumerate(steps)}
        for found in (self.results.started, self.results.partially_started, self.results.removed):
            found.sort(key=lambda app: order.get(app, -1))
        log.info("apps reconciled", count=len(steps), took_s=round(trio.current_time() - began_s, 1))
        await in_time(self._host.link(), self._engine_s, "link the apps")

    async def _take(self, step: ReconcileStep, turns: trio.Semaphore) -> None:
        self.results.checked += 1
        try:
            with self._turns.of(step.app) as turn:
                if isinstance(step, LeaveApp):
                    self._leave(step)
                elif isinstance(step, RemoveApp):
                    await self._remove(step)
                else:
                    await self._start(step)
            if turn.failed:
                self.results.failed.append((step.app, turn.problem))
        finally:
            turns.release()

    def _leave(self, step: LeaveApp) -> None:
        if step.why == "election":
            self.results.left_to_election.append(step.app)
        elif step.why == "stopped":
            self.results.stopped.append(step.app)
        else:
            self.results.without_spec.append(step.app)

    async def _remove(self, step: RemoveApp) -> None:
        problem = await self._removal.remove(step.app, f"boot: {step.reason}")
        if problem is None:
            self.results.removed.append(step.app)
        else:
            self.results.failed.append((step.app, problem))
        await trio.sleep(self._spacing_s)

    async def _start(self, step: StartApp) -> None:
        """A component that cannot be started does not keep the others from it, nor counts as started."""
        complete = True
        for identifier in step.identifiers:
            try:
                await in_time(self._host.start(identifier), self._engine_s, f"start {identifier}")
            except TrionodeError as error:
                complete = False
                self._counters.add("boot.start_failed")
                self.results.failed.append((identifier, error.one_line()))
                log.error("container not started", component=identifier, problem=error.one_line())
            else:
                await trio.sleep(self._spacing_s)
        if complete:
            (self.results.partially_started if step.partial else self.results.started).append(step.app)


async def _opens(gate: Gate, within_s: float) -> bool:
    """Whether the gate opens in time."""
    with trio.move_on_after(within_s):
        await gate.wait()
    return gate.is_open
