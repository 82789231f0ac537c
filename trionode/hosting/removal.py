"""Removing all apps of this node, once at a time (docs/spec/lifecycle.md §4, §10).

A removal that fails is logged and does not stop the others. Whoever asks while a removal of all runs
is told so and does nothing: the one under way does the same.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from trionode.errors import TrionodeError
from trionode.hosting.port import AppHost, in_time
from trionode.runtime.appturns import AppTurns
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

log = get_logger("hosting.removal")


class Removed(msgspec.Struct, frozen=True):
    """What came of a removal of all apps. `failed`: app and why."""

    removed: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    already_running: bool = False


class Leaving(msgspec.Struct, frozen=True):
    """All apps are to go: why, when the first does on Trio's clock (None: at once), and the pause between."""

    reason: str
    due_s: float | None = None
    pause_s: float = 0.0


class AppRemoval:
    """The one way to remove apps for a reason that concerns the node as a whole."""

    def __init__(self, host: AppHost, counters: Counters, *, timeout_s: float = 300.0) -> None:
        self._host = host
        self._counters = counters
        self._timeout_s = timeout_s
        self._turns = AppTurns("removal", counters)
        self.in_progress = False
        self.under_way: Leaving | None = None
        """The removal of all that is in progress, with the moment of the next one."""

    async def remove_all(
        self, reason: str, *, pause_s: float = 0.0, still_due: Callable[[], bool] = lambda: True
    ) -> Removed:
        """Remove every installed app, one after the other, `pause_s` apart.

        `still_due` is asked before each but the first: when the reason is gone, the rest may stay.
        """
        if self.in_progress:
            return Removed(already_running=True)
        self.in_progress = True
        try:
            return await self._remove_each(reason, pause_s, still_due)
        finally:
            self.in_progress = False
            self.under_way = None

    async def _remove_each(self, reason: str, pause_s: float, still_due: Callable[[], bool]) -> Removed:
        removed: list[str] = []
        failed: list[tuple[str, str]] = []
        for number, app in enumerate(self._host.installed()):
            self.under_way = Leaving(reason, trio.current_time() + pause_s if number else None, pause_s)
            if number and pause_s:
                await trio.sleep(pause_s)
            if number and not still_due():
                break
            problem = await self.remove(app.name, reason)
            if problem is None:
                removed.append(app.name)
            else:
                failed.append((app.name, problem))
        return Removed(tuple(removed), tuple(failed))

    async def remove(self, app: str, reason: str) -> str | None:
        """Remove one app; None, or why it could not be removed."""
        problem = ""
        with self._turns.of(app) as turn:
            try:
                await in_time(self._host.remove(app, reason=reason), self._timeout_s, f"remove {app}")
            except TrionodeError as error:
                problem = error.one_line()
        problem = problem or turn.problem
        if problem:
            self._counters.add("hosting.removal.failed")
            log.error("app could not be removed", app=app, reason=reason, problem=problem)
            return problem
        self._counters.add("hosting.removal.removed")
        log.warning("app removed", app=app, reason=reason)
        return None
