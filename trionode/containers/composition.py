"""Containers: everything of this room for one node, wired together (docs/containers.md has the picture).

`ContainerSeams` is what comes from outside: engine, disk, firewall, image registries, the local table. The
simulator gives their memory twins and gets the very same services. `trionode.node` gives the rest.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trionode.appstate.source import LocationView
from trionode.chain.facts import ChainFacts
from trionode.chain.port import ChainRpc
from trionode.config.tree import Settings
from trionode.containers.announcements import Announcements
from trionode.containers.appactions import AppLifecycle
from trionode.containers.disk import Disk, Firewall
from trionode.containers.engine import Engine
from trionode.containers.expiry import ExpiredApps
from trionode.containers.geolocation import HttpLocator, Locator
from trionode.containers.healthwatch import HealthTimes, HealthView, HealthWatch
from trionode.containers.host import EngineHost
from trionode.containers.hosted import KnownSpecs
from trionode.containers.imagecompliance import BlockedImages
from trionode.containers.imageregistry import ImageRegistry
from trionode.containers.installedapps import InstalledApps
from trionode.containers.lifecycleports import NoSecrets, Secrets, Storage, Workbench
from trionode.containers.linking import Linker
from trionode.containers.localstate import LocalState
from trionode.containers.mountrecovery import MountRecovery
from trionode.containers.nodeview import NodeView
from trionode.containers.operations import Operations
from trionode.containers.operatorstops import OperatorStops
from trionode.containers.orphans import Orphans
from trionode.containers.outside import JsonSource
from trionode.containers.present import PlannedAction, Planner
from trionode.containers.prunes import Pruner
from trionode.containers.records import InstallRecords
from trionode.containers.tampering import TamperingLog
from trionode.hosting.ownmessages import Broadcaster
from trionode.registry.housekeeping import Life
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.service import Service
from trionode.store.appregistry import AppRegistry
from trionode.store.eventlog import EventLog
from trionode.store.localapps import LocalAppStore

INSTALLED = "app:installed"


class SpecOpener(Protocol):
    """Opens encrypted specifications, for the registry and for the apps installed here."""

    async def open(self, spec: Mapping[str, Any], height: int) -> dict[str, Any] | None:
        """With compose and contacts in clear; None when that cannot be done."""
        ...


@dataclass(frozen=True, kw_only=True)
class ContainerSeams:
    """What the containers of a node stand on.

    `opener`: opens encrypted specifications, None where nothing can. `outside`: documents of services on
    the internet. `locator` None: the services of the settings are asked.
    """

    engine: Engine
    disk: Disk
    firewall: Firewall
    images: ImageRegistry
    local: LocalAppStore
    storage: Storage
    outside: JsonSource
    locator: Locator | None = None
    opener: SpecOpener | None = None
    secrets: Secrets = field(default_factory=NoSecrets)


@dataclass(frozen=True, kw_only=True)
class ContainerParts:
    """What the node gives. `is_complete`: the explorer is at the tip and the registry is whole.

    `boot_settled` opens when the boot decision is carried out; `departing`: the machine goes down.
    """

    settings: Settings
    chain: ChainFacts
    bench: ChainRpc
    registry: AppRegistry
    log: EventLog
    broadcaster: Broadcaster
    bus: EventBus
    counters: Counters
    clock: WallClock
    rng: random.Random
    public_key: str
    boot_settled: Gate
    is_complete: Callable[[], bool]
    departing: Callable[[], bool]


class Containers:
    """The containers of one node, composed but not started."""

    def __init__(self, seams: ContainerSeams, parts: ContainerParts) -> None:
        settings = parts.settings
        self.seams = seams
        self.engine, self.disk = seams.engine, seams.disk
        self.operations = Operations()
        self.installed = InstalledApps(seams.local, seams.opener)
        self.records = InstallRecords(seams.local)
        self.stops = OperatorStops(seams.local, parts.bus)
        self.tampering = TamperingLog(seams.local, parts.bus, parts.counters, parts.clock)
        self.links = Linker(seams.engine, self.installed, parts.counters)
        self.pruner = Pruner(seams.engine, self.installed, self.records, self.operations, parts.counters)
        self.lists = BlockedImages(
            settings.images, settings.hosting, settings.services.lists_url, seams.outside
        )
        self.specs = KnownSpecs(parts.registry.current, seams.opener)
        self.announcements = Announcements(
            settings.appstate, parts.chain, parts.broadcaster, parts.log, parts.counters, parts.clock
        )
        self.node = NodeView(
            settings.resources,
            chain=parts.chain,
            bench=parts.bench,
            engine=seams.engine,
            installed=self.installed,
            locator=seams.locator or HttpLocator(settings.services, seams.outside),
            public_key=parts.public_key,
            enterprise_keys=settings.enterprise.node_keys,
        )
        self.actions = AppLifecycle(self._bench(parts), self.operations)
        self._compose_host(parts)
        self._compose_watch(parts)
        self._services: list[Service] = [
            LocalState(self.actions, self.host.reachable, parts.counters),
            self.tampering,
            self.stops,
            self.mounts,
            self.host,
            self.health,
            self.orphans,
            self.expired,
        ]

    def _bench(self, parts: ContainerParts) -> Workbench:
        settings, seams = parts.settings, self.seams
        return Workbench(
            engine=seams.engine,
            disk=seams.disk,
            firewall=seams.firewall,
            images=seams.images,
            lists=self.lists,
            storage=seams.storage,
            secrets=seams.secrets,
            pruner=self.pruner,
            links=self.links,
            node=self.node,
            specs=self.specs,
            installed=self.installed,
            records=self.records,
            announcements=self.announcements,
            news=InstallNews(parts.bus),
            settings=settings.installer,
            resources=settings.resources,
            rng=parts.rng,
            host_service_ip=settings.services.host_info_address,
            enterprise_owners=tuple(settings.enterprise.owners),
        )

    def _compose_host(self, parts: ContainerParts) -> None:
        """The engine as the rest of the node sees it."""
        settings, reachable = parts.settings, Gate()
        self.mounts = MountRecovery(
            settings.hosting,
            settings.boot,
            settings.installer,
            disk=self.disk,
            engine=self.engine,
            installed=self.installed,
            operations=self.operations,
            tampering=self.tampering,
            engine_ready=reachable,
            boot_settled=parts.boot_settled,
            counters=parts.counters,
            departing=parts.departing,
        )
        self._own_rows = OwnRows(parts.chain, parts.log)
        self.host = EngineHost(
            settings.hosting,
            engine=self.engine,
            installed=self.installed,
            actions=self.actions,
            operations=self.operations,
            volumes=self.mounts,
            links=self.links,
            bus=parts.bus,
            counters=parts.counters,
            clock=parts.clock,
            reachable=reachable,
            since_ms=self._own_rows.since_ms,
        )
        self.installed.on_change(self.host.rows_changed)
        self.operations.on_change(self.host.tell)

    def _compose_watch(self, parts: ContainerParts) -> None:
        """What looks after containers that are there, and clears away what is left of others."""
        settings = parts.settings
        self.health = HealthWatch(
            settings.monitors,
            HealthTimes(
                interval_s=settings.appstate.announce_interval_s * settings.appstate.time_scale,
                stop_grace_s=settings.installer.stop_grace_s,
                start_limit_s=settings.hosting.engine_timeout_s,
            ),
            host=self.host,
            engine=self.engine,
            disk=self.disk,
            actions=self.actions,
            operations=self.operations,
            stops=self.stops,
            view=HealthView(
                known=lambda app: parts.registry.current.get(app) is not None,
                since_ms=self._own_rows.since_ms,
                departing=parts.departing,
            ),
            tampering=self.tampering,
            boot_settled=parts.boot_settled,
            bus=parts.bus,
            counters=parts.counters,
            clock=parts.clock,
        )
        self.operations.on_change(self.health.wake)
        self.orphans = Orphans(
            settings.boot,
            settings.monitors,
            engine=self.engine,
            installed=self.installed,
            actions=self.actions,
            operations=self.operations,
            ever_known=_ever_known(parts.registry),
            listed=self._own_rows.listed,
            prune=self.pruner.prune,
            boot_settled=parts.boot_settled,
            counters=parts.counters,
        )
        self.expired = ExpiredApps(
            settings.installer,
            self.installed,
            self.actions,
            parts.counters,
            constants=parts.registry.constants,
        )
        self._planner = Planner(
            health=self.health, mounts=self.mounts, links=self.links, pruner=self.pruner, orphans=self.orphans
        )

    async def present_plan(self) -> tuple[PlannedAction, ...]:
        """What would be done to containers right now, without doing it. Raises EngineError, DiskError."""
        return await self._planner.plan()

    def add(self, *services: Service) -> None:
        """More services on these containers: spawner and monitors."""
        self._services += services

    def services(self) -> list[Service]:
        """In start order: what a later one needs is ready before it starts."""
        return list(self._services)


class OwnRows:
    """Our own location rows, as the network knows them."""

    def __init__(self, chain: ChainFacts, log: EventLog) -> None:
        self._chain = chain
        self._log = log

    def of(self, app: str) -> LocationView | None:
        """The row of an app at our address; None without one, or while the address is not known."""
        address = self._chain.own_address
        if address is None:
            return None
        return next((row for row in self._log.locations(app, address) if row.name == app), None)

    def listed(self, app: str) -> bool:
        """Whether the network lists us as a place of the app."""
        return self.of(app) is not None

    def since_ms(self, app: str) -> int | None:
        """Since when it runs here, as the network was told."""
        row = self.of(app)
        return None if row is None else row.running_since_ms


class AppsOfRegistry:
    """The registry's view of the apps here (`LocalApps`): it is made before them, and asks them later."""

    builtin_names: Sequence[str] = ()

    def __init__(self) -> None:
        self._apps: ExpiredApps | None = None

    def follow(self, apps: ExpiredApps) -> None:
        """Answer from these from now on."""
        self._apps = apps

    def installed(self) -> Sequence[Life]:
        return () if self._apps is None else self._apps.installed()

    async def remove(self, names: Sequence[str]) -> None:
        if self._apps is not None:
            await self._apps.remove(names)


class InstallNews:
    """Tells the bus of installs. That an app is gone is told by the engine host, when it is.

    Whether peers hear of it depends on what they were told: only what was announced is withdrawn.
    """

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    def app_installed(self, app: str, hash: str) -> None:
        self._bus.publish(INSTALLED, {"name": app, "hash": hash})

    def app_removed(self, app: str, *, tell_peers: bool) -> None:
        return None


def _ever_known(registry: AppRegistry) -> Callable[[str], Awaitable[bool]]:
    async def ever_known(name: str) -> bool:
        if registry.current.get(name) is not None:
            return True
        return await registry.store.newest_permanent(name) is not None

    return ever_known
