"""Gives an app up that runs on more nodes than it wants, when this node was the latest to start it.

Facts: docs/spec/lifecycle.md §16. Looked at every `explorer.surplus_period_blocks` blocks at the tip. A
removal is no reason to hurry: the next one comes `installer.removal_spacing_s` later at the earliest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Protocol

import trio

from trionode.config.tree import ExplorerSettings, InstallerSettings
from trionode.containers.actions import AppActions
from trionode.containers.operations import Busy
from trionode.containers.planned import PlannedAction
from trionode.plans.redeploy import Surplus, plan_surplus
from trionode.plans.spawnneeds import Instance
from trionode.runtime.appturns import AppTurns
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
        self._turns = AppTurns("surplus", counters)
        self._height: int | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at the blocks it is time to look at."""
        with self._bus.subscribe(BLOCK) as blocks:
            task_status.started()
            async for block in blocks:
                self._height = int(block.data["height"])
                if self._is_due(self._height):
                    await self._look()

    def plan(self) -> tuple[PlannedAction, ...]:
        """The apps the next look gives up."""
        seen = self._height
        due = None if seen is None else next(height for height in count(seen + 1) if self._is_due(height))
        found = (self._surplus(app) for app in self._places.installed_names())
        return tuple(
            PlannedAction("remove", surplus.app, "", surplus.reason, height=due)
            for surplus in found
            if surplus is not None
        )

    def _is_due(self, height: int) -> bool:
        settings = self._explorer
        factor = settings.pon_speedup if height >= settings.pon_height else 1
        return height % (settings.surplus_period_blocks * factor) == 0

    def _surplus(self, app: str) -> Surplus | None:
        """Why to give the app up, None when it stays."""
        places, wanted = self._places, self._places.wanted(app)
        address = places.own_address
        if address is None:
            return None
        return plan_surplus(
            app, places.running(app), wanted or 0, address, synced=places.synced, known=wanted is not None
        )

    async def _look(self) -> None:
        for app in self._places.installed_names():
            with self._turns.of(app):
                surplus = self._surplus(app)
                if surplus is None:
                    continue
                try:
                    outcome = await self._actions.remove(app, reason=surplus.reason)
                except Busy as busy:
                    log.info("surplus app left for now", app=app, why=busy.message)
                    return
                kind = "removed" if outcome.ok else "failed"
                self._counters.add(f"containers.surplus.{kind}")
                await trio.sleep(self._spacing_s)
