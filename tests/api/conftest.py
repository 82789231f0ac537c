"""A node's parts as small fakes, and a client for the application (tests of the API)."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
import trio
from apirequests import FakeNodes, FakeProbe, RawRequest
from hostedapps import HostedApps, composed

from trionode.api import listening
from trionode.api.app import create_app
from trionode.api.appdesk import AppDesk
from trionode.api.context import ApiContext
from trionode.api.registryports import RegistryParts
from trionode.appstate.documents import InstallErrorRow, InstallingRow
from trionode.appstate.explain import Step
from trionode.config.tree import Settings
from trionode.errors import ChainError, PeerError
from trionode.peers.table import HistoryRecord
from trionode.registry.constants import MAINNET
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.dosstate import DosState
from trionode.runtime.supervisor import ServiceStatus
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeList

NOW_MS = 1_760_000_000_123
OPERATOR = NodeKey.generate(random.Random(1), compressed=True)
TEAM = NodeKey.generate(random.Random(2), compressed=True)
PERSON = NodeKey.generate(random.Random(3), compressed=False)
NODE = NodeKey.generate(random.Random(4))
NEIGHBOUR = NodeKey.generate(random.Random(5))


REFUSAL = {
    "status": "error",
    "data": {"code": 401, "name": "Unauthorized", "message": "Unauthorized. Access denied."},
}


class Clock:
    """A wall clock that tests turn by hand."""

    def __init__(self) -> None:
        self.now = NOW_MS

    def now_ms(self) -> int:
        return self.now


class Location(msgspec.Struct, frozen=True):
    name: str
    hash: str
    ip: str
    broadcasted_at_ms: int = NOW_MS
    expire_at_ms: int = NOW_MS + 7_500_000
    running_since_ms: int = NOW_MS - 1000
    os_uptime: Any = 12345.5
    static_ip: Any = True


class Index:
    def __init__(self) -> None:
        self.rows: list[Location] = []

    def locations(self, name: str | None = None, ip: str | None = None) -> Sequence[Location]:
        return [
            row
            for row in self.rows
            if (not name or row.name.lower() == name.lower()) and (not ip or row.ip == ip)
        ]

    def names(self) -> Sequence[str]:
        return sorted({row.name for row in self.rows})

    def __len__(self) -> int:
        return len(self.rows)


class Log:
    def __init__(self) -> None:
        self.index = Index()
        self.installing_rows: list[InstallingRow] = []
        self.error_rows: list[InstallErrorRow] = []
        self.steps: list[Step] = []

    def installing(self, name: str | None = None) -> Sequence[InstallingRow]:
        return [row for row in self.installing_rows if not name or row.name.lower() == name.lower()]

    def install_errors(self, name: str | None = None) -> Sequence[InstallErrorRow]:
        return [row for row in self.error_rows if not name or row.name.lower() == name.lower()]

    async def explain(self, name: str, ip: str | None = None) -> Sequence[Step]:
        return self.steps


def peer_row(ip: str, port: str, direction: str) -> dict[str, Any]:
    return {
        "ip": ip,
        "port": port,
        "direction": direction,
        "latency": 3,
        "missedPongs": 0,
        "lastPingTime": NOW_MS,
        "lastPongTime": None,
        "connectedAt": NOW_MS - 5000,
        "uptime": 5000,
        "source": "random",
        "isAlive": True,
        "badMessages": 0,
        "capabilities": ["peerExchange"],
        "remoteClockOffsetMs": None,
        "lastTransmissionDelay": None,
        "messagesReceived": 1,
        "messagesSent": 2,
        "bytesReceived": 3,
        "bytesSent": 4,
        "remoteVersion": "8.13.1",
        "reconnects": 0,
    }


class Table:
    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}
        self.unstable_rows: list[dict[str, Any]] = []
        self.history: list[HistoryRecord] = []

    def put(self, ip: str, port: str, direction: str) -> None:
        self._rows[f"{ip}:{port}"] = peer_row(ip, port, direction)

    @property
    def outbound(self) -> int:
        return len(self.rows("outbound"))

    @property
    def inbound(self) -> int:
        return len(self.rows("inbound"))

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def distinct_ips(self, direction: Any) -> int:
        return len({row["ip"] for row in self.rows(direction)})

    def rows(self, direction: Any = None, key: str | None = None) -> list[dict[str, Any]]:
        return [
            row
            for name, row in self._rows.items()
            if (direction is None or row["direction"] == direction) and key in (None, name)
        ]

    def unstable(self) -> list[dict[str, Any]]:
        return self.unstable_rows


class Topology:
    def __init__(self) -> None:
        self.reports: dict[str, dict[str, list[str]]] = {}

    def snapshot(self) -> dict[str, dict[str, list[str]]]:
        return self.reports


class Peers:
    def __init__(self) -> None:
        self.table = Table()
        self.topology = Topology()
        self.dialled: list[tuple[str, int, str]] = []
        self.closed: list[str] = []
        self.discovery_starts = 0
        self.sent: list[dict[str, Any]] = []

    def add_outgoing(
        self, ip: str, port: int, *, source_ip: str | None = None, source: Any = "deterministic"
    ) -> str:
        if source_ip not in (None, ip):
            raise PeerError(f"Request ip {source_ip} is not {ip}", remedy="ask for yourself")
        self.dialled.append((ip, port, source))
        return f"Outgoing connection to {ip}:{port} initiated"

    def close_peer(self, key: str, reason: str = "purposefully closed") -> bool:
        self.closed.append(key)
        return True

    def start_discovery(self) -> None:
        self.discovery_starts += 1

    def broadcast_own(self, data: dict[str, Any]) -> None:
        self.sent.append(data)


class Chain:
    def __init__(self) -> None:
        self.nodes = NodeList.from_rpc(
            [
                {"ip": "127.1.0.1", "pubkey": NODE.public_key, "tier": "CUMULUS", "rank": 7},
                {"ip": "127.1.0.2:16137", "pubkey": NEIGHBOUR.public_key, "tier": "NIMBUS"},
            ]
        )
        self.own_address: str | None = "127.1.0.1"
        self.height = 2_100_000
        self.headers = 2_100_000
        self.synced = True
        self.confirmed = True
        self.can_send = True
        self.daemon_reachable: bool | None = True
        self.last_error: str | None = None


class Rpc:
    """Answers by method; an exception in the table is raised. Calls are kept."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.calls: list[tuple[str, tuple[Any, ...], bool]] = []

    async def call(self, method: str, params: Sequence[Any] = (), *, fresh: bool = False) -> Any:
        self.calls.append((method, tuple(params), fresh))
        if method not in self.answers:
            raise ChainError("Method not found", rpc_code=-32601)
        answer = self.answers[method]
        if isinstance(answer, ChainError):
            raise answer
        return answer

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        return [await self.call(method, params) for method, params in calls]


