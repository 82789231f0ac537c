"""Containers: everything of this room for one node, wired together (docs/containers.md has the picture).

`ContainerSeams` is what comes from outside: engine, disk, firewall, image registries, the local table. The
simulator gives their memory twins and gets the very same services. `trionode.node` gives the rest.
"""

from __future__ import annotations

from trionode.containers.health.holds import Holds
from trionode.containers.health.linking import Linker
from trionode.containers.health.localstate import LocalState
from trionode.containers.health.mountrecovery import MountRecovery
from trionode.containers.health.operatorstops import OperatorStops
from trionode.containers.health.orphans import Orphans
from trionode.containers.health.portguard import PortGuard
from trionode.containers.health.privateguard import PrivateGuard
from trionode.containers.health.prunes import Pruner
from trionode.containers.health.tampering import TamperingLog
from trionode.containers.health.watch import HealthTimes, HealthView, HealthWatch
from trionode.containers.host import EngineHost
from trionode.containers.images.logins import Logins
from trionode.containers.images.newspecs import NewImages
from trionode.containers.install.appactions import AppLifecycle
from trionode.containers.install.bursts import CpuBursts
from trionode.containers.install.records import InstallRecords
from trionode.containers.install.workbench import Workbench
from trionode.containers.installedapps import InstalledApps
from trionode.containers.monitors.composition import Monitoring, MonitorParts
from trionode.containers.monitors.expiry import ExpiredApps
from trionode.containers.monitors.hosted import Hosted, KnownSpecs
from trionode.containers.monitors.imagecompliance import BlockedImages
from trionode.containers.node.geolocation import HttpLocator
from trionode.containers.node.nodeside import InstallNews, ever_known_in
from trionode.containers.node.view import NodeView
from trionode.containers.operations import Operations
from trionode.containers.parts import ContainerParts, ContainerSeams
from trionode.containers.planned import PlannedAction
from trionode.containers.present import Planner, PlanSources
from trionode.containers.spawning.announcements import Announcements
from trionode.containers.spawning.composition import Spawning, SpawningParts
from trionode.hosting.ownrows import OwnRows
from trionode.plans.health import is_held
from trionode.runtime.gate import Gate
from trionode.runtime.service import Service


