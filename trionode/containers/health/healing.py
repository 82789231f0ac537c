"""Healer: carries out what a look at the containers decided, and what failures lead to (lifecycle.md §9).

An app is removed only for what is its own fault, and after as many tries as a crash has. What others are to
blame for (`install.troubles`) and other operations put it off; a container that exists after all settles it.
"""

from __future__ import annotations

from typing import Protocol

from trionode.containers.actions import AppActions
from trionode.containers.engine import Engine, EngineError, NotFound
from trionode.containers.health.endings import Endings
from trionode.containers.health.tampering import TamperingLog
from trionode.containers.install.troubles import is_far, is_passing
from trionode.containers.operations import Busy, Operations
from trionode.containers.table import ContainerTable
from trionode.errors import HostError, TrionodeError
from trionode.hosting.port import in_time
from trionode.lifecycle.local import RUNNING, InstalledApp
from trionode.lifecycle.names import container_name
from trionode.plans.health import NoteTampering, Recreate, RemoveApp, StartContainer, after_failure
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

PATIENCE_S = (60.0, 120.0, 240.0, 480.0, 600.0)
"""Waits while somebody on the internet has trouble; the last one again and again."""

log = get_logger("containers.health")


class Host(Protocol):
    """The engine as far as it is known (`containers.host.EngineHost`)."""

    @property
    def table(self) -> ContainerTable: ...
    @property
    def reachable(self) -> Gate: ...

    def installed(self) -> tuple[InstalledApp, ...]: ...

    async def start(self, identifier: str) -> None: ...

    async def stop(self, container: str, grace_s: float) -> None: ...


class PutOff(Protocol):
    """Lets an app alone for a while, or for so many seconds."""

    def __call__(self, app: str, wait_s: float = ..., /) -> None: ...


class Healer:
    """Carries out the actions of one app at a time."""

    def __init__(
        self,
        *,
        host: Host,
        engine: Engine,
        actions: AppActions,
        operations: Operations,
        endings: Endings,
        tampering: TamperingLog,
        counters: Counters,
        clock: WallClock,
        put_off: PutOff,
        stop_grace_s: float,
        limit_s: float,
    ) -> None:
        self._host = host
        self._engine = engine
        self._actions = actions
        self._operations = operations
        self._endings = endings
        self._tampering = tampering
        self._counters = counters
        self._clock = clock
        self._put_off = put_off
        self._stop_grace_s = stop_grace_s
        self._limit_s = limit_s
        self._waited: dict[str, int] = {}

    async def carry_out(self, action: StartContainer | Recreate) -> bool:
        """Whether it went well, and the rest of the app's actions are worth trying."""
        log.info("seeing to a container", component=action.identifier, why=action.reason)
        try:
            if isinstance(action, StartContainer):
                await self._start(action)
                self._counters.add("containers.health.started")
            else:
                await self._recreate(action)
                self._counters.add("containers.health.recreated")
        except Busy:
            return False  # the end of the operation wakes the next look
        except TrionodeError as error:
            self._endings.not_restarting(action.identifier)
            if is_passing(error):
                self._wait(action, error)
                return False
            return await self._failed(action, error)
        self._endings.started(action.identifier)
        self._waited.pop(action.identifier, None)
        return True

    async def _start(self, action: StartContainer) -> None:
        name, identifier = container_name(action.identifier), action.identifier
        if action.again:
            self._endings.restarting(identifier)
            await in_time(self._host.stop(name, self._stop_grace_s), self._limit_s, f"stop {identifier}")
        await in_time(self._host.start(identifier), self._limit_s, f"start {identifier}")

    async def _recreate(self, action: Recreate) -> None:
        if self._operations.current is not None:
            raise Busy(self._operations.current)
        outcome = await self._actions.recreate(
            action.app,
            action.identifier,
            keeps_volume=action.keeps_volume,
            start=not action.elected and (action.keeps_volume or not self._receives(action.identifier)),
        )
        # only now: while the machine has trouble this is tried again and again, for one disappearance
        if action.tampering is not None:
            self._tampering.note(action.app, action.tampering, f"{action.identifier}: {action.reason}")
        if not outcome.ok:
            raise HostError(outcome.problem, remedy="see what the engine says")

    def _receives(self, identifier: str) -> bool:
        """An `r:` component with an empty volume is started when its files are there (§12)."""
        parts = (part for app in self._host.installed() for part in app.components)
        return any("r" in part.flags for part in parts if part.identifier == identifier)

    def _wait(self, action: StartContainer | Recreate, error: TrionodeError) -> None:
        """Others have trouble, not the app."""
        self._counters.add("containers.health.put_off")
        log.warning("put off", component=action.identifier, problem=error.one_line())
        if not is_far(error):
            self._put_off(action.app)
            return
        waited = self._waited[action.identifier] = self._waited.get(action.identifier, 0) + 1
        self._put_off(action.app, PATIENCE_S[min(waited, len(PATIENCE_S)) - 1])

    async def _failed(self, action: StartContainer | Recreate, error: TrionodeError) -> bool:
        """What a failure leads to; the engine is looked at again first."""
        self._counters.add("containers.health.action_failed")
        log.error("container not seen to", component=action.identifier, problem=error.one_line())
        try:
            state: str | None = (await self._engine.inspect(container_name(action.identifier))).state
        except NotFound:
            state = None
        except EngineError as problem:
            self._wait(action, problem)
            return False
        if isinstance(action, StartContainer):
            if state == RUNNING:
                return True
            if state is None:  # it is missing now: the next look makes it again
                self._put_off(action.app)
                return False
            last_try = self._endings.not_started(action.identifier, self._clock.now_ms())
        else:
            last_try = state is None and self._endings.not_made(action.identifier, self._clock.now_ms())
        steps = after_failure(
            action,
            error.message,
            exists=state is not None,
            busy=self._operations.is_busy,
            last_try=last_try,
        )
        for step in steps:
            if isinstance(step, NoteTampering):
                self._tampering.note(step.app, step.kind, step.reason)
            else:
                await self._remove(step)
        return False

    async def _remove(self, step: RemoveApp) -> None:
        """The next look decides anew when it cannot be done now."""
        self._put_off(step.app)
        try:
            outcome = await self._actions.remove(step.app, reason=step.reason)
        except Busy as error:
            log.warning("app not removed now", app=step.app, problem=error.one_line())
            return
        if outcome.ok:
            self._counters.add("containers.health.removed")
            log.error("app removed", app=step.app, why=step.reason)
        else:
            self._counters.add("containers.health.not_removed")
            log.error("app not removed", app=step.app, problem=outcome.problem)
