"""What the containers of a node are given: seams to the outer world, and what is of the node.

`containers.composition` wires everything of this room on them.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trionode.chain.explorer import Explorer
from trionode.chain.facts import ChainFacts
from trionode.chain.port import ChainRpc
from trionode.config.tree import Settings
from trionode.containers.disk import Disk, Firewall
from trionode.containers.engine import Engine
from trionode.containers.images.registry import ImageRegistry
from trionode.containers.install.workbench import NoSecrets, Secrets, Storage
from trionode.containers.machine.listeners import Listeners
from trionode.containers.monitors.election import Electorate
from trionode.containers.node.geolocation import Locator
from trionode.containers.node.outside import JsonSource
from trionode.hosting.boot import BootManager
from trionode.hosting.ownmessages import Broadcaster
from trionode.hosting.removal import Leaving
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.dosstate import DosState
from trionode.runtime.gate import Gate
from trionode.store.appregistry import AppRegistry
from trionode.store.eventlog import EventLog
from trionode.store.localapps import LocalAppStore
from trionode.sync.orchestrator import Orchestrator
from trionode.sync.source import NodeHttp
from trionode.wire.keys import NodeKey


class SpecOpener(Protocol):
    """Opens encrypted specifications, for the registry and for the apps installed here."""

    async def open(self, spec: Mapping[str, Any], height: int) -> dict[str, Any] | None:
        """With compose and contacts in clear; None when that cannot be done."""
        ...


@dataclass(frozen=True, kw_only=True)
class ContainerSeams:
    """What the containers of a node stand on.

    `opener`: opens encrypted specifications, None where nothing can. `outside`: documents of services on
    the internet, `nodes` those of other nodes. `listeners` accept connections while ports are tested,
    `electorate` is asked who runs `g:` apps. `locator` None: the services of the settings are asked.
    """

    engine: Engine
    disk: Disk
    firewall: Firewall
    images: ImageRegistry
    local: LocalAppStore
    storage: Storage
    outside: JsonSource
    nodes: NodeHttp
    listeners: Listeners
    electorate: Callable[[Counters], Electorate]
    locator: Locator | None = None
    opener: SpecOpener | None = None
    secrets: Secrets = field(default_factory=NoSecrets)


@dataclass(frozen=True, kw_only=True)
class ContainerParts:
    """What the node gives.

    `expire` removes apps whose time is over. `boot_settled` opens when the boot decision is carried out;
    `boot()`: who makes it, composed later. `departing`: the machine goes down. `leaving()`: why all apps have
    to go (`watch.Watch.leaving`).
    """

    settings: Settings
    chain: ChainFacts
    bench: ChainRpc
    registry: AppRegistry
    explorer: Explorer
    orchestrator: Orchestrator
    log: EventLog
    broadcaster: Broadcaster
    dos: DosState
    bus: EventBus
    counters: Counters
    clock: WallClock
    rng: random.Random
    key: NodeKey
    boot_settled: Gate
    expire: Callable[[], Awaitable[object]]
    departing: Callable[[], bool]
    boot: Callable[[], BootManager]
    leaving: Callable[[], Sequence[Leaving]]
