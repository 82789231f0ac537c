"""One node of the simulated world: its identity, what outlives its process, and the process itself.

The process is `trionode.node.NodeCore`, the same composition a real node runs, on virtual seams.
A kill takes the process and its memory; key, address, apps and store stay.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import trio

from trionode.chain.nodelist import NodeListBuilder
from trionode.chain.port import ChainRpc
from trionode.config.tree import Settings
from trionode.hosting.memory import MemoryHost
from trionode.node import NodeCore, NodeParts
from trionode.peers.link import PeerTransport
from trionode.peers.service import PeerRefused
from trionode.runtime.clock import VirtualClock
from trionode.runtime.machine import MemoryMachine
from trionode.sim.machines import ContainerMachine
from trionode.sim.network import VirtualNetwork
from trionode.sim.store import WatchedStore
from trionode.sim.transport import VirtualTransport
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.sync.source import NodeHttp
from trionode.wire.address import split_address
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeList


class SimNode:
    """A node that may be running or not. `core` is None while it is not."""

    def __init__(
        self,
        number: int,
        address: str,
        key: NodeKey,
        clock: VirtualClock,
        apps: MemoryHost,
        store: WatchedStore,
        settings: Settings,
        seed: str,
        box: ContainerMachine | None = None,
    ) -> None:
        self.number = number
        self.name = f"node{number}"
        self.address = address
        self.ip, self.port = split_address(address)
        self.key = key
        self.clock = clock
        self.apps = apps
        self.machine = MemoryMachine(f"node{number}")
        self.box = box
        """What its containers run on; None when `apps` are all there is."""
        self.is_dying = False
        """It is being killed: what its process still raises nobody sees."""
        self.store = store
        self.registry_store = MemoryRegistryStore()
        self.settings = settings
        self.core: NodeCore | None = None
        self.starts = 0
        self.build_nodes: NodeListBuilder = NodeList.from_rpc
        self._seed = seed
        self._scope: trio.CancelScope | None = None
        self._ended = trio.Event()

    @property
    def is_running(self) -> bool:
        return self.core is not None

    @property
    def is_leaving(self) -> bool:
        """It is being stopped: some of its services have ended already."""
        return self.machine.going_down or (self._scope is not None and self._scope.cancel_called)

    @property
    def running(self) -> NodeCore:
        """The process. Raises RuntimeError while the node is down."""
        if self.core is None:
            raise RuntimeError(f"{self.name} is not running")
        return self.core

    async def run(
        self,
        network: VirtualNetwork,
        daemon: ChainRpc,
        bench: ChainRpc,
        http: NodeHttp,
        on_start: Callable[[SimNode, NodeCore], None],
        ready: trio.Event,
    ) -> None:
        """One life of the process: from its start until `stop` or cancellation; sets `ready`."""
        self.starts += 1
        self._ended = trio.Event()
        transport = VirtualTransport(network, self.ip, self.port, self.settings.peers)
        core = self._compose(transport, daemon, bench, http)
        self.core = core
        self.apps.bus = core.bus
        on_start(self, core)
        try:
            with trio.CancelScope() as self._scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(core.run)
                    self.store.core = core
                    await nursery.start(transport.serve, core.peers.handle_inbound, self._on_invite)
                    ready.set()
        finally:
            self.core = self.store.core = None
            self.apps.bus = None
            self._scope = None
            self._ended.set()

    def _compose(
        self, transport: PeerTransport, daemon: ChainRpc, bench: ChainRpc, http: NodeHttp
    ) -> NodeCore:
        started_s = trio.current_time()
        return NodeCore(
            NodeParts(
                settings=self.settings,
                key=self.key,
                clock=self.clock,
                rng=random.Random(f"{self._seed}/life {self.starts}"),
                transport=transport,
                daemon=daemon,
                bench=bench,
                store=self.store,
                registry_store=self.registry_store,
                bulk_source=http,
                machine=self.machine,
                host=self.apps,
                containers=(
                    self.box.seams(self.settings, self.key, bench, http) if self.box is not None else None
                ),
                build_nodes=self.build_nodes,
                os_uptime_s=lambda: round(trio.current_time() - started_s, 2),
            )
        )

    async def _on_invite(self, source_ip: str, address: str) -> None:
        """What GET /flux/addoutgoingpeer does (docs/spec/wire.md §3), its refusals included."""
        await trio.lowlevel.checkpoint()
        ip, port = split_address(address)
        if self.core is not None:
            with contextlib.suppress(PeerRefused):  # a refusal is an answer, and HTTP 200
                self.core.peers.add_outgoing(ip, port, source_ip=source_ip)

    async def stop(self) -> None:
        """End the process and wait until it is gone; it may say goodbye to its peers (1001)."""
        if self._scope is not None:
            self._scope.cancel(reason="the simulator stopped this node")
            await self._ended.wait()

    async def kill(self) -> None:
        """End the process at once: what it was doing is left as it is."""
        self.is_dying = True
        try:
            with self.box.dying() if self.box is not None else contextlib.nullcontext():
                await self.stop()
        finally:
            self.is_dying = False

    def power_off(self) -> None:
        """The machine goes down and comes up with another boot id; nothing is running on it."""
        self.machine.reboot()
        self.apps.power_cut()
        if self.box is not None:
            self.box.power_cut()

    async def sigterm(self) -> None:
        """The machine goes down in order: the node departs, then its machine and containers are off."""
        if self.core is not None:
            self.machine.going_down = True
            await self.core.departure.leave("SIGTERM", lambda _: None)
        await self.stop()
        self.power_off()

    def lose_disk(self) -> None:
        """Everything stored is gone, as after a new disk; the key is on paper. Only while it is down."""
        self.store.erase()
        self.registry_store = MemoryRegistryStore()

    def __repr__(self) -> str:
        return f"<{self.name} {self.address}{'' if self.is_running else ' down'}>"
