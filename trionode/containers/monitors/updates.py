"""Brings installed apps up to the specification in force (docs/spec/lifecycle.md §16, obsolete spec).

Not all nodes of an app must do it in the same minute: looked at every few blocks, how many is drawn anew
each time, and each look acts with a chance of 1 in `installer.redeploy_one_in`. What is to be done is
decided by `plans.redeploy`, for the present plan as for a look.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import trio

from trionode.config.tree import ExplorerSettings, InstallerSettings
from trionode.containers.actions import Outcome, Spec
from trionode.containers.monitors.surplus import BLOCK
from trionode.containers.operations import Busy
from trionode.containers.planned import Kind, PlannedAction
from trionode.errors import TrionodeError
from trionode.plans.redeploy import Depth, UpdatePlan, plan_update
from trionode.runtime.appturns import AppTurns
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

LEAST_BLOCKS, MOST_BLOCKS = 4, 9
"""Between two looks, before the factor of faster blocks."""

KINDS: Mapping[Depth, Kind] = {
    Depth.ROW: "update_row",
    Depth.SOFT: "redeploy_soft",
    Depth.HARD: "redeploy_hard",
    Depth.LEAVE: "remove",
}

log = get_logger("containers.updates")


class SpecSource(Protocol):
    """Specifications of installed apps: as installed and as in force."""

    @property
    def synced(self) -> bool:
        """Whether the explorer is at the tip of the chain and the registry is complete."""
        ...

    def obsolete(self) -> Sequence[str]:
        """Installed apps whose specification in force has another hash."""
        ...

    async def installed_spec(self, app: str) -> Spec | None:
        """Opened, as far as it can be."""
        ...

    async def current_spec(self, app: str) -> tuple[Spec, bool] | None:
        """The one in force, and whether it could be opened; None when there is none."""
        ...

    def both_now(self, app: str) -> tuple[Spec, Spec, bool] | None:
        """Installed, in force, whether that is open; None when one of them would have to be opened first."""
        ...


class Updater(Protocol):
    """Carries a plan out."""

    async def update(self, spec: Mapping[str, Any], plan: UpdatePlan, *, reason: str) -> Outcome:
        """On failure nothing of the app is left, and the peers are told. Raises Busy."""
        ...


class SpecUpdates:
    """Service "spec-updates"."""

    name = "spec-updates"

    def __init__(
        self,
        explorer: ExplorerSettings,
        installer: InstallerSettings,
        *,
        specs: SpecSource,
        updater: Updater,
        bus: EventBus,
        counters: Counters,
        rng: random.Random,
    ) -> None:
        self._explorer = explorer
        self._one_in = installer.redeploy_one_in
        self._specs = specs
        self._updater = updater
        self._bus = bus
        self._counters = counters
        self._rng = rng
        self._turns = AppTurns("updates", counters)
        self._due_height: int | None = None
        """The first block after which it looks again; None before the first, which is looked at."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look when it is time to until cancelled."""
        with self._bus.subscribe(BLOCK, buffer=1) as blocks:
            task_status.started()
            self._due_height = None
            async for block in blocks:
                height = int(block.data["height"])
                if self._due_height is None or height >= self._due_height:
                    self._due_height = height + self._pause_blocks(height)
                    await self._look()

    def plan(self) -> tuple[PlannedAction, ...]:
        """The updates that wait, as far as specifications are open; a look makes each with its chance."""
        if not self._specs.synced:
            return ()
        return tuple(step for app in self._specs.obsolete() for step in self._planned(app))

    def _planned(self, app: str) -> list[PlannedAction]:
        chance = "" if self._one_in == 1 else f"; each look does it with a chance of 1 in {self._one_in}"
        both = self._specs.both_now(app)
        if both is None:
            reason = f"its specification changed; how much is known when it is opened{chance}"
            return [PlannedAction("update", app, "", reason, height=self._due_height)]
        plan = plan_update(both[0], both[1], opened=both[2])
        wanted = [(part.identifier, part.depth, part.reason) for part in plan.parts]
        return [
            PlannedAction(KINDS[depth], app, part, f"{_why(reason)}{chance}", height=self._due_height)
            for part, depth, reason in wanted or [("", plan.depth, plan.reason)]
            if depth is not Depth.NOTHING
        ]

    def _pause_blocks(self, height: int) -> int:
        settings = self._explorer
        factor = settings.pon_speedup if height >= settings.pon_height else 1
        return self._rng.randint(LEAST_BLOCKS, MOST_BLOCKS) * factor

    async def _look(self) -> None:
        if not self._specs.synced:
            return
        for app in self._specs.obsolete():
            if self._rng.randrange(self._one_in):
                continue
            with self._turns.of(app):
                try:
                    await self._update(app)
                except Busy as busy:
                    log.info("updates left for the next look", app=app, why=busy.message)
                    return
                except TrionodeError as error:
                    self._counters.add("containers.updates.failed")
                    log.error("app not updated", app=app, problem=error.one_line())

    async def _update(self, app: str) -> None:
        installed, current = await self._specs.installed_spec(app), await self._specs.current_spec(app)
        if installed is None or current is None:
            return
        spec, opened = current
        plan = plan_update(installed, spec, opened=opened)
        if plan.depth is Depth.NOTHING:
            return
        outcome = await self._updater.update(spec, plan, reason=_why(plan.reason))
        self._counters.add("containers.updates.done" if outcome.ok else "containers.updates.failed")
        log.info("app updated", app=app, depth=plan.depth.value, ok=outcome.ok, problem=outcome.problem)


def _why(reason: str) -> str:
    return f"its specification changed: {reason}"
