"""HealthWatch: containers that should run, run (docs/spec/lifecycle.md §9).

What the engine host sees wakes it: a container that ended by itself, vanished or became unhealthy is seen to
at once. A slow pass in the rhythm of the announcements is the rest: what somebody else stopped is started
when two passes have seen it so. `plans.health` decides; one task for each app carries the decisions out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
import trio

from trionode.config.tree import MonitorSettings
from trionode.containers.actions import AppActions
from trionode.containers.disk import Disk, DiskError
from trionode.containers.engine import Engine
from trionode.containers.health.endings import Endings
from trionode.containers.health.healing import Healer, Host
from trionode.containers.health.tampering import TamperingLog
from trionode.containers.host import CONTAINER_CHANGED, ENGINE_BACK
from trionode.containers.operations import Operations
from trionode.containers.planned import Kind, PlannedAction
from trionode.containers.table import ALIVE, Change
from trionode.lifecycle.local import RUNNING, InstalledApp
from trionode.lifecycle.names import container_name
from trionode.plans.crashes import Crashes
from trionode.plans.health import (
    HealthAction,
    HealthFacts,
    Leave,
    Recreate,
    Remember,
    StartContainer,
    is_held,
    plan_health,
)
from trionode.runtime.appturns import AppTurns
from trionode.runtime.bus import EventBus, Subscription
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

SETTLE_S = 0.2
"""After a change: the engine may not have said yet that somebody asked for it, or may have more to say."""
APPS_AT_A_TIME = 8
AGAIN_S = 60.0
"""After engine, disk or another app's operation stood in the way, the next try comes this much later."""
UNHEARD_S = 5.0
"""What was started is waited for this long to be heard of, before it is started again."""
NEWS_BUFFER = 4096
"""Changes not taken yet; beyond them the oldest are lost, and the ends of containers count as unseen."""

log = get_logger("containers.health")


class Stops(Protocol):
    """Components stopped on purpose (`containers.health.operatorstops.OperatorStops`)."""

    @property
    def names(self) -> frozenset[str]: ...


