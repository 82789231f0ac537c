"""Removes installed apps whose time is over: the registry says which (docs/spec/registry.md §8).

One after the other, by force, the peers are told. What cannot be removed is named again at the next
expiry, because its local row is still there. The present plan asks the registry's own rules what the next
passes will name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Protocol

import trio

from trionode.chain.blockhooks import due_at
from trionode.config.tree import InstallerSettings
from trionode.containers.actions import AppActions
from trionode.containers.planned import PlannedAction
from trionode.registry.constants import Constants
from trionode.registry.expiry import expiration_height
from trionode.registry.housekeeping import Life, expired_names, local_names_to_remove
from trionode.runtime.appturns import AppTurns
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

REASON = "it has ended"
FORESEEN_BLOCKS = 2880
"""Ends within so many blocks (a day) are part of the present plan."""

log = get_logger("containers.expiry")


class Row(Protocol):
    """A local row (`containers.installedapps.LocalRow`)."""

    @property
    def name(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def spec(self) -> Mapping[str, Any]: ...


class Rows(Protocol):
    """The local table (`containers.installedapps.InstalledApps`)."""

    def rows(self) -> Sequence[Row]: ...


class ExpiredApps:
    """Service "expired-apps"; the registry's `LocalApps`.

    `life(app)`: of its specification in force. `scanned_height`: blocks up to it are read.
    """

    name = "expired-apps"
    builtin_names: Sequence[str] = ()

    def __init__(
        self,
        settings: InstallerSettings,
        rows: Rows,
        actions: AppActions,
        counters: Counters,
        *,
        constants: Constants,
        life: Callable[[str], Life | None],
        scanned_height: Callable[[], int],
    ) -> None:
        self._spacing_s = settings.expiry_spacing_s
        self._rows = rows
        self._actions = actions
        self._counters = counters
        self._constants = constants
        self._life = life
        self._scanned_height = scanned_height
        self._turns = AppTurns("expiry", counters)
        self._over: dict[str, None] = {}
        self._next_s: float | None = None
        self._named = trio.Event()

    def installed(self) -> Sequence[Life]:
        """What is installed, and when each of it ends."""
        return [
            Life(
                row.name,
                row.height or None,  # 0 is none (D-16): such an app was never paid for
                expiration_height(row.height, row.spec.get("expire"), self._constants),
            )
            for row in self._rows.rows()
        ]

    async def remove(self, names: Sequence[str]) -> None:
        """Remember these; `run` removes them. Naming an app twice removes it once."""
        await trio.lowlevel.checkpoint()
        self._over.update(dict.fromkeys(names))
        self._named.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Remove what was named until cancelled."""
        task_status.started()
        while True:
            await self._named.wait()
            self._named = trio.Event()
            while self._over:
                app = next(iter(self._over))
                del self._over[app]
                with self._turns.of(app):
                    await self._remove(app)
                if self._over:
                    self._next_s = trio.current_time() + self._spacing_s
                    await trio.sleep(self._spacing_s)

    def plan(self) -> tuple[PlannedAction, ...]:
        """The apps named already, then those the passes of the next day will name."""
        height = self._scanned_height()
        named = [PlannedAction("remove", app, "", REASON, due_s=self._next_s) for app in self._over]
        lives = {life.name: life for life in self.installed()}
        now = self._ended(lives, height)
        steps = []
        for app in self._ended(lives, height + FORESEEN_BLOCKS):
            if app in self._over:
                continue
            end = height if app in now else lives[app].end_height
            reason = REASON if app in now else f"it ends with block {end} unless it is prolonged"
            steps.append(PlannedAction("remove", app, "", reason, height=self._pass_after(max(height, end))))
        return (*named, *steps)

    def _ended(self, lives: Mapping[str, Life], height: int) -> list[str]:
        """The installed apps a pass of the registry at this height names."""
        current = [life for app in lives if (life := self._life(app)) is not None]
        return local_names_to_remove(lives.values(), height, expired_names(current, height, self._constants))

    def _pass_after(self, height: int) -> int:
        settings = self._constants.explorer
        return next(block for block in count(height + 1) if due_at(block, settings, at_tip=True).expire)

    async def _remove(self, app: str) -> None:
        if all(row.name != app for row in self._rows.rows()):
            return
        outcome = await self._actions.remove(app, reason=REASON, force=True)
        self._counters.add("containers.expiry.removed" if outcome.ok else "containers.expiry.failed")
        if not outcome.ok:
            log.error("an app that has ended could not be removed", app=app, problem=outcome.problem)
