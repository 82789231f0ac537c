"""Orphans: containers whose app is not installed here are removed (docs/spec/lifecycle.md §16).

First `boot.forced_removal_delay_s` after the start, then every `monitors.forced_removal_interval_s`, and the
leftovers of the engine are pruned with them. Which containers are orphans is decided by `plans.prune`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import trio

from trionode.config.tree import BootSettings, MonitorSettings
from trionode.containers.actions import AppActions
from trionode.containers.engine import ContainerRow, Engine
from trionode.containers.operations import Busy, Operations
from trionode.errors import TrionodeError
from trionode.lifecycle.local import Container, InstalledApp
from trionode.lifecycle.names import is_app_container, parse_name
from trionode.plans import labels
from trionode.plans.prune import RemoveOrphan, plan_orphans
from trionode.runtime.appturns import AppTurns
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

SPACING_S = 180.0
"""Between two removals."""

log = get_logger("containers.orphans")


class InstalledRows(Protocol):
    """The local table (`containers.installedapps.InstalledApps`)."""

    def installed(self) -> tuple[InstalledApp, ...]: ...


class Orphans:
    """Service "orphans".

    `ever_known(name)`: whether the network ever had an app of that name. `listed(app)`: whether we are listed
    as a place of it. `prune`: clears away what else was left.
    """

    name = "orphans"

    def __init__(
        self,
        boot: BootSettings,
        monitors: MonitorSettings,
        *,
        engine: Engine,
        installed: InstalledRows,
        actions: AppActions,
        operations: Operations,
        ever_known: Callable[[str], Awaitable[bool]],
        listed: Callable[[str], bool],
        prune: Callable[[], Awaitable[None]],
        boot_settled: Gate,
        counters: Counters,
    ) -> None:
        self._delay_s = boot.forced_removal_delay_s * boot.delay_factor
        self._interval_s = monitors.forced_removal_interval_s
        self._engine = engine
        self._installed = installed
        self._actions = actions
        self._operations = operations
        self._ever_known = ever_known
        self._listed = listed
        self._prune = prune
        self._boot_settled = boot_settled
        self._counters = counters
        self._turns = AppTurns("orphans", counters)
        self.next_s: float | None = None
        """When orphans and leftovers are looked for next, on Trio's clock; None before that is known."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One round per interval; an engine that is away costs a round, no more."""
        task_status.started()
        self.next_s = trio.current_time() + self._delay_s
        await trio.sleep(self._delay_s)
        await self._boot_settled.wait()
        while True:
            try:
                await self._round()
            except TrionodeError as error:
                self._counters.add("containers.orphans.failed")
                log.error("orphans not looked for", problem=error.one_line())
            self.next_s = trio.current_time() + self._interval_s
            await trio.sleep(self._interval_s)

    async def plan(self) -> tuple[RemoveOrphan, ...]:
        """What would be removed now. Raises EngineError, StoreError."""
        rows = await self._engine.containers()
        owned = {row.labels[labels.OWNER] for row in rows if labels.OWNER in row.labels}
        known = owned | {name for name in _candidates(rows) if await self._ever_known(name)}
        return plan_orphans(
            self._installed.installed(),
            [Container(row.name, row.state) for row in rows],
            is_app=known.__contains__,
            listed=self._listed,
            busy=self._operations.is_busy,
        )

    async def _round(self) -> None:
        """One orphan after the other, each looked for anew."""
        tried: set[str] = set()
        while True:
            left = [orphan for orphan in await self.plan() if orphan.app not in tried]
            if not left:
                break
            if tried:
                await trio.sleep(SPACING_S)
                left = [orphan for orphan in await self.plan() if orphan.app not in tried]
                if not left:
                    break
            tried.add(left[0].app)
            with self._turns.of(left[0].app):
                await self._remove(left[0])
        if not self._operations.is_busy:
            await self._prune()

    async def _remove(self, orphan: RemoveOrphan) -> None:
        log.warning("removing an orphan", app=orphan.app, containers=orphan.containers, why=orphan.reason)
        try:
            outcome = await self._actions.remove(
                orphan.app, reason=orphan.reason, force=True, tell_peers=orphan.tell
            )
        except Busy:
            return
        self._counters.add("containers.orphans.removed" if outcome.ok else "containers.orphans.not_removed")
        if not outcome.ok:
            log.error("orphan not removed", app=orphan.app, problem=outcome.problem)


def _candidates(rows: Sequence[ContainerRow]) -> Mapping[str, None]:
    """The names of apps that unlabelled containers may belong to (D-1)."""
    found: dict[str, None] = {}
    for row in rows:
        if is_app_container(row.name) and labels.OWNER not in row.labels:
            found.setdefault(parse_name(row.name)[1])
            found.setdefault(row.name.partition("_")[2] or row.name)
    return found