class FakeSupervisor:
    def status(self) -> list[ServiceStatus]:
        return [ServiceStatus("peers", "ready", True, 0, 1.0, None, None, None)]


class Harness:
    """One node's application with its fakes, and requests to it."""

    operator, team, person, key, neighbour = OPERATOR, TEAM, PERSON, NODE, NEIGHBOUR
    now_ms = NOW_MS
    refusal = REFUSAL
    Location = Location

    def __init__(self) -> None:
        self.clock = Clock()
        self.bus = EventBus()
        self.counters = Counters()
        self.log = Log()
        self.peers = Peers()
        self.chain = Chain()
        self.daemon = Rpc({"getinfo": {"version": 6010050, "balance": 12.5}})
        self.bench = Rpc({"getbenchmarks": {"ipaddress": "127.1.0.1"}})
        self.probe = FakeProbe()
        self.dos = DosState(self.bus)
        self.registry = MemoryRegistryStore()
        base = Settings()
        settings = msgspec.structs.replace(
            base,
            node=msgspec.structs.replace(base.node, operator_id=OPERATOR.address),
            api=msgspec.structs.replace(base.api, team_id=TEAM.address),
        )
        self.context = ApiContext(
            settings=settings,
            clock=self.clock,
            bus=self.bus,
            counters=self.counters,
            log=self.log,
            peers=self.peers,
            chain=self.chain,
            daemon=self.daemon,
            bench=self.bench,
            supervisor=FakeSupervisor(),
            probe=self.probe,
            rng=random.Random(7),
            dos=self.dos,
            public_key=NODE.public_key,
            registry=RegistryParts(self.registry, MAINNET),
            started_s=0.0,
            os_uptime_s=lambda: 4321.9,
        )
        self.build()

    def build(self) -> None:
        self.app = create_app(self.context)
        self.client = self.app.test_client()

    def configure(self, section: str, **changes: Any) -> None:
        """Change settings of one section and build the application anew."""
        settings = self.context.settings
        changed = msgspec.structs.replace(getattr(settings, section), **changes)
        self.context = replace(self.context, settings=msgspec.structs.replace(settings, **{section: changed}))
        self.build()

    def raw(self, method: str, path: str, **headers: str) -> RawRequest:
        """A request to be run by the test, with everything it is answered."""
        return RawRequest(self.app, method, path, headers)

    async def get(self, path: str, **headers: str) -> Any:
        """The envelope of a GET that must be HTTP 200."""
        response = await self.client.get(path, headers=headers)
        assert response.status_code == 200, await response.get_data()
        return json.loads(await response.get_data())

    async def data(self, path: str, **headers: str) -> Any:
        """The data of a successful GET."""
        envelope = await self.get(path, **headers)
        assert envelope["status"] == "success", envelope
        assert list(envelope) == ["status", "data"]
        return envelope["data"]

    async def post(self, path: str, body: Any, *, status: int = 200, **headers: str) -> Any:
        """The envelope of a POST of JSON text declared as text/plain, as clients do."""
        response = await self.client.post(
            path, data=json.dumps(body), headers={"Content-Type": "text/plain", **headers}
        )
        assert response.status_code == status, await response.get_data()
        return json.loads(await response.get_data())

    async def sign_in(self, key: NodeKey) -> str:
        """Open a session; returns the `zelidauth` header."""
        phrase = await self.data("/id/loginphrase")
        signature = key.sign(phrase)
        answer = await self.post(
            "/id/verifylogin", {"zelid": key.address, "loginPhrase": phrase, "signature": signature}
        )
        assert answer["status"] == "success", answer
        return urlencode({"zelid": key.address, "signature": signature, "loginPhrase": phrase})


