"""Removes installed apps whose time is over: the registry says which (docs/spec/registry.md §8).

One after the other, by force, the peers are told. What cannot be removed is named again at the next
expiry, because its local row is still there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import trio

from trionode.config.tree import InstallerSettings
from trionode.containers.actions import AppActions
from trionode.registry.constants import Constants
from trionode.registry.expiry import expiration_height
from trionode.registry.housekeeping import Life
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

REASON = "it has ended"

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
    """Service "expired-apps"; the registry's `LocalApps`."""

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
    ) -> None:
        self._spacing_s = settings.expiry_spacing_s
        self._rows = rows
        self._actions = actions
        self._counters = counters
        self._constants = constants
        self._over: dict[str, None] = {}
        self._named = trio.Event()

    def installed(self) -> Sequence[Life]:
        """What is installed, and when each of it ends."""
        return [
            Life(
                row.name,
                row.height or None,
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
                await self._remove(app)
                if self._over:
                    await trio.sleep(self._spacing_s)

    async def _remove(self, app: str) -> None:
        if all(row.name != app for row in self._rows.rows()):
            return
        outcome = await self._actions.remove(app, reason=REASON, force=True)
        self._counters.add("containers.expiry.removed" if outcome.ok else "containers.expiry.failed")
        if not outcome.ok:
            log.error("an app that has ended could not be removed", app=app, problem=outcome.problem)
