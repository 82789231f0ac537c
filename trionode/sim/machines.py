"""The machine under a simulated node: engine, disk, firewall, table of installed apps (lifecycle.md §12-§18).

It outlives the process of its node: a kill leaves everything as it is, a power cut ends the containers, a
reboot unmounts volumes. All machines of a world share one `Internet`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from trionode.chain.enterprise import BenchOpener
from trionode.chain.port import ChainRpc
from trionode.config.tree import Settings
from trionode.containers.disk import REMOVE_STEPS
from trionode.containers.engine import EngineInfo
from trionode.containers.install.storage import HttpStorage
from trionode.containers.machine.listeners import MemoryListeners
from trionode.containers.memory.disk import MemoryDisk, MemoryFirewall
from trionode.containers.memory.engine import DEFAULT_INFO, MemoryEngine
from trionode.containers.monitors.electorate import HttpElectorate
from trionode.containers.node.outside import OutsideHttp
from trionode.containers.parts import ContainerSeams
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.sim.chainanswers import HARDWARE
from trionode.sim.internet import Internet
from trionode.store.localapps import MemoryLocalApps
from trionode.sync.source import NodeHttp
from trionode.wire.keys import NodeKey

MIB_PER_GB = 1024
LOCAL_WRITES = ("put", "delete", "put_meta")


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of machine a node is. `secure`: its benchmark daemon opens encrypted specifications."""

    tier: str = "CUMULUS"
    secure: bool = False
    static_ip: bool = False
    datacenter: bool = False

    @property
    def info(self) -> EngineInfo:
        """What its engine says of it."""
        cores, ram_gb, _ = HARDWARE[self.tier]
        memory_bytes = round(ram_gb * MIB_PER_GB) << 20
        return msgspec.structs.replace(DEFAULT_INFO, cpus=cores, memory_bytes=memory_bytes)


class ContainerMachine:
    """One machine. Faults are set on its parts: `engine`, `disk`, `firewall`, `local`, `listeners`."""

    def __init__(self, name: str, clock: WallClock, internet: Internet, hardware: Hardware) -> None:
        self.name = name
        self.hardware = hardware
        self.internet = internet
        self.engine = MemoryEngine(clock, name=name, registry=internet.images, info=hardware.info)
        self.disk = MemoryDisk(clock=clock)
        self.firewall = MemoryFirewall()
        self.local = MemoryLocalApps()
        self.listeners = MemoryListeners()
        self._clock = clock

    def seams(self, settings: Settings, key: NodeKey, bench: ChainRpc, nodes: NodeHttp) -> ContainerSeams:
        """For one process of its node; the clients are those of real nodes."""
        client = self.internet.client
        return ContainerSeams(
            engine=self.engine,
            disk=self.disk,
            firewall=self.firewall,
            images=self.internet.registries,
            local=self.local,
            storage=HttpStorage(client, key, self._clock, limit_bytes=settings.installer.storage_limit_bytes),
            outside=OutsideHttp(client, settings.services.http_timeout_s),
            nodes=nodes,
            listeners=self.listeners,
            electorate=lambda counters: HttpElectorate(client, nodes, counters),
            opener=BenchOpener(bench, Counters()) if self.hardware.secure else None,
        )

    # --- what happens to it -----------------------------------------------------------------------

    @contextmanager
    def dying(self) -> Iterator[None]:
        """While the process is killed: nothing it would still like to undo reaches anything."""
        disk, engine = self.disk, self.engine
        failing, was_away = dict(disk.failing), engine.unreachable
        engine.unreachable = disk.is_killed = True
        disk.failing |= dict.fromkeys(REMOVE_STEPS)
        self.firewall.failing |= dict.fromkeys(("allow", "forget", "guard", "unguard"))
        self.local.failing.update(LOCAL_WRITES)
        try:
            yield
        finally:
            engine.unreachable, disk.is_killed = was_away, False
            disk.failing = failing
            self.firewall.failing.clear()
            self.local.failing.clear()
            self.listeners.open.clear()

    def power_cut(self) -> None:
        """Nothing runs any more; volumes whose mounts survive are mounted when it is up again."""
        self.engine.power_cut()
        self.disk.reboot()
        self.disk.steps.clear()

    # --- looking ----------------------------------------------------------------------------------

    def answers(self, port: int) -> bool:
        """Whether somebody accepts connections there from outside."""
        return port in self.firewall.open and (port in self.listeners.open or port in self.engine.bound_ports)

    def running(self) -> tuple[str, ...]:
        """Names of the containers that run."""
        return self.engine.running_names

    async def installed(self) -> Sequence[str]:
        """Names of the apps in its table."""
        return [row.name for row in await self.local.rows()]