class Containers:
    """The containers of one node, composed but not started."""

    def __init__(self, seams: ContainerSeams, parts: ContainerParts) -> None:
        settings = parts.settings
        self.seams = seams
        self.engine, self.disk = seams.engine, seams.disk
        self.operations = Operations()
        self.installed = InstalledApps(seams.local, seams.opener, parts.counters)
        self.records = InstallRecords(seams.local)
        self.stops = OperatorStops(seams.local, parts.bus)
        self.holds = Holds(seams.local, self.operations, parts.bus, parts.clock)
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
        self.news = InstallNews(parts.bus, parts.clock)
        self.node = NodeView(
            settings.resources,
            chain=parts.chain,
            bench=parts.bench,
            engine=seams.engine,
            installed=self.installed,
            locator=seams.locator or HttpLocator(settings.services, seams.outside),
            public_key=parts.key.public_key,
            enterprise_keys=settings.enterprise.node_keys,
        )
        self.actions = AppLifecycle(self._bench(parts), self.operations, parts.counters)
        self.logins = Logins(seams.secrets, self._version_of)
        self.new_images = NewImages(seams.images, self.logins, self.lists)
        self._compose_host(parts)
        self.local_state = LocalState(self.actions, self.host.reachable, parts.counters)
        self._compose_watch(parts)
        self._compose_monitors(parts)
        self._compose_spawning(parts)
        self._compose_planner(parts)
        # In start order: what a later one needs is ready before it starts. New services go in here.
        self._services: list[Service] = [
            self.local_state,
            self.tampering,
            self.stops,
            self.holds,
            self.mounts,
            self.host,
            PrivateGuard(
                parts.settings.monitors,
                engine=self.engine,
                firewall=seams.firewall,
                engine_ready=self.host.reachable,
                bus=parts.bus,
                counters=parts.counters,
            ),
            PortGuard(
                parts.settings.monitors,
                firewall=seams.firewall,
                records=self.records,
                operations=self.operations,
                counters=parts.counters,
            ),
            CpuBursts(
                parts.settings.resources,
                engine=self.engine,
                disk=self.disk,
                bus=parts.bus,
                counters=parts.counters,
            ),
            self.health,
            self.orphans,
            self.expired,
            *self.monitoring.services(),
            *self.spawning.services(),
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
            news=self.news,
            settings=settings.installer,
            resources=settings.resources,
            rng=parts.rng,
            host_service_ip=settings.services.host_info_address,
            enterprise_owners=tuple(settings.enterprise.owners),
            outside=seams.outside,
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
            leaving=self.records.leaving,
            kept_down=self.kept_down,
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
            ever_known=ever_known_in(parts.registry),
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
            life=parts.registry.current.life,
            scanned_height=lambda: parts.explorer.scanned_height,
        )

    def _compose_planner(self, parts: ContainerParts) -> None:
        monitoring = self.monitoring
        self._planner = Planner(
            PlanSources(
                engine=self.engine,
                operations=self.operations,
                installed=lambda: [app.name for app in self.host.installed()],
                leaving=parts.leaving,
                boot=parts.boot,
                departing=parts.departing,
                is_complete=lambda: self.hosted.synced,
                boot_settled=parts.boot_settled,
                health=self.health,
                mounts=self.mounts,
                links=self.links,
                orphans=self.orphans,
                pruner=self.pruner,
                by_containers=(monitoring.election, monitoring.image_updates),
                monitors=(self.local_state, self.expired, *monitoring.planning),
                spawner=self.spawning.spawner,
                height=lambda: parts.explorer.scanned_height,
                constants=parts.registry.constants,
                clock=parts.clock,
            )
        )

    async def present_plan(self, app: str = "") -> tuple[PlannedAction, ...]:
        """What would be done to all apps or one, without doing it. Raises HostError, StoreError."""
        return await self._planner.plan(app)

    def kept_down(self) -> frozenset[str]:
        """Components that nothing may start: stopped on purpose, or in a backup or restore."""
        held = self.operations.held
        return self.stops.names | {
            part.identifier
            for app in (self.installed.installed() if held else ())
            for part in app.components
            if is_held(app.name, part.identifier, held)
        }

    @property
    def engine_problem(self) -> str:
        """Why the engine cannot be used right now, "" when it answers."""
        return self.host.problem

    def services(self) -> list[Service]:
        """In start order."""
        return self._services

    def _compose_monitors(self, parts: ContainerParts) -> None:
        """What looks after installed apps over time."""
        self.hosted = Hosted(
            installed=self.installed,
            specs=self.specs,
            current=parts.registry.current,
            locations=parts.log,
            node=self.node,
            logins=self.logins,
            is_complete=lambda: parts.explorer.is_synced and parts.orchestrator.db_ready.is_open,
            leaving=self.records.leaving,
        )
        self.monitoring = Monitoring(
            MonitorParts(
                settings=parts.settings,
                hosted=self.hosted,
                installed=self.installed,
                actions=self.actions,
                operations=self.operations,
                stops=self.stops,
                engine=self.engine,
                host=self.host,
                disk=self.disk,
                volumes=self.mounts,
                images=self.seams.images,
                lists=self.lists,
                electorate=self.seams.electorate(parts.counters),
                engine_ready=self.host.reachable,
                boot_settled=parts.boot_settled,
                bus=parts.bus,
                counters=parts.counters,
                clock=parts.clock,
                rng=parts.rng,
                departing=parts.departing,
            )
        )

    def _compose_spawning(self, parts: ContainerParts) -> None:
        """What brings apps here."""
        seams = self.seams
        self.spawning = Spawning(
            SpawningParts(
                settings=parts.settings,
                chain=parts.chain,
                explorer=parts.explorer,
                registry=parts.registry,
                log=parts.log,
                http=seams.nodes,
                engine=self.engine,
                firewall=seams.firewall,
                notes=seams.local,
                listeners=seams.listeners,
                images=seams.images,
                logins=self.logins,
                lists=self.lists,
                specs=self.specs,
                installed=self.installed,
                records=self.records,
                node=self.node,
                announcements=self.announcements,
                operations=self.operations,
                actions=self.actions,
                dos=parts.dos,
                ready=parts.orchestrator.ready,
                db_ready=parts.orchestrator.db_ready,
                expire=parts.expire,
                key=parts.key,
                bus=parts.bus,
                counters=parts.counters,
                clock=parts.clock,
                rng=parts.rng,
            )
        )

    def _version_of(self, app: str) -> int | None:
        """The version of the specification of an app, installed or in force."""
        row = self.installed.get(app)
        spec = row.spec if row is not None else self.specs.closed(app)
        return None if spec is None else int(spec["version"])
