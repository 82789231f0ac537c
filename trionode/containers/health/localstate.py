"""LocalState: reads what is installed here before anything else starts, and ends what was left half done.

Facts: docs/spec/lifecycle.md §12, §15. An operation that a sudden death interrupted is undone as soon as the
engine answers; until then its app counts as installed as far as it got. A removal that fails or is broken off
while the process lives is tried again as long as anything is left.
"""

from __future__ import annotations

from typing import Protocol

import trio

from trionode.containers.actions import Outcome
from trionode.containers.planned import PlannedAction
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

AGAIN_S = 600.0
"""What could not be undone is tried again after this."""

log = get_logger("containers.local")


class Recovering(Protocol):
    """`containers.install.appactions.AppLifecycle`."""

    async def load(self) -> None: ...

    @property
    def has_unfinished(self) -> bool: ...

    async def some_unfinished(self) -> None: ...

    async def recover(self) -> tuple[Outcome, ...]: ...

    def half_done(self) -> tuple[tuple[str, str], ...]:
        """The apps `recover` removes, each with the reason."""
        ...


class LocalState:
    """Service "local apps": ready when the local table is in memory."""

    name = "local apps"

    def __init__(self, actions: Recovering, engine_ready: Gate, counters: Counters) -> None:
        self._actions = actions
        self._engine_ready = engine_ready
        self._counters = counters
        self._next_s: float | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load, then recover whenever something is left half done; what is under way gets its time."""
        await self._actions.load()
        task_status.started()
        while True:
            await self._engine_ready.wait()
            outcomes = await self._actions.recover()
            failed = [outcome.problem for outcome in outcomes if not outcome.ok]
            for outcome in outcomes:
                self._counters.add(f"containers.recovered.{'ok' if outcome.ok else 'failed'}")
            if failed:
                log.error("left half done", problems=failed)
            if self._actions.has_unfinished:
                self._next_s = trio.current_time() + AGAIN_S
                await trio.sleep(AGAIN_S)
            await self._actions.some_unfinished()

    def plan(self) -> tuple[PlannedAction, ...]:
        """What is left half done now goes with the next recovery."""
        return tuple(
            PlannedAction("remove", app, "", reason, due_s=self._next_s)
            for app, reason in self._actions.half_done()
        )
