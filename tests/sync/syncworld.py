"""A hash sync over a real registry among peers that behave as a test says (docs/spec/registry.md §12)."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import trio

from trionode.config.tree import Settings
from trionode.lifecycle.phases import KINDS
from trionode.peers.closecodes import EPHEMERAL_DONE
from trionode.peers.dispatch import MessageHandler
from trionode.peers.link import DialError
from trionode.peers.peer import Peer
from trionode.registry.messages import AppMessage, app_message, message_document, signed_text
from trionode.registry.rows import HashRow
from trionode.runtime.bus import Event, EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.store.appregistry import AppRegistry
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.sync.hashsync import HashSync
from trionode.sync.orchestrator import Orchestrator
from trionode.sync.source import HttpBody, SourceError
from trionode.wire.address import peer_key
from trionode.wire.envelope import decode_envelope
from trionode.wire.jsjson import JsValue, parse, stringify
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeList

HEIGHT = 2_200_000
OWNER = NodeKey.generate(random.Random(7), compressed=True)


def specification(name: str) -> dict[str, Any]:
    part = {
        "name": "web",
        "description": "web component",
        "repotag": "nginx:1.25",
        "ports": [33333],
        "domains": ["example.org"],
        "environmentParameters": ["A=1"],
        "commands": ["--serve"],
        "containerPorts": [80],
        "containerData": "/data",
        "cpu": 0.5,
        "ram": 500,
        "hdd": 5,
        "repoauth": "",
    }
    return {
        "version": 8,
        "name": name,
        "description": 'an app with ümlauts {braces} "quotes"',
        "owner": OWNER.address,
        "compose": [part],
        "instances": 3,
        "contacts": ["a@b.c"],
        "geolocation": ["acEU"],
        "expire": 88_000,
        "nodes": [],
        "staticip": False,
        "enterprise": "",
    }


def registration(name: str, number: int = 0) -> AppMessage:
    """A registration that holds at HEIGHT."""
    spec, timestamp_ms = specification(name), 1_750_000_000_000 + number
    signature = OWNER.sign(signed_text("fluxappregister", 1, stringify(spec), timestamp_ms))
    return app_message("fluxappregister", 1, spec, timestamp_ms, signature)


def payment(message: AppMessage, number: int) -> HashRow:
    return HashRow.found(f"{number:064x}", HEIGHT - 5000 + number, message.hash, 10_000_000_000)


def served_row(message: AppMessage, row: HashRow) -> dict[str, Any]:
    """As a peer's list has it."""
    return message_document(message) | {"txid": row.txid, "height": row.height, "valueSat": row.value_sat}


class FakePeer:
    def __init__(self, ip: str, source: str = "random") -> None:
        self.ip, self.port, self.source = ip, 16127, source
        self.key = peer_key(ip, self.port)
        self.direction = "inbound" if source == "inbound" else "outbound"
        self.closing = False


class Table:
    def __init__(self) -> None:
        self.by_key: dict[str, FakePeer] = {}
        self.threshold_reached = True

    def __iter__(self) -> Iterator[Peer]:
        return iter([cast("Peer", peer) for peer in self.by_key.values()])

    def __len__(self) -> int:
        return len(self.by_key)

    def __contains__(self, key: str) -> bool:
        return key in self.by_key


