"""State sync between real peer services and event logs on the virtual network, and scripted peers."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
import trio.testing

from trionode.config.tree import Settings, StoreSettings
from trionode.errors import StoreError
from trionode.peers.link import CAPABILITIES, Hello, Link, LinkClosed, PeerTransport
from trionode.peers.service import PeerService
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock, WallClock
from trionode.runtime.counters import Counters
from trionode.sim.conditions import Conditions
from trionode.sim.network import VirtualNetwork
from trionode.sim.transport import VirtualTransport
from trionode.store.eventlog import EventLog
from trionode.store.memory import MemoryStore
from trionode.store.port import Store
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.sync.stateserver import StateServer
from trionode.sync.statesync import StateSync
from trionode.wire.envelope import Envelope, decode_envelope, seal
from trionode.wire.frames import SyncRequest, decode_frame, encode_frame, sync_request
from trionode.wire.jsjson import JsValue, parse
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeEntry, NodeList
from trionode.wire.syncmsg import iso_text
from trionode.wire.textframe import split_timestamp

EXACT = Conditions(latency_min_ms=10, latency_max_ms=10, jitter_ms=0)
UP = Hello(capabilities=frozenset(CAPABILITIES), version="8.13.1", uptime_s=10_000)


class Facts:
    def __init__(self, own: str) -> None:
        self.nodes = NodeList()
        self.own_address: str | None = own
        self.height = 2_000_000
        self.synced = self.confirmed = self.can_send = True


def settings_with(**changes: Any) -> Settings:
    """The defaults with `section__field=value`; no discovery, and peers that just came up will do."""
    settings = Settings()
    changes.setdefault("peers__discovery_autostart", False)
    changes.setdefault("state_sync__min_peer_uptime_s", 0)
    for name, value in changes.items():
        section, _, field = name.partition("__")
        part = msgspec.structs.replace(getattr(settings, section), **{field: value})
        settings = msgspec.structs.replace(settings, **{section: part})
    return settings


class Node:
    """Everything state sync needs of a node; `temps` are the temporary messages that came."""

    def __init__(
        self,
        ip: str,
        settings: Settings,
        *,
        key: NodeKey,
        nodes: NodeList,
        store: Store,
        clock: WallClock,
        transport: PeerTransport,
    ) -> None:
        self.ip = ip
        self.key = key
        self.clock = clock
        self.transport = transport
        self.facts = Facts(ip)
        self.facts.nodes = nodes
        self.bus = EventBus()
        self.counters = Counters()
        self.store = store
        self.registry_store = MemoryRegistryStore()
        self.temps: list[JsValue] = []
        store_settings = StoreSettings(queue_batches=8)
        self.log = EventLog(
            settings.appstate, store, self.clock, self.bus, self.counters, store_settings=store_settings
        )
        self.peers = PeerService(
            settings,
            transport=self.transport,
            facts=self.facts,
            log=self.log,
            bus=self.bus,
            counters=self.counters,
            clock=self.clock,
            rng=random.Random(ip),
            key=self.key,
        )
        self.sync = StateSync(
            settings=settings,
            peers=self.peers,
            facts=self.facts,
            log=self.log,
            temp=self._take_temps,
            bus=self.bus,
            counters=self.counters,
            clock=self.clock,
            rng=random.Random(ip),
            key=self.key,
        )
        self.server = StateServer(
            settings=settings,
            peers=self.peers,
            facts=self.facts,
            log=self.log,
            registry_store=self.registry_store,
            bus=self.bus,
            counters=self.counters,
            clock=self.clock,
            key=self.key,
        )
        self.done: list[tuple[str, str]] = []
        self.sync.on_done(lambda kind, peer: self.done.append((kind, peer)))

    async def _take_temps(self, messages: list[JsValue]) -> int:
        await trio.lowlevel.checkpoint()
        self.temps += messages
        return len(messages)

    async def run(self, serve: Callable[..., Awaitable[None]], *, task_status: trio.TaskStatus[None]) -> None:
        """Live until cancelled; `serve(handler)` listens."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._keep_log)
            for service in (self.peers, self.sync, self.server):
                await nursery.start(service.run)
            await nursery.start(serve, self.peers.handle_inbound)
            task_status.started()

    async def _keep_log(self, *, task_status: trio.TaskStatus[None]) -> None:
        """The event log, started again after a failure as the supervisor does it."""
        while True:
            try:
                await self.log.run(task_status=task_status)
            except StoreError:
                self.counters.add("log.restarts")
                task_status = trio.TASK_STATUS_IGNORED
                await trio.sleep(0.5)

    def told(self, name: str) -> list[dict[str, Any]]:
        return [dict(event.data) for event in self.bus.replay() if event.name == name]

    def places(self) -> list[str]:
        return sorted(f"{row.name}@{row.ip}" for row in self.log.locations())

    def refused(self) -> dict[str, int]:
        """Refusals of chunks, records and requests, without their long prefixes."""
        found = {}
        for prefix in ("statesync.", "stateserver.", "appstate.sync."):
            for name, count in self.counters.snapshot(prefix).items():
                head, mark, reason = name.partition("refused.")
                if mark and count:
                    found[f"{head.split('.')[-2]}.{reason}"] = count
        return found


