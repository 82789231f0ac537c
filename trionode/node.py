"""The composition root: the only place where the parts of a node are wired together.

`NodeCore` is the node without its outer world: it receives the seams (transport, daemons, store,
running apps, clock, randomness) and composes the services on them. The simulator builds the very
same `NodeCore` on virtual seams. `run_node` supplies the real ones, adds the front door, the API and
the supervisor, and stops when a signal asks for it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import trio

from trionode import __version__
from trionode.chain.blockhooks import BlockHooks
from trionode.chain.explorer import Explorer
from trionode.chain.facts import ChainFacts
from trionode.containers.composition import Containers
from trionode.containers.node.nodeside import AppsOfRegistry
from trionode.containers.parts import ContainerParts
from trionode.hosting.announcer import Announcer
from trionode.hosting.apps_file import AppsFile
from trionode.hosting.boot import BootGates, BootManager
from trionode.hosting.departure import Departure
from trionode.hosting.heartbeat import Heartbeat
from trionode.hosting.memory import MemoryHost
from trionode.hosting.ownrows import OwnRows
from trionode.hosting.port import AppHost
from trionode.hosting.removal import AppRemoval
from trionode.lifecycle.boot import BootLimits
from trionode.lifecycle.local import Component, components_of
from trionode.nodeparts import NodeParts as NodeParts
from trionode.peers.service import PeerService
from trionode.registry.constants import Constants
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.dosstate import STICKY_STATE, DosState
from trionode.runtime.gate import Gate
from trionode.runtime.service import Service
from trionode.store.appregistry import AppRegistry
from trionode.store.eventlog import EventLog
from trionode.sync.appgossip import AppGossip
from trionode.sync.hashsync import HashSync
from trionode.sync.orchestrator import Orchestrator
from trionode.sync.responder import Responder
from trionode.sync.stateserver import StateServer
from trionode.sync.statesync import StateSync
from trionode.watch import Watch, WatchParts


class NodeCore:
    """The services of one node, composed but not started."""

    def __init__(self, parts: NodeParts) -> None:
        settings = parts.settings
        self.settings = settings
        self.counters = Counters()
        self.bus = EventBus(ring=settings.api.event_ring)
        self.log = EventLog(
            settings.appstate,
            parts.store,
            parts.clock,
            self.bus,
            self.counters,
            store_settings=settings.store,
        )
        self.chain = ChainFacts(
            settings.chain,
            parts.daemon,
            parts.bench,
            self.bus,
            self.counters,
            public_key=parts.key.public_key,
            address=settings.node.address,
            build_nodes=parts.build_nodes,
        )
        self.peers = PeerService(
            settings,
            transport=parts.transport,
            facts=self.chain,
            log=self.log,
            bus=self.bus,
            counters=self.counters,
            clock=parts.clock,
            rng=parts.rng,
            key=parts.key,
        )
        self.own_rows = OwnRows(self.chain, self.log)
        self.dos = DosState(self.bus)
        self._own_services: list[Service] = []
        self._boot_settled = Gate()
        self._departing = False
        self._local_apps = AppsOfRegistry()
        self.containers: Containers | None = None
        self._compose_registry(parts)
        self._compose_containers(parts)
        self._compose_boot(parts)
        self.announcer = Announcer(
            settings.appstate,
            self.host,
            self.chain,
            self.peers,
            self.log,
            self.bus,
            self.counters,
            parts.clock,
            start=self.orchestrator.first_broadcast,
            boot_settled=self._boot_settled,
            uptime_s=parts.os_uptime_s,
            links=lambda: len(self.peers.table),
            known_names=self.own_rows.names_at,
            static_ip=self._has_static_ip,
        )
        self.departure = Departure(
            settings.node,
            settings.hosting,
            machine=parts.machine,
            host=self.host,
            heartbeat=self.heartbeat,
            peers=self.peers,
            own_log=self.log,
            facts=self.chain,
            clock=parts.clock,
            counters=self.counters,
            running=lambda: self.announcer.announced,
            hush=self._hush,
        )
        self._compose_watch(parts)

    def _compose_registry(self, parts: NodeParts) -> None:
        """The registry and what fills it: gossip, the chain, and the messages of other nodes."""
        settings, store = self.settings, parts.registry_store
        self.registry_store = store
        self.constants = Constants(settings.registry, settings.economy, settings.explorer)
        self.registry = AppRegistry(
            store,
            parts.clock,
            self.bus,
            self.counters,
            daemon_height=lambda: self.chain.height,
            constants=self.constants,
            judges=parts.judges(self.counters),
            local_apps=self._local_apps,
            opener=None if parts.containers is None else parts.containers.opener,
            forget_install_errors=self.log.forget_install_errors,
        )
        app_gossip = AppGossip(self.registry)
        app_gossip.register(self.peers)
        self.state_sync = StateSync(
            settings=settings,
            peers=self.peers,
            facts=self.chain,
            log=self.log,
            temp=app_gossip.handle_synced,
            bus=self.bus,
            counters=self.counters,
            clock=parts.clock,
            rng=parts.rng,
            key=parts.key,
        )
        self.state_server = StateServer(
            settings=settings,
            peers=self.peers,
            facts=self.chain,
            log=self.log,
            registry_store=store,
            bus=self.bus,
            counters=self.counters,
            clock=parts.clock,
            key=parts.key,
        )
        self.responder = Responder(store, self.peers, self.bus, self.counters, parts.clock, parts.key)
        self.explorer = Explorer(
            settings,
            parts.daemon,
            store,
            self.chain,
            self.bus,
            self.counters,
            hooks=BlockHooks(
                on_rewind=self.registry.on_rewind,
                on_expire=self._expire_apps,
                on_reconstruct=self._audit_payments,
                on_hashes=self.registry.promote_rows,
            ),
            has_address_index=parts.has_address_index,
        )
        self.hash_sync = HashSync(
            settings,
            registry=self.registry,
            explorer=self.explorer,
            peers=self.peers,
            facts=self.chain,
            http=parts.bulk_source,
            bus=self.bus,
            counters=self.counters,
            clock=parts.clock,
            rng=parts.rng,
            key=parts.key,
            version=__version__,
        )
        self.orchestrator = Orchestrator(
            settings,
            hash_sync=self.hash_sync,
            state_sync=self.state_sync,
            explorer=self.explorer,
            table=self.peers.table,
            facts=self.chain,
            node_list=self.chain.populated_gate,
            bus=self.bus,
            counters=self.counters,
            clock=parts.clock,
            boot_context=lambda: self.boot.context.as_json(),
            is_enterprise=lambda: parts.key.public_key in settings.enterprise.node_keys,
        )

    async def _expire_apps(self, height: int) -> None:
        """At the tip only with a complete registry: a missing update may have prolonged an app."""
        if not self.explorer.is_synced or self.orchestrator.db_ready.is_open:
            await self.registry.on_block_expire(height)

    async def _audit_payments(self, height: int) -> int:
        return await self.registry.reconstruct(height) if self.orchestrator.db_ready.is_open else 0

    def _compose_containers(self, parts: NodeParts) -> None:
        """The apps of this node in a container engine, when there is one."""
        if parts.containers is None:
            return
        self.containers = containers = Containers(
            parts.containers,
            ContainerParts(
                settings=self.settings,
                chain=self.chain,
                bench=parts.bench,
                registry=self.registry,
                explorer=self.explorer,
                orchestrator=self.orchestrator,
                log=self.log,
                broadcaster=self.peers,
                dos=self.dos,
                bus=self.bus,
                counters=self.counters,
                clock=parts.clock,
                rng=random.Random(parts.rng.getrandbits(64)),
                key=parts.key,
                boot_settled=self._boot_settled,
                expire=lambda: self._expire_apps(self.explorer.scanned_height),
                departing=lambda: self._departing,
                boot=lambda: self.boot,
                leaving=lambda: self.watch.leaving(),
            ),
        )
        self._local_apps.follow(containers.expired)

    def _compose_boot(self, parts: NodeParts) -> None:
        """What becomes of the apps found at a start."""
        settings, containers = self.settings, self.containers
        self.machine = parts.machine
        self.heartbeat = Heartbeat(
            settings.system, parts.store, parts.machine, parts.clock, self.counters, spare=parts.spare_beat
        )
        self.host = self._host(parts)
        self.removal = AppRemoval(self.host, self.counters, timeout_s=settings.hosting.engine_timeout_s)
        windows = self.log.windows
        self.boot = BootManager(
            settings.system,
            settings.boot,
            settings.hosting,
            BootLimits(clean_ms=windows.sigterm_grace_ms, power_cut_ms=windows.running_ms),
            host=self.host,
            heartbeat=self.heartbeat,
            removal=self.removal,
            gates=BootGates(
                daemon_ready=self.chain.daemon_ready_gate,
                status_known=self.chain.status_known_gate,
                db_ready=self.orchestrator.db_ready,
                confirmed=lambda: self.chain.confirmed,
                is_dos=lambda: self.dos.state >= STICKY_STATE,
                listed=self.own_rows.may_be_listed,
                specs=self._components,
                engine_ready=Gate(is_open=True) if containers is None else containers.host.reachable,
                stops=frozenset if containers is None else containers.kept_down,
            ),
            bus=self.bus,
            counters=self.counters,
            settled=self._boot_settled,
        )

    def _compose_watch(self, parts: NodeParts) -> None:
        """What watches the node and its place in the network."""
        self.watch = Watch(
            WatchParts(
                settings=self.settings,
                chain=self.chain,
                daemon=parts.daemon,
                peers=self.peers,
                log=self.log,
                store=parts.store,
                http=parts.bulk_source,
                probe=parts.node_probe,
                host=self.host,
                removal=self.removal,
                dos=self.dos,
                bus=self.bus,
                counters=self.counters,
                clock=parts.clock,
                rng=parts.rng,
                public_key=parts.key.public_key,
                needs_static=self._needs_static,
                boot_settled=self._boot_settled,
                public_ip=lambda: parts.bench.call("getpublicip"),
            )
        )

    def _needs_static(self, app: str) -> bool:
        """Whether the specification in force asks for a static address."""
        current = None if self.host.registry_free else self.registry.current.get(app)
        return current is not None and current.spec().get("staticip") is True

    def _has_static_ip(self) -> bool:
        """As last looked up; only a node that hosts apps looks where it is."""
        located = None if self.containers is None else self.containers.node.located
        return located is not None and located.has_static_ip

    def _hush(self) -> None:
        """The machine goes down: nothing more is said, and no container is started any more."""
        self._departing = True
        self.announcer.hush()

    def _host(self, parts: NodeParts) -> AppHost:
        if self.containers is not None:
            return self.containers.host
        if parts.host is not None:
            return parts.host
        if not self.settings.node.apps_file:
            return MemoryHost(bus=self.bus)
        path = Path(self.settings.node.apps_file).expanduser()
        rebooted = self._was_rebooted
        apps_file = AppsFile(path, self.bus, self.counters, rebooted=rebooted)
        self._own_services.append(apps_file)
        return apps_file

    def _was_rebooted(self) -> bool:
        return self.heartbeat.context.machine_rebooted and not self.heartbeat.context.first_boot

    def _components(self, app: str) -> Sequence[Component] | None:
        """By the specification in force; apps that need none are described by their own row."""
        if self.host.registry_free:
            return next((row.components for row in self.host.installed() if row.name == app), None)
        current = self.registry.current.get(app)
        if current is None:
            return None
        opened = components_of(current.spec())
        if opened is not None or self.containers is None:
            return opened
        # encrypted: what was installed could be opened, and tells the same as long as the hash is the same
        return next((row.components for row in self.host.installed() if row.name == app), None) or None

    def services(self) -> list[Service]:
        """In start order: what a later one needs is ready before it starts."""
        return [
            self.heartbeat,
            self.log,
            self.chain,
            self.registry,
            *self._own_services,
            *(self.containers.services() if self.containers is not None else ()),
            self.boot,
            self.peers,
            self.announcer,
            self.responder,
            self.state_sync,
            self.state_server,
            self.hash_sync,
            self.orchestrator,
            self.explorer,
            *self.watch.services(),
        ]

    def is_essential(self, service: Service) -> bool:
        """Whether a crash loop of it ends the node: of what keeps apps not, they would lose more by that."""
        return self.containers is None or service not in self.containers.services()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run all services bare, without restarts: the simulator wants crashes to surface."""
        async with trio.open_nursery() as nursery:
            for service in self.services():
                await nursery.start(service.run)
            task_status.started()