class FakePeers:
    """Peers and strangers that have messages, and answer after `delay_s` each."""

    def __init__(self) -> None:
        self.table = Table()
        self.has: dict[str, dict[str, dict[str, Any]]] = {}
        self.delay_s: dict[str, float] = {}
        self.refuses: set[str] = set()
        self.hangs: set[str] = set()
        self.requests: list[tuple[float, str, list[str]]] = []
        self.closes: list[tuple[str, int]] = []
        self.handlers: dict[str, MessageHandler] = {}
        self.sent: list[tuple[float, str, dict[str, JsValue]]] = []
        self._send, self._receive = trio.open_memory_channel[tuple[str, list[str]]](1000)
        self.deliver: Callable[[dict[str, Any]], Any] = lambda data: None

    def add(self, *ips: str, source: str = "random") -> None:
        for ip in ips:
            peer = FakePeer(ip, source)
            self.table.by_key[peer.key] = peer

    def give(self, ip: str, *messages: AppMessage) -> None:
        self.has.setdefault(ip, {}).update({m.hash: message_document(m) for m in messages})

    def send_text(self, peer: Peer, text: str) -> None:
        data = decode_envelope(parse(text)).data
        self.sent.append((trio.current_time(), peer.ip, data))
        if data["type"] == "fluxapprequest":
            self.requests.append((trio.current_time(), peer.ip, data["hashes"]))
            self._send.send_nowait((peer.ip, data["hashes"]))

    @asynccontextmanager
    async def ephemeral(self, ip: str, port: int) -> AsyncIterator[Peer]:
        await trio.lowlevel.checkpoint()
        if ip in self.refuses:
            raise DialError(f"{ip} refuses")
        if ip in self.hangs:
            await trio.sleep(10)
            raise DialError(f"{ip} does not answer")
        yield cast("Peer", FakePeer(ip, "ephemeral"))
        self.closes.append((ip, EPHEMERAL_DONE))

    def register_handler(self, message_type: str, handler: MessageHandler) -> None:
        self.handlers[message_type] = handler

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            async for ip, hashes in self._receive:
                nursery.start_soon(self._answer, ip, hashes)

    async def _answer(self, ip: str, hashes: list[str]) -> None:
        for hash_ in hashes:
            await trio.sleep(self.delay_s.get(ip, 0.15))
            data = self.has.get(ip, {}).get(hash_)
            if data is not None:
                await self.deliver(data)


class FakeHttp:
    """`PeerHttp` of lists given as pieces; a float among them is a pause, an exception is raised."""

    def __init__(self) -> None:
        self.lists: dict[str, list[Any]] = {}
        self.encoding: dict[str, str] = {}
        self.unsynced: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.taken_rows = 0
        """Rows of lists that were read, counted by their hashes."""

    @asynccontextmanager
    async def get(self, ip: str, port: int, path: str) -> AsyncIterator[HttpBody]:
        await trio.lowlevel.checkpoint()
        self.asked.append((ip, path))
        if path == "/explorer/issynced":
            said = b'{"status":"success","data":' + (b"false" if ip in self.unsynced else b"true") + b"}"
            yield HttpBody(200, "", self._pieces([said]))
        elif ip in self.lists:
            yield HttpBody(200, self.encoding.get(ip, ""), self._pieces(self.lists[ip]))
        else:
            raise SourceError(f"cannot talk to {ip}", remedy="ask another peer")

    async def _pieces(self, pieces: list[Any]) -> AsyncGenerator[bytes, None]:
        for piece in pieces:
            if isinstance(piece, float):
                await trio.sleep(piece)
            elif isinstance(piece, Exception):
                raise piece
            else:
                await trio.lowlevel.checkpoint()
                self.taken_rows += piece.count(b'"signature"')
                yield piece


class FakeFacts:
    def __init__(self) -> None:
        self.nodes = NodeList()
        self.own_address: str | None = "10.9.9.9"
        self.height = HEIGHT
        self.synced = self.confirmed = self.can_send = True

    def list_nodes(self, *ips: str) -> None:
        self.nodes = NodeList.from_rpc([{"ip": ip, "pubkey": ""} for ip in ips])


class FakeChain:
    is_synced = True
    scanned_height = HEIGHT