class Stranger:
    """The scripted far end of one link into a node."""

    def __init__(self, world: World, ip: str, link: Link) -> None:
        self.world = world
        self.ip = ip
        self.key = world.keys[ip]
        self.name = f"{ip}:16127"
        self.link = link
        self.requests: list[SyncRequest] = []
        self.chunks: list[dict[str, Any]] = []
        self.texts: list[Envelope] = []
        self.reading = trio.Event()
        self.reading.set()
        self.arrived = trio.Event()
        self.closed: LinkClosed | None = None

    async def read(self) -> None:
        while True:
            await self.reading.wait()
            try:
                message = await self.link.receive()
            except LinkClosed as closed:
                self.closed = closed
                return
            finally:
                self.arrived.set()
                self.arrived = trio.Event()
            if isinstance(message, bytes):
                frame = decode_frame(message)
                if isinstance(frame, SyncRequest):
                    self.requests.append(frame)
            else:
                envelope = decode_envelope(parse(split_timestamp(message)[1]))
                self.texts.append(envelope)
                if envelope.type.endswith("sync"):
                    self.chunks.append(envelope.data)

    async def send(self, message: str | bytes) -> None:
        await self.link.send(self.world.prepare(message))

    async def chunk(
        self,
        type_: str,
        items: Sequence[Any],
        *,
        done: bool = True,
        key: NodeKey | None = None,
        age_ms: int = 0,
    ) -> None:
        """Send one answer."""
        data: dict[str, Any] = {"type": type_, "messages": list(items), "done": done}
        now_ms = self.world.clock.now_ms() - age_ms
        await self.send(seal(data, key or self.key, now_ms).text)

    async def ask(
        self, kind: int, *, since_ms: int = 0, at_ms: int | None = None, key: NodeKey | None = None
    ) -> None:
        now_ms = self.world.clock.now_ms() if at_ms is None else at_ms
        await self.send(encode_frame(sync_request(kind, since_ms, now_ms, key or self.key)))


class World:
    """`keys` by address of everybody in the node list."""

    def __init__(self, nursery: trio.Nursery, network: VirtualNetwork, addresses: int) -> None:
        self.nursery = nursery
        self.network = network
        self.clock = VirtualClock()
        rng = random.Random(5)
        self.ips = [f"20.{number}.0.1" for number in range(1, addresses + 1)]
        self.keys = {ip: NodeKey.generate(rng) for ip in self.ips}
        self.nodes = NodeList([NodeEntry(ip=ip, pubkey=key.public_key) for ip, key in self.keys.items()])
        self.prepare = VirtualTransport(network, "20.99.0.1").prepare

    async def node(self, number: int = 0, *, store: MemoryStore | None = None, **changes: Any) -> Node:
        settings = settings_with(**changes)
        ip = self.ips[number]
        transport = VirtualTransport(self.network, ip, 16127, settings.peers)
        node = Node(
            ip,
            settings,
            key=self.keys[ip],
            nodes=self.nodes,
            store=store or MemoryStore(),
            clock=VirtualClock(),
            transport=transport,
        )
        await self.nursery.start(node.run, transport.serve)
        return node

    async def link(self, dialler: Node, target: Node) -> str:
        """Connect two nodes; the key of the target."""
        key = f"{target.ip}:16127"
        dialler.peers.add_outgoing(target.ip, 16127)
        await trio.sleep(1)
        assert key in dialler.peers.table
        return key

    async def stranger(self, node: Node, number: int, hello: Hello = UP) -> Stranger:
        """Connect a scripted peer to a node."""
        ip = self.ips[number]
        return await self.nursery.start(self._host, node, ip, hello)

    async def _host(
        self, node: Node, ip: str, hello: Hello, *, task_status: trio.TaskStatus[Stranger]
    ) -> None:
        transport = VirtualTransport(self.network, ip)
        async with transport.dial(node.ip, 16127, hello, own_port=16127) as link:
            stranger = Stranger(self, ip, link)
            await trio.sleep(0.5)
            assert stranger.name in node.peers.table
            task_status.started(stranger)
            await stranger.read()

    # Signed things

    def running(self, ip: str, *names: str, age_ms: int = 0, key: NodeKey | None = None) -> Envelope:
        at_ms = self.clock.now_ms() - age_ms
        apps = [{"name": name, "hash": "ab" * 32} for name in names]
        data = {"type": "fluxapprunning", "version": 2, "apps": apps, "ip": ip, "broadcastedAt": at_ms}
        return seal(data, key or self.keys[ip], at_ms)

    def signed(self, ip: str, data: dict[str, Any], *, age_ms: int = 0) -> Envelope:
        at_ms = self.clock.now_ms() - age_ms
        return seal(data | {"broadcastedAt": at_ms}, self.keys[ip], at_ms)


def event(envelope: Envelope, type_: str = "apprunning") -> dict[str, Any]:
    """A signed message as an item of `fluxapprunningsync`."""
    data = envelope.data
    return {
        "ip": data.get("ip"),
        "type": type_,
        "dedupKey": "v2" if type_ == "apprunning" else type_,
        "broadcastedAt": iso_text(data["broadcastedAt"]),
        "data": data,
        "envelope": {
            "version": envelope.version,
            "timestamp": envelope.timestamp,
            "pubKey": envelope.pub_key,
            "signature": envelope.signature,
        },
        "receivedAt": iso_text(data["broadcastedAt"]),
    }


def evicted(ip: str, at_ms: int) -> dict[str, Any]:
    return {"ip": ip, "type": "evicted", "dedupKey": "evicted", "createdAt": iso_text(at_ms)}


def copy(envelope: Envelope) -> dict[str, Any]:
    """A signed message as an item of the installing answers."""
    times = {name: iso_text(envelope.data["broadcastedAt"]) for name in ("broadcastedAt", "receivedAt")}
    return parse(envelope.text) | times


@asynccontextmanager
async def world(addresses: int = 12, conditions: Conditions = EXACT) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        network = VirtualNetwork(random.Random(1), conditions)
        await nursery.start(network.run)
        yield World(nursery, network, addresses)
        nursery.cancel_scope.cancel()
