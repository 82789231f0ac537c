"""Containers in memory with all that looks after them: host, health, mounts, links (lifecycle.md §9).

`HostWorld` is the machine; `HostWorld.process()` is the life of one process on it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio
from appworld import AppWorld, Life

from trionode.config.tree import BootSettings, HostingSettings, InstallerSettings, MonitorSettings
from trionode.containers.disk import Disk
from trionode.containers.engine import Engine
from trionode.containers.health.linking import Linker
from trionode.containers.health.mountrecovery import MountRecovery
from trionode.containers.health.operatorstops import OperatorStops
from trionode.containers.health.tampering import TamperingLog
from trionode.containers.health.watch import HealthTimes, HealthView, HealthWatch
from trionode.containers.host import EngineHost
from trionode.runtime.bus import Event, EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate

INTERVAL_S = 3600.0


class Node:
    """One process: `host` and what looks after it, over a `Life` of `AppWorld`."""

    def __init__(
        self,
        world: HostWorld,
        life: Life,
        *,
        settled: bool,
        engine: Engine | None = None,
        disk: Disk | None = None,
        clock: WallClock | None = None,
    ) -> None:
        engine, disk = engine or world.engine, disk or world.disk
        self.life, self.engine = life, engine
        self.bus, self.counters, self.clock = EventBus(), Counters(), clock or world.engine.clock
        self.settled, self.reachable = Gate(is_open=settled), Gate()
        self.departing = False
        self.tampering = TamperingLog(world.store, self.bus, self.counters, self.clock)
        self.stops = OperatorStops(world.store, self.bus)
        self.mounts = MountRecovery(
            HostingSettings(),
            BootSettings(),
            InstallerSettings(),
            disk=disk,
            engine=engine,
            installed=life.installed,
            operations=life.operations,
            tampering=self.tampering,
            engine_ready=self.reachable,
            boot_settled=self.settled,
            counters=self.counters,
        )
        self.host = EngineHost(
            world.hosting,
            engine=engine,
            installed=life.installed,
            actions=life.actions,
            operations=life.operations,
            volumes=self.mounts,
            links=Linker(engine, life.installed, self.counters),
            bus=self.bus,
            counters=self.counters,
            clock=self.clock,
            reachable=self.reachable,
            since_ms=world.since_ms.get,
            leaving=life.records.leaving,
            kept_down=lambda: self.stops.names,
        )
        self.health = HealthWatch(
            MonitorSettings(),
            HealthTimes(interval_s=INTERVAL_S, stop_grace_s=9.0, start_limit_s=300.0),
            host=self.host,
            engine=engine,
            disk=disk,
            actions=life.actions,
            operations=life.operations,
            stops=self.stops,
            view=HealthView(
                known=lambda app: app not in world.unknown,
                since_ms=world.since_ms.get,
                departing=lambda: self.departing,
            ),
            tampering=self.tampering,
            boot_settled=self.settled,
            bus=self.bus,
            counters=self.counters,
            clock=self.clock,
        )
        life.installed.on_change(self.host.rows_changed)
        life.operations.on_change(self.host.tell)
        life.operations.on_change(self.health.wake)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Its services run in the block."""
        async with trio.open_nursery() as nursery:
            for service in (self.tampering, self.stops, self.mounts, self.host, self.health):
                await nursery.start(service.run)
            yield
            nursery.cancel_scope.cancel()

    def told(self, name: str) -> list[Mapping[str, Any]]:
        """What the bus was told under this name."""
        return [event.data for event in self.bus.replay() if event.name == name]

    def last(self, name: str) -> Event | None:
        found = [event for event in self.bus.replay() if event.name == name]
        return found[-1] if found else None


class HostWorld(AppWorld):
    """`since_ms`: own location rows, app -> start. `unknown`: apps without a specification in force."""

    def __init__(self) -> None:
        super().__init__()
        self.hosting = HostingSettings()
        self.since_ms: dict[str, int] = {}
        self.unknown: set[str] = set()

    def state(self, container: str) -> str | None:
        """Of a container, None when there is none."""
        found = self.engine._containers.get(container)
        return None if found is None else found.state

    @asynccontextmanager
    async def process(self, *, settled: bool = True) -> AsyncIterator[Node]:
        """A process on the machine; its end is that of kill -9."""
        node = Node(self, await self.life(), settled=settled)
        async with node.running():
            yield node