class FakeStateSync:
    """Peers to ask for app state, as a test says; `answer` lets one of them be done."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self.fit: list[str] = []
        self.asked: list[tuple[float, tuple[str, ...]]] = []
        self.error: Exception | None = None
        self.forgotten = 0
        self._listeners: list[Callable[[Any, str], None]] = []
        self._lost_listeners: list[Callable[[str], None]] = []

    def eligible(self) -> list[str]:
        return list(self.fit)

    async def request(self, keys: Sequence[str]) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.asked.append((trio.current_time(), tuple(keys)))
        self._bus.publish("ephemeralSync:requested", {"peerCount": len(keys), "peers": list(keys)})
        return tuple(keys)

    def forget_marks(self) -> None:
        self.forgotten += 1

    def on_done(self, listener: Callable[[Any, str], None]) -> None:
        self._listeners.append(listener)

    def on_lost(self, listener: Callable[[str], None]) -> None:
        self._lost_listeners.append(listener)

    def lose(self, key: str) -> None:
        """The link of that peer goes."""
        self.fit.remove(key)
        for listener in self._lost_listeners:
            listener(key)

    def answer(self, *keys: str, kinds: Sequence[str] = KINDS) -> None:
        for key in keys:
            for kind in kinds:
                for listener in self._listeners:
                    listener(kind, key)


class Bench:
    """The parts and what was published; `run` is entered by the fixture."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.store = MemoryRegistryStore()
        self.bus = EventBus()
        self.events: list[Event] = []
        self.bus.tap(self.events.append)
        self.counters = Counters()
        self.clock = VirtualClock()
        self.peers = FakePeers()
        self.http = FakeHttp()
        self.facts = FakeFacts()
        self.chain = FakeChain()
        self.key = NodeKey.generate(random.Random(2))
        self.registry = AppRegistry(
            self.store, self.clock, self.bus, self.counters, daemon_height=lambda: self.facts.height
        )
        self.peers.deliver = self.registry.ingest_temporary
        self.sync = HashSync(
            settings or Settings(),
            registry=self.registry,
            explorer=self.chain,
            peers=self.peers,
            facts=self.facts,
            http=self.http,
            bus=self.bus,
            counters=self.counters,
            clock=self.clock,
            rng=random.Random(1),
            key=self.key,
            version="1.0",
        )
        self.state_sync = FakeStateSync(self.bus)
        self.node_list = Gate(is_open=True)
        self.orchestrator = Orchestrator(
            settings or Settings(),
            hash_sync=self.sync,
            state_sync=self.state_sync,
            explorer=self.chain,
            table=self.peers.table,
            facts=self.facts,
            node_list=self.node_list,
            bus=self.bus,
            counters=self.counters,
            clock=self.clock,
            boot_context=lambda: {"firstBoot": True},
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The engine and the orchestrator, as a node runs them."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.sync.run)
            await nursery.start(self.orchestrator.run)
            task_status.started()

    def enough_peers(self, enough: bool = True) -> None:
        """The number of peers crosses a threshold."""
        self.peers.table.threshold_reached = enough
        self.bus.publish("peers:thresholdReached" if enough else "peers:belowThreshold", {"count": 1})

    async def paid(self, count: int) -> list[AppMessage]:
        """That many registrations that are paid for, and missing."""
        messages = [registration(f"App{number}", number) for number in range(count)]
        await self.store.add_hashes(payment(message, n) for n, message in enumerate(messages))
        return messages

    def block(self, height: int) -> None:
        self.chain.scanned_height = height
        self.bus.publish("explorer:blocksProcessed", {"height": height})

    def named(self, name: str) -> list[Any]:
        return [event.data for event in self.events if event.name == name]

    def list_of(self, ip: str, messages: Sequence[AppMessage], *, start: int = 0) -> list[bytes]:
        """The list of a peer that has these messages, in pieces of odd sizes."""
        rows = [served_row(m, payment(m, n)) for n, m in enumerate(messages, start)]
        body = b'{"status":"success","data":[' + ",".join(stringify(row) for row in rows).encode() + b"]}"
        self.http.lists[ip] = [body[n : n + 997] for n in range(0, len(body), 997)]
        return self.http.lists[ip]
