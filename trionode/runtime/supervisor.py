"""Supervisor: starts services in order, restarts the ones that crash, stops them in reverse order.

It watches subsystems, not peers (docs/architecture.md). Every service runs in its own nursery and
cancel scope, so a crash stays inside; it is logged whole, counted, shown in `status()` and followed
by a restart after a capped, jittered, doubling delay. Returning from `run` counts as a crash. A crash
loop of an essential service stops the node with `ServiceCrashLoop`. A service that ends because
something it needs is away for a while (a full disk, a database) has not crashed: it is started again
every few seconds, however long that takes. Stopping is one shielded scope with one deadline
(docs/spec/lifecycle.md §5 for why it must be bounded).
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import trio

from trionode.config.tree import SupervisorSettings
from trionode.errors import TrionodeError
from trionode.runtime.backoff import Backoff
from trionode.runtime.counters import Counters
from trionode.runtime.crashes import ServiceEnded, bare, describe, is_passing, start_error
from trionode.runtime.logs import get_logger
from trionode.runtime.service import Service


class ServiceCrashLoop(TrionodeError):
    """An essential service crashed too often in too short a time; the node gives up."""

    code = "crash_loop"


class StopCutShort(TrionodeError):
    """The orderly stop was cut short on request (a second signal)."""

    code = "cut_short"


class ServiceState(enum.Enum):
    """Where a service is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"


class ServiceStatus(msgspec.Struct, frozen=True):
    """What `status()` says of one service. Durations are seconds, None where they have no meaning."""

    name: str
    state: str
    essential: bool
    crashes: int
    ready_for_s: float | None
    restart_in_s: float | None
    last_error: str | None
    last_crash_ago_s: float | None


_PASSING_PAUSE_S = 5.0
"""Before a service is started again that ended because something it needs is away."""

Farewell = Callable[[str], Awaitable[None]]
"""Called with the reason of the stop before the first service is stopped, within the grace."""


class _Watched:
    """The supervisor's book-keeping of one service."""

    def __init__(self, service: Service, *, essential: bool, remedy: str) -> None:
        self.service = service
        self.name = service.name
        self.essential = essential
        self.remedy = remedy
        self.state = ServiceState.WAITING
        self.scope = trio.CancelScope(shield=True)
        self.settled = trio.Event()
        self.done = trio.Event()
        self.spawned = False
        self.stopping = False
        self.ready_once = False
        self.start_error: Exception | None = None
        self.crashes = 0
        self.attempt = 0
        self.recent: deque[float] = deque()
        self.ready_at: float | None = None
        self.restart_at: float | None = None
        self.last_error: str | None = None
        self.last_crash_at: float | None = None

    def crashed(self, error: Exception, now: float, settings: SupervisorSettings) -> None:
        """Count one crash, if it is one; a service that had been ready for long enough starts from a clean
        sheet."""
        if self.ready_at is not None and now - self.ready_at >= settings.stable_s:
            self.attempt = 0
            self.recent.clear()
        self.ready_at = None
        self.last_crash_at = now
        self.last_error = describe(error)
        if is_passing(error):
            return
        self.crashes += 1
        self.attempt += 1
        self.recent.append(now)
        while now - self.recent[0] > settings.crash_window_s:
            self.recent.popleft()


