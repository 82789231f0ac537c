"""The present plan: what the services of this room would do right now, in one list (`containers plan`).

Each plan is asked for without being carried out; nothing of the machine is changed (lifecycle.md §9-§19).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from trionode.lifecycle.names import bare
from trionode.plans.health import HealthAction, Leave, Recreate, Remember, StartContainer
from trionode.plans.mountrecovery import RestartContainer
from trionode.plans.networkwith import Connect
from trionode.plans.prune import Keep, Prune, RemoveOrphan


class PlannedAction(msgspec.Struct, frozen=True):
    """One action. `kind`: start, restart, recreate, remember, leave, connect, prune, remove_orphan.

    `component`: its identifier, or what else is meant. `until_ms`: when the next look is due, if known.
    """

    kind: str
    app: str
    component: str
    reason: str
    until_ms: int | None = None


class Health(Protocol):
    async def plan(self) -> tuple[HealthAction, ...]: ...


class Mounts(Protocol):
    async def stale(self) -> tuple[RestartContainer, ...]: ...


class Links(Protocol):
    async def planned(self) -> tuple[Connect, ...]: ...


class Pruning(Protocol):
    async def plan(self, app: str = "") -> tuple[Prune | Keep, ...]: ...


class OrphanWatch(Protocol):
    async def plan(self) -> tuple[RemoveOrphan, ...]: ...


class Planner:
    """Asks all of them."""

    def __init__(
        self, *, health: Health, mounts: Mounts, links: Links, pruner: Pruning, orphans: OrphanWatch
    ) -> None:
        self._health = health
        self._mounts = mounts
        self._links = links
        self._pruner = pruner
        self._orphans = orphans

    async def plan(self) -> tuple[PlannedAction, ...]:
        """In the order in which it would be done. Raises EngineError, DiskError, StoreError."""
        return (
            *_health(await self._health.plan()),
            *(
                PlannedAction("restart", step.app, step.identifier, step.reason)
                for step in await self._mounts.stale()
            ),
            *(
                PlannedAction("connect", link.app, bare(link.container), link.reason)
                for link in await self._links.planned()
            ),
            *(
                PlannedAction("remove_orphan", orphan.app, ", ".join(orphan.containers), orphan.reason)
                for orphan in await self._orphans.plan()
            ),
            *(
                PlannedAction("prune", "", f"{step.kind.value} {step.name}", step.reason)
                for step in await self._pruner.plan()
                if isinstance(step, Prune)
            ),
        )


def _health(actions: Iterable[HealthAction]) -> Iterable[PlannedAction]:
    for action in actions:
        until_ms = action.until_ms if isinstance(action, Leave) else None
        yield PlannedAction(_kind(action), action.app, action.identifier, action.reason, until_ms)


def _kind(action: HealthAction) -> str:
    match action:
        case StartContainer():
            return "restart" if action.again else "start"
        case Recreate():
            return "recreate"
        case Remember():
            return "remember"
        case Leave():
            return "leave"
