"""Gives an app up that runs on more nodes than it wants, when this node was the latest to start it.

Facts: docs/spec/lifecycle.md §16. Looked at every `explorer.surplus_period_blocks` blocks at the tip. A
removal is no reason to hurry: the next one comes `installer.removal_spacing_s` later at the earliest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from trionode.config.tree import ExplorerSettings, InstallerSettings
from trionode.containers.actions import AppActions
from trionode.containers.operations import Busy
from trionode.plans.redeploy import plan_surplus
from trionode.plans.spawnneeds import Instance
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

BLOCK = "block:processed"

log = get_logger("containers.surplus")


class Places(Protocol):
    """What the node knows of the apps it has installed."""

    @property
    def own_address(self) -> str | None: ...
    @property
    def synced(self) -> bool:
        """Whether the explorer is at the tip of the chain and the registry is complete."""
        ...

    def installed_names(self) -> Sequence[str]: ...

    def wanted(self, app: str) -> int | None:
        """Instances by the specification in force; None when there is none."""
        ...

    def running(self, app: str) -> Sequence[Instance]:
        """Its location rows."""
        ...


class SurplusWatch:
    """Service "surplus"."""

    name = "surplus"

    def __init__(
        self,
        explorer: ExplorerSettings,
        installer: InstallerSettings,
        *,
        places: Places,
        actions: AppActions,
        bus: EventBus,
        counters: Counters,
    ) -> None:
        self._explorer = explorer
        self._spacing_s = installer.removal_spacing_s
        self._places = places
        self._actions = actions
        self._bus = bus
        self._counters = counters

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at the blocks it is time to look at."""
        with self._bus.subscribe(BLOCK) as blocks:
            task_status.started()
            async for block in blocks:
                if self._is_due(int(block.data["height"])):
                    await self._look()

    def _is_due(self, height: int) -> bool:
        settings = self._explorer
        factor = settings.pon_speedup if height >= settings.pon_height else 1
        return height % (settings.surplus_period_blocks * factor) == 0

    async def _look(self) -> None:
        places = self._places
        address = places.own_address
        if address is None or not places.synced:
            return
        for app in places.installed_names():
            wanted = places.wanted(app)
            surplus = plan_surplus(
                app, places.running(app), wanted or 0, address, synced=True, known=wanted is not None
            )
            if surplus is None:
                continue
            try:
                outcome = await self._actions.remove(app, reason=surplus.reason)
            except Busy as busy:
                log.info("surplus app left for now", app=app, why=busy.message)
                return
            self._counters.add("containers.surplus.removed" if outcome.ok else "containers.surplus.failed")
            await trio.sleep(self._spacing_s)
