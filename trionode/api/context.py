"""What the API is given: the node's parts, as narrow structural types.

The API reads from the rooms below and calls a few verbs; these protocols list them all. The real
parts are composed in `trionode.node`; tests use small fakes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trionode.api.appdesk import AppDesk
from trionode.api.containersport import ContainersPort
from trionode.api.probe import Probe
from trionode.api.registryports import RegistryParts
from trionode.api.watching import BootPort, WatchPort
from trionode.appstate.documents import InstallErrorRow, InstallingRow
from trionode.appstate.explain import Step
from trionode.chain.port import ChainRpc
from trionode.config.tree import Settings
from trionode.peers.closecodes import Direction
from trionode.peers.discovery import Source
from trionode.peers.table import HistoryRecord
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.dosstate import DosState
from trionode.runtime.lag import LagStats
from trionode.runtime.supervisor import ServiceStatus
from trionode.store.port import StoreServer
from trionode.sync.report import OrchestratorStatus
from trionode.wire.nodelist import NodeList


class ChainPort(Protocol):
    """What the node knows from its daemons (`chain.facts.ChainFacts`)."""

    @property
    def nodes(self) -> NodeList: ...
    @property
    def own_address(self) -> str | None: ...
    @property
    def height(self) -> int: ...
    @property
    def headers(self) -> int: ...
    @property
    def synced(self) -> bool: ...
    @property
    def confirmed(self) -> bool: ...
    @property
    def can_send(self) -> bool: ...
    @property
    def daemon_reachable(self) -> bool | None: ...
    @property
    def last_error(self) -> str | None: ...


class TablePort(Protocol):
    """The live regular peers (`peers.table.PeerTable`)."""

    @property
    def outbound(self) -> int: ...
    @property
    def inbound(self) -> int: ...

    def __contains__(self, key: str) -> bool: ...

    @property
    def history(self) -> Iterable[HistoryRecord]:
        """The last connects and disconnects, oldest first."""
        ...

    def distinct_ips(self, direction: Direction) -> int: ...

    def rows(self, direction: Direction | None = None, key: str | None = None) -> list[dict[str, Any]]:
        """The peers with the members of /flux/peers (api.md §6)."""
        ...

    def unstable(self) -> list[dict[str, Any]]:
        """{ip, port, disconnects, firstDisconnect} of nodes with 5 or more drops in 2 h."""
        ...


class TopologyPort(Protocol):
    """What peers report of their own links."""

    def snapshot(self) -> dict[str, dict[str, list[str]]]:
        """`{reporter: {outbound: [key], inbound: [key]}}`."""
        ...


class PeersPort(Protocol):
    """What the API needs of the peer service (`peers.service.PeerService`)."""

    @property
    def table(self) -> TablePort: ...
    @property
    def topology(self) -> TopologyPort: ...

    def add_outgoing(
        self, ip: str, port: int, *, source_ip: str | None = None, source: Source = "deterministic"
    ) -> str:
        """Dial a node in the background; the text of the answer. Raises PeerError with a refusal."""
        ...

    def close_peer(self, key: str, reason: str = "purposefully closed") -> bool:
        """Close a live peer; False if there is none."""
        ...

    def start_discovery(self) -> None:
        """Start looking for peers when that was left to us; idempotent."""
        ...

    def broadcast_own(self, data: dict[str, Any]) -> object:
        """Sign and send data of our own to all peers."""
        ...


class LocationRow(Protocol):
    """One location (`appstate.index.LocationView`); payload values as signed, times in ms."""

    @property
    def name(self) -> str: ...
    @property
    def hash(self) -> str: ...
    @property
    def ip(self) -> str: ...
    @property
    def broadcasted_at_ms(self) -> int: ...
    @property
    def expire_at_ms(self) -> int: ...
    @property
    def running_since_ms(self) -> int: ...
    @property
    def os_uptime(self) -> object: ...
    @property
    def static_ip(self) -> object: ...


class IndexPort(Protocol):
    """Who runs what where (`appstate.index.LocationIndex`)."""

    def locations(self, name: str | None = None, ip: str | None = None) -> Sequence[LocationRow]:
        """The rows of an app (whole name, any case), of an address, of both, or all."""
        ...

    def names(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...


class LogPort(Protocol):
    """What the API needs of the event log (`store.eventlog.EventLog`)."""

    @property
    def index(self) -> IndexPort: ...

    def installing(self, name: str | None = None) -> Sequence[InstallingRow]:
        """Installs in progress, of one app (any letter case) or all."""
        ...

    def install_errors(self, name: str | None = None) -> Sequence[InstallErrorRow]:
        """Failed installs, of one app (any letter case) or all."""
        ...

    async def explain(self, name: str, ip: str | None = None) -> Sequence[Step]:
        """Why an app is or is not listed: the events in order, with the rule that decided."""
        ...


class ObserverPort(Protocol):
    """What an observer knows of its own knowledge (`observer.report.ObserverReport`)."""

    def is_unverified(self, row: LocationRow) -> bool:
        """Whether a location stands on other nodes' word only."""
        ...

    def document(self) -> dict[str, Any]:
        """Sources, what they agree on, what is not known."""
        ...


class SupervisorPort(Protocol):
    """The supervisor's report."""

    def status(self) -> Iterable[ServiceStatus]: ...


class OrchestratorPort(Protocol):
    """Which phase the node is in (`sync.orchestrator.Orchestrator`)."""

    @property
    def status(self) -> OrchestratorStatus: ...


@dataclass(frozen=True)
class ApiContext:
    """Everything `create_app` composes the routes on.

    `rng` makes login phrases and must be a secure source in a real node (`random.SystemRandom()`);
    `started_s` is the moment of Trio's clock at which the node started; `dos` may be shared with the
    services that raise it. `observer` is None in a node; in an observer `public_key` is empty.
    `server` is None when the stores are files. `containers` is None without a container engine, `desk`
    carries out commands to apps and runs as a service.
    """

    settings: Settings
    clock: WallClock
    bus: EventBus
    counters: Counters
    log: LogPort
    peers: PeersPort
    chain: ChainPort
    daemon: ChainRpc
    bench: ChainRpc
    supervisor: SupervisorPort
    probe: Probe
    rng: random.Random
    dos: DosState
    public_key: str
    registry: RegistryParts
    started_s: float
    os_uptime_s: Callable[[], float]
    lag: LagStats | None = None
    observer: ObserverPort | None = None
    orchestrator: OrchestratorPort | None = None
    boot: BootPort | None = None
    watch: WatchPort | None = None
    server: StoreServer | None = None
    containers: ContainersPort | None = None
    desk: AppDesk | None = None
