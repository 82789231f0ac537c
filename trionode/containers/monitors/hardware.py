"""Gives apps up that this machine has no room for any more (docs/spec/lifecycle.md §19, hardware validation).

A machine may shrink: memory taken out, a smaller disk, another tariff. The apps installed first stay. Looked
at `boot.hardware_delay_s` after the start, but not before the boot decision is carried out, and then every
`monitors.hardware_interval_s`; a benchmark that does not answer, or a disk it does not know, is no reason to
remove anything. Neither is one answer: what has no room is looked at again some minutes later, and goes when
the benchmark says so twice. The present plan judges by the machine as it was at the last look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from trionode.config.tree import BootSettings, MonitorSettings, ResourceSettings
from trionode.containers.actions import AppActions
from trionode.containers.planned import PlannedAction
from trionode.errors import TrionodeError
from trionode.lifecycle.limits import Machine, Need, apps_without_room
from trionode.runtime.appturns import AppTurns
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

SECOND_LOOK_S = 600.0
REASON = "this machine has no room for it any more"

log = get_logger("containers.hardware")


class Room(Protocol):
    """What the machine has, and what the apps on it take."""

    async def machine(self) -> Machine | None:
        """None while the benchmark does not say."""
        ...

    async def needs(self) -> Sequence[Need]:
        """Of every installed app that can be opened, in all its components."""
        ...

    def needs_now(self) -> Sequence[Need]:
        """The same of those that are open."""
        ...


class HardwareWatch:
    """Service "hardware"."""

    name = "hardware"

    def __init__(
        self,
        monitors: MonitorSettings,
        resources: ResourceSettings,
        boot: BootSettings,
        *,
        room: Room,
        actions: AppActions,
        boot_settled: Gate,
        counters: Counters,
    ) -> None:
        self._first_s = boot.hardware_delay_s * boot.delay_factor
        self._interval_s = monitors.hardware_interval_s
        self._spacing_s = monitors.hardware_removal_spacing_s
        self._resources = resources
        self._turns = AppTurns("hardware", counters)
        self._room = room
        self._actions = actions
        self._boot_settled = boot_settled
        self._counters = counters
        self._machine: Machine | None = None
        self._next_s: float | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look now and then until cancelled."""
        task_status.started()
        await trio.sleep(self._first_s)
        await self._boot_settled.wait()
        while True:
            try:
                await self._look()
            except TrionodeError as error:
                self._counters.add("containers.hardware.failed")
                log.error("room for apps not checked", problem=error.one_line())
            self._next_s = trio.current_time() + self._interval_s
            await trio.sleep(self._interval_s)

    def plan(self) -> tuple[PlannedAction, ...]:
        """The apps the next look removes."""
        apps = self._without_room(self._room.needs_now())
        return tuple(PlannedAction("remove", app, "", REASON, due_s=self._next_s) for app in apps)

    def _without_room(self, needs: Sequence[Need]) -> list[str]:
        return [] if self._machine is None else apps_without_room(self._machine, needs, self._resources)

    async def _look(self) -> None:
        machine = await self._room.machine()
        if machine is None:
            return
        self._machine = machine
        first = self._without_room(await self._room.needs())
        if not first:
            return
        log.warning("no room for apps, looked at again before any goes", apps=first, again_s=SECOND_LOOK_S)
        self._next_s = trio.current_time() + SECOND_LOOK_S
        await trio.sleep(SECOND_LOOK_S)
        machine = await self._room.machine()
        if machine is None:
            return
        self._machine = machine
        for app in [app for app in self._without_room(await self._room.needs()) if app in first]:
            with self._turns.of(app):
                outcome = await self._actions.remove(app, reason=REASON, force=True)
                kind = "removed" if outcome.ok else "failed"
                self._counters.add(f"containers.hardware.{kind}")
                await trio.sleep(self._spacing_s)
