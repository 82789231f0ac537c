"""Keeps apps from filling the machine's disk outside their volumes (docs/spec/lifecycle.md §19, storage).

Sizes of root file systems are dear to find out, so containers are asked one after the other, half an hour
apart. How often an app was too large is remembered as long as the process lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from trionode.config.tree import BootSettings, MonitorSettings
from trionode.containers.actions import AppActions
from trionode.containers.engine import Engine, NotFound
from trionode.errors import TrionodeError
from trionode.lifecycle.local import InstalledApp
from trionode.lifecycle.names import container_name
from trionode.plans.rootsize import RootVerdict, judge_root
from trionode.runtime.appturns import AppTurns
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

log = get_logger("containers.storage")


class Rows(Protocol):
    """The local table (`containers.installedapps.InstalledApps`)."""

    def installed(self) -> Sequence[InstalledApp]: ...


class StorageWatch:
    """Service "storage"."""

    name = "storage"

    def __init__(
        self,
        settings: MonitorSettings,
        boot: BootSettings,
        *,
        installed: Rows,
        engine: Engine,
        actions: AppActions,
        boot_settled: Gate,
        counters: Counters,
    ) -> None:
        self._first_s = settings.storage_delay_s * boot.delay_factor
        self._interval_s = settings.storage_interval_s
        self._spacing_s = settings.storage_spacing_s
        self._installed = installed
        self._engine = engine
        self._actions = actions
        self._boot_settled = boot_settled
        self._counters = counters
        self._turns = AppTurns("storage", counters)
        self._violations: dict[str, int] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at all apps once per interval until cancelled."""
        task_status.started()
        await self._boot_settled.wait()
        await trio.sleep(self._first_s)
        while True:
            apps = self._installed.installed()
            names = {app.name for app in apps}
            self._violations = {name: count for name, count in self._violations.items() if name in names}
            for app in apps:
                with self._turns.of(app.name):
                    try:
                        await self._look(app)
                    except TrionodeError as error:
                        self._counters.add("containers.storage.failed")
                        log.info("size of an app not known", app=app.name, why=error.message)
            await trio.sleep(self._interval_s)

    async def _look(self, app: InstalledApp) -> None:
        total_bytes = 0
        for part in app.components:
            try:
                total_bytes += await self._engine.root_bytes(container_name(part.identifier))
            except NotFound:  # health makes it again
                return
        violations = self._violations.get(app.name, 0)
        verdict = judge_root(total_bytes, len(app.components), violations)
        if verdict is RootVerdict.FINE:
            return
        self._violations[app.name] = violations + 1
        self._counters.add(f"containers.storage.{verdict.value}")
        reason = f"its root file systems hold {total_bytes / 1e9:.1f} GB, too much for {len(app.components)}"
        if verdict is RootVerdict.REMOVE:
            outcome = await self._actions.remove(app.name, reason=reason)
        else:
            outcome = await self._actions.redeploy(app.name, hard=False, reason=reason)
        log.warning("app too large", app=app.name, ok=outcome.ok, problem=outcome.problem)
        await trio.sleep(self._spacing_s)