class Supervisor:
    """Owns the services of one node from their first start to their end.

    `rng` only jitters restart delays. `grace_s` bounds the whole of an orderly stop, the farewell
    included, which may ask for a longer one with `extend_grace`.
    """

    def __init__(
        self,
        counters: Counters,
        rng: random.Random,
        *,
        grace_s: float = 5.0,
        settings: SupervisorSettings | None = None,
        farewell: Farewell | None = None,
    ) -> None:
        self._counters = counters
        self._rng = rng
        self._grace_s = grace_s
        self._farewell = farewell
        self._stop_began_s = 0.0
        self._settings = settings if settings is not None else SupervisorSettings()
        self._backoff = Backoff(
            base_s=self._settings.restart_delay_s, cap_s=self._settings.restart_delay_max_s
        )
        self._services: list[_Watched] = []
        self._running = False
        self._stop_reason: str | None = None
        self._stop_requested = trio.Event()
        self._start_scope = trio.CancelScope()
        self._grace_scope: trio.CancelScope | None = None
        self._cut_short = False
        self._failure: Exception | None = None
        self._log = get_logger("supervisor")

    def add(self, service: Service, *, essential: bool, remedy: str = "") -> None:
        """Add a service; the order of adding is the order of starting.

        A crash loop of an `essential` service ends the node; others are restarted for ever.
        `remedy` is the sentence a person reads when the node gives up because of this service.
        """
        if self._running:
            raise RuntimeError(f"service {service.name!r} was added after the supervisor had started")
        if any(known.name == service.name for known in self._services):
            raise ValueError(f"two services are named {service.name!r}")
        self._services.append(_Watched(service, essential=essential, remedy=remedy))

    @property
    def stop_reason(self) -> str | None:
        """Why the node is stopping, None while it is not."""
        return self._stop_reason

    def stop(self, reason: str) -> None:
        """Ask for an orderly stop. The first reason is kept; idempotent and usable before `run`."""
        if self._stop_reason is None:
            self._stop_reason = reason
            self._stop_requested.set()
            self._start_scope.cancel(reason=reason)

    def extend_grace(self, grace_s: float) -> float | None:
        """From now on the stop under way may take this long, counted from its begin; never less.

        Returns the seconds that are left, None when there is no such stop or it has been cut short.
        """
        self._grace_s = max(self._grace_s, grace_s)
        if self._grace_scope is None or self._cut_short:
            return None
        self._grace_scope.deadline = self._stop_began_s + self._grace_s
        return self._grace_scope.deadline - trio.current_time()

    def cut_short(self, reason: str = "cut short") -> None:
        """Stop waiting for services one by one: cancel whatever is left now.

        `run` then ends with StopCutShort, unless it has a worse error to tell.
        """
        self.stop(reason)
        self._cut_short = True
        if self._failure is None:
            self._failure = StopCutShort(
                f"stopped at once: {reason}", remedy="stored data is safe; peers notice by themselves"
            )
        if self._grace_scope is not None:
            self._grace_scope.cancel(reason=reason)

    def status(self) -> list[ServiceStatus]:
        """One row per service, in start order. Needs a running Trio loop (durations)."""
        now = trio.current_time()
        return [
            ServiceStatus(
                name=watched.name,
                state=watched.state.value,
                essential=watched.essential,
                crashes=watched.crashes,
                ready_for_s=None if watched.ready_at is None else now - watched.ready_at,
                restart_in_s=None if watched.restart_at is None else max(0.0, watched.restart_at - now),
                last_error=watched.last_error,
                last_crash_ago_s=None if watched.last_crash_at is None else now - watched.last_crash_at,
            )
            for watched in self._services
        ]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start every service, report ready, and return after an orderly stop.

        Each service is started when the one before it is ready. Raises StartupError (or the
        service's own TrionodeError) when a first start fails, and ServiceCrashLoop; in both cases,
        and when cancelled from outside, everything already started is stopped in order first.
        A stop asked for during the start is orderly too: `run` then returns without an error.
        """
        if self._running:
            raise RuntimeError("a supervisor runs once")
        self._running = True
        async with trio.open_nursery() as nursery:
            try:
                with self._start_scope:
                    await self._start_all(nursery)
                if self._failure is None:
                    task_status.started()
                await self._stop_requested.wait()
            finally:
                self.stop("cancelled from outside")
                await self._stop_all()
        if self._failure is not None:
            raise self._failure

    async def _start_all(self, nursery: trio.Nursery) -> None:
        for watched in self._services:
            watched.spawned = True
            nursery.start_soon(self._watch, watched, name=f"service {watched.name}")
            await watched.settled.wait()
            if watched.start_error is not None:
                self._fail(watched.start_error, f"{watched.name} could not start")
            await trio.lowlevel.checkpoint()

    def _fail(self, error: Exception, reason: str) -> None:
        if self._failure is None:
            self._failure = error
        self.stop(reason)

    async def _watch(self, watched: _Watched) -> None:
        """One service for the whole life of the node."""
        try:
            with watched.scope:
                while not watched.stopping:
                    error = await self._run_once(watched)
                    if error is None or watched.stopping:
                        break
                    if not watched.ready_once:
                        watched.start_error = error
                        break
                    if self._gives_up(watched, error):
                        break
                    await self._pause(watched, error)
        finally:
            watched.state = ServiceState.STOPPED
            watched.ready_at = None
            watched.settled.set()
            watched.done.set()
            # Only reached unasked by a crash loop or by something no service may raise
            # (KeyboardInterrupt, SystemExit): either way the others must be stopped in order.
            if not watched.stopping:
                self.stop(f"{watched.name} ended")

    async def _run_once(self, watched: _Watched) -> Exception | None:
        """Run until the service crashes (its error) or is cancelled (propagates, or None)."""
        crash: Exception | None = None
        watched.state = ServiceState.STARTING
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(_run_to_the_end, watched.service)
                watched.state = ServiceState.READY
                watched.ready_at = trio.current_time()
                watched.settled.set()
                if watched.ready_once:
                    self._log.info("service restarted", service=watched.name, crashes=watched.crashes)
                watched.ready_once = True
        except* Exception as group:  # noqa: BLE001 - watching for any crash is the point
            crash = bare(group)
            if watched.stopping:
                self._counters.add(f"service.stop_failed.{watched.name}")
                self._log.error("service failed while stopping", service=watched.name, exc_info=crash)
            else:
                watched.crashed(crash, trio.current_time(), self._settings)
                self._tell(watched, crash)
        if crash is not None and not watched.ready_once:
            return start_error(crash, watched.name, watched.remedy)
        return crash

    def _tell(self, watched: _Watched, crash: Exception) -> None:
        name = watched.name
        if is_passing(crash):
            # Known and told by its owner; a traceback each time would only fill the disk.
            self._counters.add(f"service.put_off.{name}")
            self._log.warning("service waits", service=name, problem=describe(crash))
            return
        self._counters.add(f"service.crashed.{name}")
        if watched.ready_once:
            self._log.error("service crashed", service=name, crashes=watched.crashes, exc_info=crash)

    def _gives_up(self, watched: _Watched, last: Exception) -> bool:
        if is_passing(last) or not watched.essential or len(watched.recent) < self._settings.crash_limit:
            return False
        remedy = watched.remedy or (last.remedy if isinstance(last, TrionodeError) else "")
        error = ServiceCrashLoop(
            f"the {watched.name} service crashed {len(watched.recent)} times within "
            f"{self._settings.crash_window_s:g} s, last with {watched.last_error}",
            remedy=remedy or "read the traceback in the log above, remove its cause and start again",
        )
        self._fail(error, f"crash loop of {watched.name}")
        return True

    async def _pause(self, watched: _Watched, crash: Exception) -> None:
        delay_s = _PASSING_PAUSE_S
        if not is_passing(crash):
            delay_s = self._backoff.delay_s(watched.attempt, self._rng)
        watched.state = ServiceState.BACKOFF
        watched.restart_at = trio.current_time() + delay_s
        self._log.info("service will be restarted", service=watched.name, in_s=round(delay_s, 2))
        try:
            await trio.sleep_until(watched.restart_at)
        finally:
            watched.restart_at = None
        self._counters.add(f"service.restarted.{watched.name}")

    async def _stop_all(self) -> None:
        """Stop in reverse order of starting; at the deadline cancel the rest at once and name it."""
        reason = self._stop_reason or "stop"
        self._log.info("stopping", reason=reason, grace_s=self._grace_s)
        self._stop_began_s = trio.current_time()
        with trio.CancelScope(shield=True, deadline=self._stop_began_s + self._grace_s) as scope:
            self._grace_scope = scope
            if self._cut_short:
                scope.cancel(reason=reason)
            await self._say_farewell(reason)
            for watched in self._to_stop():
                self._cancel(watched, reason)
                await watched.done.wait()
        left = list(self._to_stop())
        if left:
            self._log.warning(
                "stop cut short" if self._cut_short else "the grace of an orderly stop is over",
                services=[watched.name for watched in left],
                grace_s=self._grace_s,
            )
            self._counters.add("service.stop_overdue", len(left))
            for watched in left:
                self._cancel(watched, reason)

    async def _say_farewell(self, reason: str) -> None:
        """Whatever goes wrong in it, the services are stopped afterwards."""
        if self._farewell is None:
            return
        try:
            await self._farewell(reason)
        except Exception as error:  # noqa: BLE001 - nothing may keep the node from stopping
            self._counters.add("service.farewell_failed")
            self._log.error("the farewell failed", exc_info=error)

    def _to_stop(self) -> Iterator[_Watched]:
        return (w for w in reversed(self._services) if w.spawned and not w.done.is_set())

    def _cancel(self, watched: _Watched, reason: str) -> None:
        watched.stopping = True
        watched.state = ServiceState.STOPPING
        watched.scope.cancel(reason=reason)


async def _run_to_the_end(
    service: Service, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    await service.run(task_status=task_status)
    raise ServiceEnded(f"the {service.name} service ended by itself")
