"""Spawner, port tests and availability loop of one node, wired together (docs/spec/lifecycle.md §11, §18).

`trionode.node` gives what is of the node, `containers.composition` what is of its containers.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from trionode.chain.facts import ChainFacts
from trionode.config.tree import Settings
from trionode.containers.actions import AppActions
from trionode.containers.disk import Firewall
from trionode.containers.engine import Engine
from trionode.containers.images.specimages import ImageCheck, Logins, SpecImages
from trionode.containers.install.records import InstallRecords
from trionode.containers.installedapps import InstalledApps
from trionode.containers.machine.listeners import Listeners
from trionode.containers.node.view import NodeView
from trionode.containers.operations import Operations
from trionode.containers.spawning.announcements import Announcements
from trionode.containers.spawning.candidatelist import CandidateList
from trionode.containers.spawning.facts import ExplorerSide, SpawnFactSource
from trionode.containers.spawning.porttest import PortCheck, PortDoor, PortTest
from trionode.containers.spawning.portwatch import PortAvailability
from trionode.containers.spawning.spawner import Spawner
from trionode.containers.spawning.testedports import MetaStore, TestedPorts
from trionode.containers.spawning.world import KnownSpecs, Lists, SpawnParts, SpawnWorld
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.dosstate import DosState
from trionode.runtime.gate import Gate
from trionode.runtime.service import Service
from trionode.store.appregistry import AppRegistry
from trionode.store.eventlog import EventLog
from trionode.sync.nodeprobe import HttpNodeProbe
from trionode.sync.source import NodeHttp
from trionode.sync.witness import PortWitness
from trionode.wire.keys import NodeKey


@dataclass(frozen=True, kw_only=True)
class SpawningParts:
    """What spawner and port tests are given.

    `ready`: open while the node is READY; `db_ready`: while the registry is complete. `expire`: removes
    apps that have ended. `notes` last when the node dies. `http`: asks other nodes; `listeners`: ports of
    this machine.
    """

    settings: Settings
    key: NodeKey
    chain: ChainFacts
    explorer: ExplorerSide
    registry: AppRegistry
    log: EventLog
    dos: DosState
    ready: Gate
    db_ready: Gate
    http: NodeHttp
    listeners: Listeners
    engine: Engine
    firewall: Firewall
    notes: MetaStore
    images: ImageCheck
    logins: Logins
    lists: Lists
    specs: KnownSpecs
    node: NodeView
    installed: InstalledApps
    records: InstallRecords
    operations: Operations
    actions: AppActions
    announcements: Announcements
    expire: Callable[[], Awaitable[object]]
    bus: EventBus
    counters: Counters
    clock: WallClock
    rng: random.Random


class Spawning:
    """Composed but not started. `spawner.status` and `ports.status` are for the API."""

    def __init__(self, parts: SpawningParts) -> None:
        settings, constants = parts.settings, parts.registry.constants
        witness = PortWitness(parts.http, parts.key)
        notes = TestedPorts(parts.notes, lambda: self._ports_in_use(parts))
        door = PortDoor(settings.port_test, parts.firewall, parts.listeners, notes)
        self.port_check = PortCheck(
            test=PortTest(
                settings.port_test,
                chain=parts.chain,
                witness=witness,
                door=door,
                rng=_child(parts.rng, "test"),
            ),
            chain=parts.chain,
            installed=parts.installed,
            locations=parts.log,
            specs=parts.specs,
            api_ports=settings.network.allowed_api_ports,
            constants=constants,
        )
        self.ports = PortAvailability(
            settings.boot,
            chain=parts.chain,
            installed=parts.installed,
            witness=witness,
            door=door,
            dos=parts.dos,
            counters=parts.counters,
            rng=_child(parts.rng, "ports"),
            blocked=settings.hosting.blocked_ports,
            constants=constants,
        )
        self.spawner = Spawner(
            settings,
            facts=SpawnFactSource(
                chain=parts.chain,
                explorer=parts.explorer,
                db_ready=parts.db_ready,
                dos=parts.dos,
                node=parts.node,
                installed=lambda: parts.installed.names() | parts.operations.names(),
            ),
            world=SpawnWorld(self._needs(parts)),
            ready=parts.ready,
            bus=parts.bus,
            counters=parts.counters,
            clock=parts.clock,
            rng=_child(parts.rng, "spawner"),
        )

    def _needs(self, parts: SpawningParts) -> SpawnParts:
        settings = parts.settings
        return SpawnParts(
            candidates=CandidateList(
                parts.registry.current, parts.log, parts.registry.constants, parts.counters
            ),
            height=lambda: parts.chain.height,
            log=parts.log,
            specs=parts.specs,
            lists=parts.lists,
            images=SpecImages(parts.images, parts.logins, parts.engine),
            ports=self.port_check,
            node=parts.node,
            probe=HttpNodeProbe(parts.http, settings.monitors.check_timeout_s),
            news=parts.announcements,
            actions=parts.actions,
            expire=parts.expire,
            bus=parts.bus,
            counters=parts.counters,
            resources=settings.resources,
            probe_timeout_s=settings.monitors.check_timeout_s,
        )

    @staticmethod
    def _ports_in_use(parts: SpawningParts) -> frozenset[int]:
        """Of apps that are here or being installed, by their records: encrypted ones have them too."""
        return frozenset(
            port for record in parts.records.all() for part in record.parts for port in part.ports
        )

    def services(self) -> list[Service]:
        """In start order."""
        return [self.spawner, self.ports]


def _child(rng: random.Random, purpose: str) -> random.Random:
    """As hard to foretell as its parent, from which nothing is drawn."""
    return random.Random(f"{purpose} {rng.getstate()!r}")
