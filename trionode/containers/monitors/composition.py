"""What looks after installed apps over time, wired together (docs/spec/lifecycle.md §16, §17, §19).

Surplus and obsolete apps, new images, blocked images, a machine that shrank, the election of `g:` apps.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from trionode.config.tree import Settings
from trionode.containers.disk import Disk
from trionode.containers.engine import Engine
from trionode.containers.health.operatorstops import OperatorStops
from trionode.containers.health.restartpolicy import RestartPolicies
from trionode.containers.install.appactions import AppLifecycle
from trionode.containers.installedapps import InstalledApps
from trionode.containers.monitors.election import ElectionWatch, Electorate, Starter, Volumes
from trionode.containers.monitors.hardware import HardwareWatch
from trionode.containers.monitors.hosted import Hosted
from trionode.containers.monitors.imagecompliance import BlockedImages, ImageCompliance
from trionode.containers.monitors.imageupdates import Digests, ImageUpdates
from trionode.containers.monitors.storage import StorageWatch
from trionode.containers.monitors.surplus import SurplusWatch
from trionode.containers.monitors.updates import SpecUpdates
from trionode.containers.operations import Operations
from trionode.containers.present import Monitor
from trionode.plans.election import manager_urls
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.service import Service


@dataclass(frozen=True, kw_only=True)
class MonitorParts:
    """What the monitors are given."""

    settings: Settings
    hosted: Hosted
    installed: InstalledApps
    actions: AppLifecycle
    operations: Operations
    stops: OperatorStops
    engine: Engine
    host: Starter
    disk: Disk
    volumes: Volumes
    images: Digests
    lists: BlockedImages
    electorate: Electorate
    engine_ready: Gate
    boot_settled: Gate
    bus: EventBus
    counters: Counters
    clock: WallClock
    rng: random.Random
    departing: Callable[[], bool]


class Monitoring:
    """All of them, composed but not started."""

    def __init__(self, parts: MonitorParts) -> None:
        settings, hosted, actions = parts.settings, parts.hosted, parts.actions
        self._parts = parts
        self.election = ElectionWatch(
            settings.monitors,
            apps=hosted,
            electorate=parts.electorate,
            engine=parts.engine,
            host=parts.host,
            disk=parts.disk,
            volumes=parts.volumes,
            operations=parts.operations,
            boot_settled=parts.boot_settled,
            clock=parts.clock,
            counters=parts.counters,
            urls=lambda app: manager_urls(app, settings.services.managers_url),
            let_alone=self._is_stopped,
            departing=parts.departing,
        )
        self.image_updates = ImageUpdates(
            settings.images,
            apps=hosted,
            digests=parts.images,
            engine=parts.engine,
            actions=actions,
            operations=parts.operations,
            bus=parts.bus,
            counters=parts.counters,
            rng=parts.rng,
        )
        surplus = SurplusWatch(
            settings.explorer,
            settings.installer,
            places=hosted,
            actions=actions,
            bus=parts.bus,
            counters=parts.counters,
        )
        updates = SpecUpdates(
            settings.explorer,
            settings.installer,
            specs=hosted,
            updater=actions,
            bus=parts.bus,
            counters=parts.counters,
            rng=parts.rng,
        )
        compliance = ImageCompliance(
            settings.images, blocked=parts.lists, apps=hosted, actions=actions, counters=parts.counters
        )
        hardware = HardwareWatch(
            settings.monitors,
            settings.resources,
            settings.boot,
            room=hosted,
            actions=actions,
            boot_settled=parts.boot_settled,
            counters=parts.counters,
        )
        self.planning: tuple[Monitor, ...] = (surplus, updates, compliance, hardware)
        """Those that say what they would do without knowing what the engine has."""
        self._services: list[Service] = [
            surplus,
            updates,
            self.image_updates,
            compliance,
            hardware,
            StorageWatch(
                settings.monitors,
                settings.boot,
                installed=parts.installed,
                engine=parts.engine,
                actions=actions,
                boot_settled=parts.boot_settled,
                counters=parts.counters,
            ),
            RestartPolicies(parts.engine, parts.engine_ready, parts.counters),
            self.election,
        ]

    def _is_stopped(self, app: str) -> bool:
        """Its operator stopped the app, or a part of it."""
        stopped = self._parts.stops.names
        return any(name == app or name.endswith(f"_{app}") for name in stopped)

    def services(self) -> list[Service]:
        """In start order."""
        return self._services