@pytest.fixture
def node() -> Harness:
    return Harness()


@pytest.fixture
def patient_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real sockets: one closed over what a client still sends is reset, and its last answer lost with it."""
    monkeypatch.setattr(listening, "_ANSWER_S", 60.0)


class HostedHarness(Harness):
    """The same node with apps on an engine in memory, one of them installed: `shop` with `web` and `db`."""

    SHOP = "shop"

    def __init__(self) -> None:
        super().__init__()
        self.apps = HostedApps(self.clock, self.bus)
        self.nodes = FakeNodes()
        self.desk = AppDesk(self.nodes, self.counters, spacing_s=0.5)
        self.context = replace(self.context, containers=self.apps, desk=self.desk)
        self.build()

    async def start(self, nursery: trio.Nursery) -> None:
        """Install the app and open the desk."""
        await self.apps.add(composed(self.SHOP, PERSON.address, "web", "db"))
        await nursery.start(self.desk.run)

    def proof(self, key: NodeKey, *, age_s: float = 60.0) -> dict[str, str]:
        """Credentials no node has a session for: a phrase of that age, signed."""
        phrase = f"{self.clock.now_ms() - round(age_s * 1000)}{'abcdefgh01' * 5}"
        signed = {"zelid": key.address, "signature": key.sign(phrase), "loginPhrase": phrase}
        return {"zelidauth": urlencode(signed)}

    async def streamed(self, path: str, **headers: str) -> list[Any]:
        """The objects of a streamed answer."""
        response = await self.client.get(path, headers=headers)
        assert response.status_code == 200
        text = str(await response.get_data(as_text=True))
        decoder, objects, at = json.JSONDecoder(), [], 0
        while at < len(text):
            found, at = decoder.raw_decode(text, at)
            objects.append(found)
        return objects


@pytest.fixture
def unstarted_host() -> HostedHarness:
    """The same, for tests that bring a loop of their own: `start` comes first."""
    return HostedHarness()


@pytest.fixture
async def hosted(nursery: trio.Nursery) -> HostedHarness:
    harness = HostedHarness()
    await harness.start(nursery)
    return harness
