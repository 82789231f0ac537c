"""CpuBursts: spare CPU for the containers that may have it, at every start (docs/spec/lifecycle.md §13).

A burst belongs to the control group, which is a new one with each start: after a boot, a recovery, a restart
by hand it has to be allowed again. Best effort: a container runs as well without.
"""

from __future__ import annotations

import msgspec
import trio

from trionode.config.tree import ResourceSettings
from trionode.containers.disk import Disk
from trionode.containers.engine import Engine
from trionode.containers.host import CONTAINER_CHANGED
from trionode.containers.table import Change
from trionode.errors import HostError
from trionode.lifecycle.local import RUNNING
from trionode.plans.createoptions import BURST_LABEL, burst_us
from trionode.runtime.appturns import AppTurns
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

LIMIT_S = 30.0

log = get_logger("containers.bursts")


class CpuBursts:
    """Service "CPU bursts". Rests for good where `resources.cpu_burst` is off."""

    name = "CPU bursts"

    def __init__(
        self, settings: ResourceSettings, *, engine: Engine, disk: Disk, bus: EventBus, counters: Counters
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._disk = disk
        self._bus = bus
        self._counters = counters
        self._turns = AppTurns("bursts", counters)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See to each container that begins to run."""
        if not self._settings.cpu_burst:
            task_status.started()
            await trio.sleep_forever()
        with self._bus.subscribe(CONTAINER_CHANGED) as news:
            task_status.started()
            async for event in news:
                change = msgspec.convert(event.data, Change)
                if change.state == RUNNING and change.before != RUNNING and change.may_burst:
                    with self._turns.of(change.container):
                        await self._allow(change.container)

    async def _allow(self, container: str) -> None:
        with trio.move_on_after(LIMIT_S):
            try:
                details = await self._engine.inspect(container)
                allowed_us = burst_us(
                    details.nano_cpus / 1e9,
                    (await self._engine.info()).cpus - self._settings.cpu_burst_reserved_cores,
                    self._settings.cpu_burst_period_us,
                )
                if allowed_us > 0 and details.labels.get(BURST_LABEL):
                    await self._disk.burst(details.id, allowed_us)
                    self._counters.add("containers.bursts")
            except HostError as error:
                log.info("no CPU burst", container=container, problem=error.message)
