"""The composition of an observer on its seams: what a node is made of, less everything that speaks.

There is no key in here: nothing that could sign is ever made, and the peer service is a listener.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import trio

from trionode.config.tree import PeerSettings, Settings
from trionode.observer.bootstrap import Bootstrap
from trionode.observer.daemon import ObservedDaemon
from trionode.observer.facts import ObservedFacts
from trionode.observer.places import ConfirmingLog, ObservedLog
from trionode.observer.progress import Progress
from trionode.observer.reading import Reader, SourceHttp
from trionode.observer.report import ObserverReport
from trionode.observer.sources import SourceBook
from trionode.observer.specs import Specs
from trionode.observer.unverified import Unverified
from trionode.peers.admission import address_allowed
from trionode.peers.link import PeerTransport
from trionode.peers.role import listener
from trionode.peers.service import PeerService
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.service import Service
from trionode.store.eventlog import EventLog
from trionode.store.port import Store
from trionode.store.registry_memory import MemoryRegistryStore


@dataclass(frozen=True)
class ObserverParts:
    """The outer world of an observer. `seeds` are the nodes it asks first, HOST or HOST:PORT."""

    settings: Settings
    seeds: Sequence[str]
    clock: WallClock
    rng: random.Random
    transport: PeerTransport
    http: SourceHttp
    store: Store


class ObserverCore:
    """The services of one observer, composed but not started. Raises ConfigError for a seed that is none."""

    def __init__(self, parts: ObserverParts) -> None:
        settings = msgspec.structs.replace(
            parts.settings,
            peers=listening_settings(parts.settings.peers, parts.settings.observer.links),
        )
        network = settings.network
        self.settings = settings
        self.counters = Counters()
        self.bus = EventBus(ring=settings.api.event_ring)
        self.event_log = EventLog(settings.appstate, parts.store, parts.clock, self.bus, self.counters)
        self.unverified = Unverified(self.event_log.windows)
        self.log = ObservedLog(self.event_log, self.unverified, parts.clock)
        reader = Reader(parts.http, self.counters)
        book = SourceBook(
            settings.observer,
            parts.seeds,
            parts.rng,
            allowed=lambda ip, port: (
                port in network.allowed_api_ports
                and address_allowed(ip, allow_private=network.allow_private_addresses)
            ),
        )
        self.facts = ObservedFacts(
            settings.observer,
            book,
            reader,
            self.bus,
            self.counters,
            parts.rng,
            address=settings.node.address,
        )
        self.daemon = ObservedDaemon(self.facts)
        self.peers = PeerService(
            settings,
            transport=parts.transport,
            facts=self.facts,
            log=ConfirmingLog(self.event_log, self.unverified, self.bus, parts.clock),
            bus=self.bus,
            counters=self.counters,
            clock=parts.clock,
            rng=parts.rng,
            key=None,
            role=listener(settings.observer.links),
        )
        self.bootstrap = Bootstrap(
            settings.observer,
            self.facts,
            self.unverified,
            reader,
            self.bus,
            self.counters,
            parts.clock,
            signed=lambda ip: self.event_log.index.source(ip),
            links=lambda: len(self.peers.table),
        )
        self.registry_store = MemoryRegistryStore()
        self.specs = Specs(
            settings.observer, self.facts, self.registry_store, reader, self.bus, self.counters
        )
        self.report = ObserverReport(
            self.facts,
            self.unverified,
            self.bootstrap,
            self.specs,
            self.counters,
            links=lambda: len(self.peers.table),
            max_links=settings.observer.links,
        )
        self.progress = Progress(self.report, self.bus, lambda: len(self.log.index))

    def services(self) -> list[Service]:
        """In start order."""
        return [self.event_log, self.facts, self.peers, self.bootstrap, self.specs, self.progress]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run all services bare, without restarts (tests)."""
        async with trio.open_nursery() as nursery:
            for service in self.services():
                await nursery.start(service.run)
            task_status.started()


def listening_settings(peers: PeerSettings, links: int) -> PeerSettings:
    """A few random links outward and nothing else: no neighbours, no invitations."""
    return msgspec.structs.replace(
        peers,
        min_outbound=0,
        min_unique_outbound_ips=0,
        min_inbound=0,
        min_unique_inbound_ips=0,
        random_outbound=links,
        random_outbound_ips=0,
        random_inbound=0,
        random_inbound_ips=0,
        threshold_reached=1,
        threshold_below=1,
    )
