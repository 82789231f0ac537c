"""What this node is: machine, tier, place, kind; for requirements, deferrals and labels of containers.

Facts: docs/spec/lifecycle.md §11 (requirements, step 10), daemon-rpc.md §6 (getbenchmarks). Cores and memory
are those of the host itself, the disk is what the benchmark measured, the tier is that of the node list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import trio

from trionode.chain.port import ChainRpc
from trionode.config.tree import ResourceSettings
from trionode.containers.engine import ContainerRow, EngineInfo
from trionode.containers.node.geolocation import Located, Locator
from trionode.containers.node.outside import OutsideError
from trionode.errors import ChainError, HostError
from trionode.lifecycle.limits import Machine
from trionode.lifecycle.names import is_app_container
from trionode.plans.deferrals import Kind
from trionode.plans.requirements import Amount, NodeFacts, Place
from trionode.runtime.logs import get_logger
from trionode.wire.address import split_address
from trionode.wire.nodelist import NodeEntry, NodeList

MIB_BYTES = 1024 * 1024
TIERS = ("cumulus", "nimbus", "stratus")
LOCATION_KEPT_S = 86_400.0
LOCATION_RETRY_S = 300.0
"""After a look-up that failed the next one is made this much later."""

log = get_logger("containers.nodeview")


class NodeUnknown(HostError):
    """What this node is cannot be told now: benchmark or engine does not answer."""

    code = "node_unknown"


class ChainSide(Protocol):
    """What is known of the node from the chain (`chain.facts.ChainFacts`)."""

    @property
    def own_address(self) -> str | None: ...
    @property
    def nodes(self) -> NodeList: ...


class EngineSide(Protocol):
    """What is asked of the engine."""

    async def info(self) -> EngineInfo: ...
    async def containers(self) -> tuple[ContainerRow, ...]: ...


class InstalledSide(Protocol):
    """What is installed here (`containers.installedapps.InstalledApps`)."""

    def locked(
        self, settings: ResourceSettings, tier: str | None = None, *, without: str | None = None
    ) -> Amount:
        """What installed apps take of this machine, encrypted ones included."""
        ...


class Benchmark(msgspec.Struct, frozen=True):
    """What the benchmark says that matters here."""

    ssd_gb: float
    tier: str | None
    is_secure: bool


class NodeView:
    """Answers what this node is. `public_key`: our own; `enterprise_keys`: those of enterprise nodes."""

    def __init__(
        self,
        resources: ResourceSettings,
        *,
        chain: ChainSide,
        bench: ChainRpc,
        engine: EngineSide,
        installed: InstalledSide,
        locator: Locator,
        public_key: str,
        enterprise_keys: Sequence[str] = (),
    ) -> None:
        self._resources = resources
        self._chain = chain
        self._bench = bench
        self._engine = engine
        self._installed = installed
        self._locator = locator
        self._public_key = public_key
        self._enterprise_keys = enterprise_keys
        self._looking = trio.Lock()
        self._located: tuple[str, Located] | None = None
        self._asked: tuple[str, float] | None = None

    # Known at once

    @property
    def address(self) -> str | None:
        """As the network lists it, None while unknown."""
        return self._chain.own_address

    @property
    def tier(self) -> str | None:
        """cumulus, nimbus or stratus; None when the node is not in the list."""
        entry = self._entry()
        return _tier(entry.tier) if entry is not None else None

    @property
    def collateral(self) -> str:
        """txhash:outidx, empty when the node is not in the list."""
        entry = self._entry()
        return f"{entry.txhash}:{entry.outidx}" if entry is not None and entry.txhash else ""

    @property
    def is_enterprise(self) -> bool:
        return self._public_key in self._enterprise_keys

    @property
    def located(self) -> Located | None:
        """The place as last looked up, None before it is known."""
        address = self._chain.own_address
        known = self._located
        return known[1] if known is not None and address is not None and known[0] == _ip(address) else None

    # To be asked for

    async def machine(self) -> Machine:
        """Raises NodeUnknown."""
        benchmark = await self.benchmark()
        try:
            info = await self._engine.info()
        except HostError as error:
            raise NodeUnknown(f"the engine does not tell the machine: {error.message}") from error
        return Machine(info.cpus, info.memory_bytes // MIB_BYTES, benchmark.ssd_gb)

    async def facts(self, *, without: str | None = None) -> NodeFacts:
        """What requirements are held against; `without`: as if this app were not here. Raises NodeUnknown."""
        machine = await self.machine()
        located = await self.locate()
        return NodeFacts(
            machine=machine,
            locked=self._installed.locked(self._resources, self.tier, without=without),
            address=self.address or "",
            collateral=self.collateral,
            tier=self.tier,
            place=None if located is None else located.place,
            has_static_ip=located is not None and located.has_static_ip,
            is_datacenter=located is not None and located.is_datacenter,
            is_enterprise=self.is_enterprise,
        )

    async def kind(self) -> Kind | None:
        """What kind of node this is; None while its address is not known. Raises NodeUnknown."""
        benchmark = await self.benchmark()
        address = self.address
        if address is None:
            return None
        located = await self.locate()
        return Kind(
            address=address,
            tier=self.tier or benchmark.tier,
            enterprise=self.is_enterprise,
            arcane=benchmark.is_secure,
            static_ip=located is not None and located.has_static_ip,
            datacenter=located is not None and located.is_datacenter,
        )

    async def place(self) -> Place | None:
        """Where the node is, None while nobody could tell."""
        located = await self.locate()
        return None if located is None else located.place

    async def benchmark(self) -> Benchmark:
        """Raises NodeUnknown."""
        try:
            answer = await self._bench.call("getbenchmarks")
        except ChainError as error:
            raise NodeUnknown(
                f"the benchmark does not answer: {error.message}", remedy="see whether fluxbenchd runs"
            ) from error
        if not isinstance(answer, Mapping):
            raise NodeUnknown(
                "the benchmark has no result", remedy="see what fluxbench-cli getbenchmarks says"
            )
        return Benchmark(
            _number(answer.get("ssd")), _tier(answer.get("status")), answer.get("systemsecure") is True
        )

    async def locate(self) -> Located | None:
        """The place of the own address: looked up once a day, and not again soon after a failure."""
        address = self.address
        if address is None:
            return None
        ip = _ip(address)
        async with self._looking:
            if self._asked is None or self._asked[0] != ip or trio.current_time() >= self._asked[1]:
                self._asked = (ip, trio.current_time() + await self._look_up(ip))
            known = self._located
            return known[1] if known is not None and known[0] == ip else None

    async def _look_up(self, ip: str) -> float:
        """Ask where it is; seconds for which the answer is good. A place once known stays known."""
        try:
            self._located = (ip, await self._locator.locate(ip))
        except OutsideError as error:
            log.warning("where this node is was not found out", problem=error.one_line())
            return LOCATION_RETRY_S
        return LOCATION_KEPT_S

    async def running_containers(self) -> int:
        """Containers of apps that run now. Raises EngineError."""
        rows = await self._engine.containers()
        return sum(row.state == "running" and is_app_container(row.name) for row in rows)

    def _entry(self) -> NodeEntry | None:
        address = self._chain.own_address
        entry = None if address is None else self._chain.nodes.by_address(address)
        return entry if entry is not None and entry.pubkey == self._public_key else None


def _ip(address: str) -> str:
    return split_address(address)[0]


def _tier(value: Any) -> str | None:
    tier = value.lower() if isinstance(value, str) else ""
    return tier if tier in TIERS else None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