class HealthTimes(msgspec.Struct, frozen=True, kw_only=True):
    """`interval_s`: between slow passes. `start_limit_s`: longest wait for one start or stop."""

    interval_s: float
    stop_grace_s: float
    start_limit_s: float


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of apps besides the engine.

    `known(app)`: there is a specification in force. `since_ms(app)`: start in our own location row.
    `departing()`: the machine goes down, nothing is started any more.
    """

    known: Callable[[str], bool]
    since_ms: Callable[[str], int | None]
    departing: Callable[[], bool] = lambda: False


class HealthWatch:
    """Service "containers health". `wake` listens to the operations."""

    name = "containers health"

    def __init__(
        self,
        settings: MonitorSettings,
        times: HealthTimes,
        *,
        host: Host,
        engine: Engine,
        disk: Disk,
        actions: AppActions,
        operations: Operations,
        stops: Stops,
        view: HealthView,
        tampering: TamperingLog,
        boot_settled: Gate,
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
    ) -> None:
        self._waits_s = settings.crash_backoff_s
        self._interval_s = times.interval_s
        self._host = host
        self._disk = disk
        self._operations = operations
        self._stops = stops
        self._view = view
        self._boot_settled = boot_settled
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._endings = Endings(
            host.installed, counters, stable_s=settings.crash_stable_s, tries=len(settings.crash_backoff_s)
        )
        self._healer = Healer(
            host=host,
            engine=engine,
            actions=actions,
            operations=operations,
            endings=self._endings,
            tampering=tampering,
            counters=counters,
            clock=clock,
            put_off=self._put_off,
            stop_grace_s=times.stop_grace_s,
            limit_s=times.start_limit_s,
        )
        self._turns = AppTurns("health", counters)
        self._working: set[str] = set()
        self._waiting_s: dict[str, float] = {}
        self._slow_s: float | None = None
        self._held: frozenset[str] = frozenset()
        self._let_go: set[str] = set()
        """Components a backup or restore has given back: that they stand still is known."""
        self._woken = trio.Event()
        self._limiter = trio.CapacityLimiter(APPS_AT_A_TIME)
        self.last_pass_ms: int | None = None

    @property
    def crashes(self) -> Mapping[str, Crashes]:
        """Components that ended by themselves, by identifier."""
        return self._endings.crashes

    def wake(self) -> None:
        """Something has changed that may matter: an operation has begun or ended."""
        self._woken.set()

    async def plan(self) -> tuple[PlannedAction, ...]:
        """What is done at once, at the next slow pass, or after a wait. Raises DiskError."""
        facts = await self._facts(slow=True)
        at_once = frozenset(plan_health(msgspec.structs.replace(facts, seen_ms=self._seen_ms(slow=False))))
        return (
            *(
                PlannedAction("under_way", app, "", "its containers are being seen to")
                for app in sorted(self._working)
            ),
            *(
                PlannedAction("wait", app, "", "the last try came to nothing; it is tried again", due_s=due_s)
                for app, due_s in sorted(self._waiting_s.items())
            ),
            *(self._planned(action, at_once) for action in plan_health(facts)),
        )

    def _planned(self, action: HealthAction, at_once: frozenset[HealthAction]) -> PlannedAction:
        kind, reason = _kind(action), action.reason
        if isinstance(action, Leave):
            return PlannedAction(kind, action.app, action.identifier, reason, action.until_ms)
        if isinstance(action, Recreate) and not self._may_begin(action):
            reason = f"{reason}; it waits for the end of what is under way"
        soon = action in at_once and not isinstance(action, Remember)
        due_s = None if soon else self._slow_s
        return PlannedAction(kind, action.app, action.identifier, reason, due_s=due_s)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ready at once; looks from the moment on at which boot decision and engine allow it."""
        with self._bus.subscribe(CONTAINER_CHANGED, ENGINE_BACK, buffer=NEWS_BUFFER) as news:
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, news)
                await self._boot_settled.wait()
                await self._host.reachable.wait()
                await self._watch(nursery)

    async def _watch(self, nursery: trio.Nursery) -> None:
        self._slow_s = slow_s = trio.current_time()
        while True:
            slow = trio.current_time() >= slow_s
            self._woken = trio.Event()
            due_s = await self._look(nursery, slow=slow)
            if slow:
                self._slow_s = slow_s = trio.current_time() + self._interval_s
            with trio.move_on_at(min(slow_s, due_s)):
                await self._woken.wait()
                await trio.sleep(SETTLE_S)

    async def _listen(self, news: Subscription) -> None:
        async for event in news:
            if event.name == CONTAINER_CHANGED:
                change = msgspec.convert(event.data, Change)
                with self._turns.of(change.container):
                    app = self._endings.learn(change)
                    if app is not None and app not in self._working:
                        self._waiting_s.pop(app, None)
            else:
                self._waiting_s.clear()
            self._woken.set()

    def _put_off(self, app: str, wait_s: float = AGAIN_S) -> None:
        self._waiting_s[app] = trio.current_time() + wait_s

    # --- one look -----------------------------------------------------------------------------

    async def _look(self, nursery: trio.Nursery, *, slow: bool) -> float:
        """Look at everything and begin what is due; when the next look is due by itself."""
        if self._view.departing() or not self._host.reachable.is_open:
            return trio.current_time() + AGAIN_S
        try:
            facts = await self._facts(slow=slow)
        except DiskError as error:
            self._counters.add("containers.health.failed")
            log.error("containers not looked at", problem=error.one_line())
            return trio.current_time() + AGAIN_S
        actions = self._decided(facts)
        for app, work in self._work_of(actions).items():
            self._working.add(app)
            nursery.start_soon(self._work, app, work)
        if slow:
            self._remember(actions, facts.now_ms)
        moments_ms = (action.until_ms for action in actions if isinstance(action, Leave))
        waits_ms = [moment - facts.now_ms for moment in moments_ms if moment and moment > facts.now_ms]
        due_s = [trio.current_time() + wait_ms / 1000 for wait_ms in waits_ms]
        return min([*due_s, *self._waiting_s.values()], default=math.inf)

    def _decided(self, facts: HealthFacts) -> tuple[HealthAction, ...]:
        """App by app: what cannot be planned for one is nothing to the others."""
        found: list[HealthAction] = []
        for app in facts.apps:
            with self._turns.of(app.name):
                found += plan_health(msgspec.structs.replace(facts, apps=(app,)))
        return tuple(found)

    def _work_of(self, actions: Iterable[HealthAction]) -> dict[str, list[StartContainer | Recreate]]:
        """What is to be done, by app."""
        found: dict[str, list[StartContainer | Recreate]] = {}
        for action in actions:
            if isinstance(action, StartContainer | Recreate) and self._may_begin(action):
                found.setdefault(action.app, []).append(action)
        return found

    def _may_begin(self, action: StartContainer | Recreate) -> bool:
        """Nothing is made again while an operation runs: its end wakes us."""
        return isinstance(action, StartContainer) or not self._operations.is_busy

    def _remember(self, actions: Iterable[HealthAction], now_ms: int) -> None:
        for action in actions:
            if isinstance(action, Remember):
                self._endings.sighted(action.identifier, now_ms)
        self._endings.tidy()
        self._counters.add("containers.health.passes")
        self.last_pass_ms = now_ms

    async def _facts(self, *, slow: bool) -> HealthFacts:
        """From memory, but for the volumes of missing containers. Apps something is done to are left out."""
        now_s = trio.current_time()
        self._waiting_s = {app: until_s for app, until_s in self._waiting_s.items() if until_s > now_s}
        taken = self._working | self._waiting_s.keys() | self._operations.names()
        installed, table = self._host.installed(), self._host.table
        apps = [app for app in installed if app.name not in taken]
        states = {name: RUNNING if state in ALIVE else state for name, state in table.states().items()}
        self._learn_let_go(installed, states)
        names = [part.identifier for app in apps for part in app.components]
        missing = [name for name in names if container_name(name) not in states]
        mounted = [name for name in missing if await self._disk.is_mounted(container_name(name))]
        return HealthFacts(
            apps=apps,
            states=states,
            known=frozenset(app.name for app in apps if self._view.known(app.name)),
            held=self._operations.held,
            stopped=self._stops.names,
            since_ms=self._since_ms(apps),
            seen_ms=self._seen_ms(slow=slow),
            crashes=self._endings.crashes,
            unmade=self._endings.unmade,
            crash_waits_s=self._waits_s,
            mounted=frozenset(mounted),
            unhealthy=table.unhealthy(),
            now_ms=self._clock.now_ms(),
        )

    def _seen_ms(self, *, slow: bool) -> dict[str, int]:
        """When components were seen standing still: told to slow passes, or when no other look is needed."""
        seen_ms = dict(self._endings.seen_ms) if slow else {}
        return seen_ms | dict.fromkeys(self._let_go, self._clock.now_ms())

    def _learn_let_go(self, apps: Sequence[InstalledApp], states: Mapping[str, str]) -> None:
        """From the end of a hold until they run, or are held again."""
        held, before = self._operations.held, self._held
        self._held = held
        free = {
            part.identifier: is_held(app.name, part.identifier, before)
            for app in apps
            for part in app.components
            if not is_held(app.name, part.identifier, held)
            and states.get(container_name(part.identifier)) != RUNNING
        }
        self._let_go = {name for name, was_held in free.items() if was_held or name in self._let_go}

    def _since_ms(self, apps: Sequence[InstalledApp]) -> dict[str, int]:
        """Asked only of apps that receive files: for the others it makes no difference."""
        receiving = [app.name for app in apps if any("r" in part.flags for part in app.components)]
        found = {app: self._view.since_ms(app) for app in receiving}
        return {app: since_ms for app, since_ms in found.items() if since_ms is not None}

    async def _work(self, app: str, work: Sequence[StartContainer | Recreate]) -> None:
        """All actions of one app in order; ends early when one fails or an operation takes the app."""
        try:
            with self._turns.of(app) as turn:
                await self._carry_out(app, work)
            if turn.failed:
                self._put_off(app)
        finally:
            self._working.discard(app)
            self._woken.set()

    async def _carry_out(self, app: str, work: Sequence[StartContainer | Recreate]) -> None:
        for action in work:
            async with self._limiter:
                if self._view.departing() or app in self._operations.names():
                    return
                if action.identifier in self._stops.names:  # by now: those before it took their time
                    continue
                if not await self._healer.carry_out(action):
                    return
        if not all(self._is_heard_to_run(action) for action in work):
            self._waiting_s[app] = trio.current_time() + UNHEARD_S

    def _is_heard_to_run(self, action: StartContainer | Recreate) -> bool:
        entry = self._host.table.get(container_name(action.identifier))
        return entry is not None and entry.state in ALIVE


def _kind(action: HealthAction) -> Kind:
    match action:
        case StartContainer():
            return "restart" if action.again else "start"
        case Recreate():
            return "recreate"
        case Remember():
            return "remember"
        case Leave():
            return "leave"
