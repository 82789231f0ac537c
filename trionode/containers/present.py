"""The present plan: what the services of this room would do, in one list (`containers plan`).

Each service is asked for what its own rounds would carry out, by the same decisions and on what it knows
already (lifecycle.md §9-§19). Nothing is changed; only the engine is asked, for its lists and links, and the
disk for what is mounted. Services tell moments on Trio's clock or by block; they become wall time here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import trio

from trionode.containers.engine import ContainerRow
from trionode.containers.operations import Operations
from trionode.containers.planned import PlannedAction
from trionode.hosting.removal import Leaving
from trionode.lifecycle.boot import BootAction, BootDecision, BootWait
from trionode.lifecycle.local import Container
from trionode.lifecycle.names import bare
from trionode.lifecycle.reconcile import LeaveApp, ReconcileStep, RemoveApp
from trionode.plans.control import app_of
from trionode.plans.mountrecovery import RestartContainer
from trionode.plans.networkwith import Connect
from trionode.plans.prune import Keep, Prune, RemoveOrphan
from trionode.registry.constants import Constants
from trionode.runtime.clock import WallClock
from trionode.runtime.gate import Gate

BLOCK_S = 120.0
"""Between two blocks before PON; it made them faster (docs/spec/registry.md)."""
NODE = "node"
BOOT_WAITS = {
    BootWait.DAEMON: "the chain daemon",
    BootWait.STATUS: "the confirmation",
    BootWait.DATA: "the app data",
}
LEFT = {
    "no_spec": "no specification of it is in force, or none that can be read",
    "election": "its election decides which node runs it",
    "stopped": "it was stopped on purpose",
}


class EngineLists(Protocol):
    async def containers(self) -> Sequence[ContainerRow]: ...


class Boot(Protocol):
    """What becomes of the apps found at the start (`hosting.boot.BootManager`)."""

    @property
    def waits_for(self) -> BootWait | None: ...
    @property
    def pending(self) -> BootDecision | None: ...

    def steps(self, containers: Sequence[Container]) -> tuple[ReconcileStep, ...]: ...


class Health(Protocol):
    async def plan(self) -> tuple[PlannedAction, ...]: ...


class Mounts(Protocol):
    async def plan(self) -> tuple[RestartContainer, ...]: ...


class Links(Protocol):
    async def planned(self) -> tuple[Connect, ...]: ...


class Pruning(Protocol):
    async def plan(self, app: str = "") -> tuple[Prune | Keep, ...]: ...


class OrphanWatch(Protocol):
    @property
    def next_s(self) -> float | None: ...

    async def plan(self) -> tuple[RemoveOrphan, ...]: ...


class ContainerMonitor(Protocol):
    """Election and image updates: what they would do depends on what the engine has."""

    def plan(self, rows: Iterable[ContainerRow]) -> tuple[PlannedAction, ...]: ...


class Monitor(Protocol):
    """Expiry, surplus, updates of specifications, blocked images, room."""

    def plan(self) -> tuple[PlannedAction, ...]: ...


class Spawning(Protocol):
    def plan(self, app: str = "") -> tuple[PlannedAction, ...]: ...


@dataclass(frozen=True, kw_only=True)
class PlanSources:
    """Who is asked, and what holds the services back.

    `installed()`: names of the apps here. `leaving()`: why all apps have to go. `is_complete()`: explorer at
    the tip, registry whole. `departing()`: the machine goes down.
    """

    engine: EngineLists
    boot: Callable[[], Boot]
    operations: Operations
    installed: Callable[[], Iterable[str]]
    leaving: Callable[[], Iterable[Leaving]]
    departing: Callable[[], bool]
    is_complete: Callable[[], bool]
    boot_settled: Gate
    health: Health
    mounts: Mounts
    links: Links
    orphans: OrphanWatch
    pruner: Pruning
    by_containers: Sequence[ContainerMonitor]
    monitors: Sequence[Monitor]
    spawner: Spawning
    height: Callable[[], int]
    constants: Constants
    clock: WallClock


class Planner:
    """Asks all of them."""

    def __init__(self, sources: PlanSources) -> None:
        self._sources = sources

    async def plan(self, app: str = "") -> tuple[PlannedAction, ...]:
        """What holds back first, then what is done. `app`: only what concerns it, in any letter case.

        Raises EngineError, DiskError, StoreError.
        """
        sources, wanted = self._sources, app.lower()
        rows = await sources.engine.containers()
        steps = (
            *self._held_back(),
            *self._boot(rows),
            *self._leaving(),
            *await sources.health.plan(),
            *await self._by_health(),
            *(step for monitor in sources.by_containers for step in monitor.plan(rows)),
            *(step for monitor in sources.monitors for step in monitor.plan()),
            *await self._leftovers(),
            *sources.spawner.plan(app),
        )
        now_ms, now_s, height = sources.clock.now_ms(), trio.current_time(), sources.height()
        return tuple(
            self._timed(step, now_ms, now_s, height)
            for step in steps
            if not wanted or step.app.lower() == wanted or (step.kind == "wait" and not step.app)
        )

    def _held_back(self) -> Iterator[PlannedAction]:
        """Why nothing is done, or not now: to all apps, to one that is worked on."""
        sources = self._sources
        if sources.departing():
            yield PlannedAction("wait", "", NODE, "the machine goes down, nothing is done to apps any more")
        if not sources.boot_settled.is_open:
            waits_for = sources.boot().waits_for
            known = "" if waits_for is None else f", it waits for {BOOT_WAITS[waits_for]}"
            reason = f"the boot decision is not carried out yet{known}; most of what follows comes after it"
            yield PlannedAction("wait", "", NODE, reason)
        if not sources.is_complete():
            reason = (
                "explorer or registry are behind; until they are not no app ends, is updated or is surplus"
            )
            yield PlannedAction("wait", "", NODE, reason)
        for operation in sources.operations.under_way:
            yield PlannedAction(
                "under_way", operation.app, "", f"{operation.work.value}; the rest waits for it"
            )
        for name in sorted(sources.operations.held):
            part = "" if app_of(name) == name else name
            reason = "a backup or restore has it: it is neither started, redeployed nor elected"
            yield PlannedAction("leave", app_of(name), part, reason)

    def _boot(self, rows: Sequence[ContainerRow]) -> Iterator[PlannedAction]:
        boot = self._sources.boot()
        decision = boot.pending
        if decision is None:
            return
        if decision.action is BootAction.REMOVE_ALL:
            for app in self._sources.installed():
                yield PlannedAction("remove", app, "", f"boot: {decision.reason}")
        elif decision.action is BootAction.RECONCILE:
            for step in boot.steps([Container(row.name, row.state) for row in rows]):
                yield _boot_step(step, decision)

    def _leaving(self) -> Iterator[PlannedAction]:
        for leaving in self._sources.leaving():
            lasts = "" if leaving.due_s is None else " if this lasts"
            first_s = trio.current_time() if leaving.due_s is None else leaving.due_s
            for number, app in enumerate(self._sources.installed()):
                due_s = first_s + number * leaving.pause_s
                reason = f"all apps have to go{lasts}: {leaving.reason}"
                yield PlannedAction("remove", app, "", reason, due_s=due_s)

    async def _by_health(self) -> list[PlannedAction]:
        """Mounts and links."""
        sources = self._sources
        return [
            *(
                PlannedAction("restart", step.app, step.identifier, step.reason)
                for step in await sources.mounts.plan()
            ),
            *(
                PlannedAction("connect", link.app, bare(link.container), link.reason)
                for link in await sources.links.planned()
            ),
        ]

    async def _leftovers(self) -> list[PlannedAction]:
        """Orphans, and what else is pruned with them."""
        orphans, due_s = self._sources.orphans, self._sources.orphans.next_s
        return [
            *(
                PlannedAction(
                    "remove_orphan", orphan.app, ", ".join(orphan.containers), orphan.reason, due_s=due_s
                )
                for orphan in await orphans.plan()
            ),
            *(
                PlannedAction("prune", "", f"{step.kind.value} {step.name}", step.reason, due_s=due_s)
                for step in await self._sources.pruner.plan()
                if isinstance(step, Prune)
            ),
        ]

    def _timed(self, step: PlannedAction, now_ms: int, now_s: float, height: int) -> PlannedAction:
        """With a wall time, unless it is done at once."""
        left_s = 0.0
        if step.due_s is not None:
            left_s = step.due_s - now_s
        elif step.height is not None:
            left_s = (step.height - height) * BLOCK_S / self._sources.constants.speed(height)
        if left_s <= 0:
            return msgspec.structs.replace(step, due_s=None)
        return msgspec.structs.replace(step, when_ms=now_ms + round(left_s * 1000), due_s=None)


def _boot_step(step: ReconcileStep, decision: BootDecision) -> PlannedAction:
    match step:
        case RemoveApp():
            return PlannedAction("remove", step.app, "", f"boot: {step.reason}")
        case LeaveApp():
            return PlannedAction("leave", step.app, "", f"boot: {LEFT[step.why]}")
    return PlannedAction("start", step.app, ", ".join(step.identifiers), f"boot: {decision.reason}")
