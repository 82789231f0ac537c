"""The monitors of a node, wired together: the part of the composition root that watches the rest.

Standing with the network, eviction of nodes that left, the own connection, the own address, the daemon
(docs/spec/lifecycle.md §10, events.md §8-§9, wire.md §4). `trionode.node` composes everything else.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from trionode.chain.facts import ChainFacts
from trionode.chain.port import ChainRpc
from trionode.config.tree import Settings
from trionode.hosting.addresswatch import AddressWatch
from trionode.hosting.availability import Availability
from trionode.hosting.daemonhealth import DaemonWatch
from trionode.hosting.nodestatus import MonitorStatus, NodeStatus
from trionode.hosting.port import AppHost
from trionode.hosting.removal import AppRemoval, Leaving
from trionode.hosting.selfcheck import SelfCheck
from trionode.hosting.sweep import NodeProbe, Sweep
from trionode.peers.health import NetworkHealth
from trionode.peers.service import PeerService
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.dosstate import DosState
from trionode.runtime.gate import Gate
from trionode.runtime.service import Service
from trionode.store.eventlog import EventLog
from trionode.store.port import Store
from trionode.sync.nodeprobe import HttpNodeProbe
from trionode.sync.source import PeerHttp
from trionode.sync.witness import ReachWitness


@dataclass(frozen=True, kw_only=True)
class WatchParts:
    """What the monitors are given. `probe` None: nodes are asked over `http`.

    `public_ip`: asks the benchmark for our address.
    """

    settings: Settings
    chain: ChainFacts
    daemon: ChainRpc
    peers: PeerService
    log: EventLog
    store: Store
    http: PeerHttp
    probe: NodeProbe | None
    host: AppHost
    removal: AppRemoval
    dos: DosState
    bus: EventBus
    counters: Counters
    clock: WallClock
    rng: random.Random
    public_key: str
    needs_static: Callable[[str], bool]
    boot_settled: Gate
    public_ip: Callable[[], Awaitable[object]] | None = None


class Watch:
    """All monitors, composed but not started."""

    def __init__(self, parts: WatchParts) -> None:
        settings, monitors = parts.settings, parts.settings.monitors
        self._removal = parts.removal
        http_probe = HttpNodeProbe(parts.http, monitors.check_timeout_s)
        self.network = NetworkHealth(
            settings.peers,
            parts.peers.table,
            parts.chain,
            parts.bus,
            parts.counters,
            parts.clock,
            parts.rng,
            reaches=http_probe.reaches,
        )
        self.node_status = NodeStatus(
            monitors,
            settings.boot,
            facts=parts.chain,
            sweep=Sweep(
                monitors,
                facts=parts.chain,
                log=parts.log,
                probe=parts.probe if parts.probe is not None else http_probe,
                is_sound=lambda: self.network.is_sound,
                counters=parts.counters,
                rng=parts.rng,
            ),
            removal=parts.removal,
            dos=parts.dos,
            bus=parts.bus,
            counters=parts.counters,
            boot_settled=parts.boot_settled,
        )
        self.daemon = DaemonWatch(monitors, settings.boot, facts=parts.chain, removal=parts.removal)
        self.self_check = SelfCheck(
            monitors,
            settings.peers,
            facts=parts.chain,
            table=parts.peers.table,
            dos=parts.dos,
            public_key=parts.public_key,
        )
        self.availability = Availability(
            monitors,
            settings.peers,
            facts=parts.chain,
            witness=ReachWitness(parts.http, monitors.availability_timeout_s),
            dos=parts.dos,
            # as hard to foretell as its parent, from which nothing is drawn
            rng=random.Random(repr(parts.rng.getstate())),
            public_ip=parts.public_ip,
        )
        self.address = AddressWatch(
            monitors,
            facts=parts.chain,
            store=parts.store,
            own_log=parts.log,
            sender=parts.peers,
            host=parts.host,
            removal=parts.removal,
            dos=parts.dos,
            bus=parts.bus,
            counters=parts.counters,
            clock=parts.clock,
            public_key=parts.public_key,
            needs_static=parts.needs_static,
            confirm=lambda: parts.daemon.call("createconfirmationtransaction", fresh=True),
            stop_grace_s=settings.installer.stop_grace_s,
        )

    def network_health(self) -> dict[str, Any]:
        """{status, inSteadyState, history} of the own connection."""
        return self.network.snapshot()

    def monitor_status(self) -> MonitorStatus:
        """The last round of the node-status monitor."""
        return self.node_status.status

    def unsynced_for_s(self) -> float | None:
        """How long the daemon has been behind; None when it is not."""
        return self.daemon.unsynced_for_s

    def leaving(self) -> tuple[Leaving, ...]:
        """Why the apps of this node have to go: as is being done, else as far as the monitors foresee it."""
        if self._removal.under_way is not None:
            return (self._removal.under_way,)
        found = (self.node_status.leaving(), self.daemon.leaving())
        return tuple(leaving for leaving in found if leaving is not None)

    def services(self) -> list[Service]:
        """In start order."""
        return [
            self.network,
            self.address,
            self.node_status,
            self.daemon,
            self.self_check,
            self.availability,
        ]
