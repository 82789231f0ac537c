"""What a node is given: its seams to the outer world, and its settings (trionode.node composes it)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from trionode.chain.nodelist import NodeListBuilder
from trionode.chain.port import ChainRpc
from trionode.config.tree import Settings
from trionode.containers.parts import ContainerSeams
from trionode.hosting.heartbeat import SpareBeat
from trionode.hosting.port import AppHost
from trionode.hosting.sweep import NodeProbe
from trionode.peers.link import PeerTransport
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.machine import Machine
from trionode.store.appregistry_judges import InlineJudges, Judges
from trionode.store.port import Store
from trionode.store.registry_port import RegistryStore
from trionode.sync.source import PeerHttp
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeList


@dataclass(frozen=True)
class NodeParts:
    """Everything of the outer world that a node is given.

    `containers`: what apps run on, None when this node hosts none. `host` is used without them; None: what
    `node.apps_file` says, or no apps if that is empty. `bulk_source` reads long
    lists of other nodes, and asks them how they are unless `node_probe` does. `has_address_index`:
    whether the chain daemon may have one (daemon-rpc.md §1). `spare_beat`: where the heartbeat is kept
    while the store cannot be written.
    """

    settings: Settings
    key: NodeKey
    clock: WallClock
    rng: random.Random
    transport: PeerTransport
    daemon: ChainRpc
    bench: ChainRpc
    store: Store
    registry_store: RegistryStore
    os_uptime_s: Callable[[], float]
    bulk_source: PeerHttp
    machine: Machine
    containers: ContainerSeams | None = None
    host: AppHost | None = None
    node_probe: NodeProbe | None = None
    judges: Callable[[Counters], Judges] = lambda _: InlineJudges()
    build_nodes: NodeListBuilder = NodeList.from_rpc
    has_address_index: bool = True
    spare_beat: SpareBeat | None = None
