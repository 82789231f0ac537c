"""A small in-memory world for peer tests: links without a network, nodes without chain and store.

`world.start_node(ip)` runs a real PeerService; `world.visit(node, ...)` opens a scripted link into
one, as the front door would. Everything runs on the virtual clock of `autojump_clock`.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from trionode.appstate.decision import Decision
from trionode.config.tree import Settings
from trionode.observer.core import listening_settings
from trionode.peers.link import CAPABILITIES, DialError, Hello, LinkClosed
from trionode.peers.role import MEMBER, Role, listener
from trionode.peers.service import PeerService
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.wire.address import bare, split_address
from trionode.wire.envelope import Envelope, seal
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeEntry, NodeList
from trionode.wire.textframe import split_timestamp

ALL = Hello(capabilities=frozenset(CAPABILITIES), version="8.13.1", uptime_s=10_000)
LEGACY = Hello()
HASH_RELAY_HEIGHT = 1_751_250


@pytest.fixture(scope="session")
def wire_vectors() -> dict[str, Any]:
    path = Path(__file__).parents[1] / "vectors" / "wire.json"
    return json.loads(path.read_text(encoding="utf-8"))


class Message:
    """PreparedMessage of the memory transport."""

    def __init__(self, payload: str | bytes) -> None:
        self.payload = payload
        self.size_bytes = len(payload)


class MemoryLink:
    """One end of a pair. `capacity` messages may lie unread before the other side's send blocks."""

    def __init__(self, remote_ip: str, hello: Hello, capacity: int = 100_000) -> None:
        self.remote_ip = remote_ip
        self.remote_hello = hello
        self.capacity = capacity
        self.bytes_received = 0
        self.bytes_sent = 0
        self.answers_pings = True
        self.pings_seen = 0
        self.closed: LinkClosed | None = None
        self.other: MemoryLink = self
        self.inbox: deque[str | bytes] = deque()
        self.on_pong: list[Callable[[], None]] = []
        self._changed = trio.Event()

    def touch(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        self._pong()

    def _pong(self) -> None:
        if self.closed is None and self.other.answers_pings:
            waiting, self.on_pong = self.on_pong, []
            for on_pong in waiting:
                on_pong()

    def ping_soon(self, on_pong: Callable[[], None]) -> None:
        if self.closed is None:
            self.other.pings_seen += 1
            self.on_pong.append(on_pong)
            self._pong()

    async def receive(self) -> str | bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self.inbox:
            if self.closed is not None:
                raise LinkClosed(self.closed.close_code, self.closed.reason, by_us=self.closed.by_us)
            await self._changed.wait()
        message = self.inbox.popleft()
        self.bytes_received += len(message)
        self.other.touch()
        return message

    async def send(self, message: Message) -> None:
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            while len(self.other.inbox) >= self.other.capacity and self.closed is None:
                await self._changed.wait()
        except trio.Cancelled:
            self.terminate()
            raise
        if self.closed is not None:
            raise LinkClosed(self.closed.close_code, self.closed.reason, by_us=self.closed.by_us)
        self.bytes_sent += message.size_bytes
        self.other.inbox.append(message.payload)
        self.other.touch()

    async def ping(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self.other.pings_seen += 1
        while True:
            if self.closed is not None:
                raise LinkClosed(self.closed.close_code, self.closed.reason, by_us=self.closed.by_us)
            if self.other.answers_pings:
                return
            await self._changed.wait()

    async def close(self, code: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self.end(LinkClosed(code, reason, by_us=True))
        self.other.end(LinkClosed(code, reason))

    def terminate(self) -> None:
        self.end(LinkClosed(1006, "terminated", by_us=True))
        self.other.end(LinkClosed(1006, "lost"))

    def end(self, closed: LinkClosed) -> None:
        if self.closed is None:
            self.closed = closed
            self.touch()


def pair(a_ip: str, a_hello: Hello, b_ip: str, b_hello: Hello) -> tuple[MemoryLink, MemoryLink]:
    """(what a holds, what b holds)."""
    at_a, at_b = MemoryLink(b_ip, b_hello), MemoryLink(a_ip, a_hello)
    at_a.other, at_b.other = at_b, at_a
    return at_a, at_b


class Request:
    """InboundRequest of the memory transport."""

    def __init__(self, remote_ip: str, dial_port: str, hello: Hello) -> None:
        self.remote_ip = remote_ip
        self.dial_port = dial_port
        self.hello = hello
        self.answered = trio.Event()
        self.far: MemoryLink | None = None
        self.host_ip = ""

    @asynccontextmanager
    async def accept(self, ours: Hello) -> AsyncIterator[MemoryLink]:
        self.far, near = pair(self.remote_ip, self.hello, self.host_ip, ours)
        self.answered.set()
        try:
            yield near
        finally:
            near.terminate()


class MemoryTransport:
    """PeerTransport of one node."""

    def __init__(self, world: World, ip: str) -> None:
        self.world = world
        self.ip = ip
        self.dials: list[tuple[float, str]] = []
        self.hellos: list[Hello] = []
        self.invites: list[tuple[float, str]] = []
        self.invites_fail = False
        self.prepared = 0

    def prepare(self, message: str | bytes) -> Message:
        self.prepared += 1
        return Message(message)

    @asynccontextmanager
    async def dial(
        self, ip: str, port: int, ours: Hello, *, own_port: int, ephemeral: bool = False
    ) -> AsyncIterator[MemoryLink]:
        self.dials.append((trio.current_time(), f"{ip}:{port}"))
        self.hellos.append(ours)
        host = self.world.listeners.get((ip, port))
        await trio.sleep(0.01)
        if host is None:
            raise DialError(f"{ip}:{port} refused")
        request = Request(self.ip, str(own_port), ours)
        request.host_ip = ip
        self.world.nursery.start_soon(host, request)
        await request.answered.wait()
        await trio.sleep(0.001)
        assert request.far is not None
        try:
            yield request.far
        finally:
            request.far.terminate()

    async def invite(self, ip: str, port: int, own_address: str) -> None:
        self.invites.append((trio.current_time(), f"{ip}:{port}"))
        await trio.sleep(0.01)
        node = self.world.nodes.get((ip, port))
        if node is None or self.invites_fail:
            raise DialError(f"{ip}:{port} did not answer")
        ip, port = split_address(own_address)
        node.service.add_outgoing(ip, port, source_ip=self.ip)


class Facts:
    """NetworkFacts whose members a test may set."""

    def __init__(self, own_address: str | None) -> None:
        self.nodes = NodeList()
        self.own_address = own_address
        self.height = HASH_RELAY_HEIGHT
        self.synced = True
        self.confirmed = True
        self.can_send = True


class Log:
    """A ledger that accepts everything once; `decide` may be replaced."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []
        self.delay_s = 0.0
        self.decide: Callable[[Envelope], Decision] = lambda _: Decision(accepted=True, relay=True)

    async def ingest(self, envelope: Envelope, *, received_at_ms: int) -> Decision:
        await trio.sleep(self.delay_s)
        self.taken.append(envelope)
        return self.decide(envelope)


class Node:
    """A PeerService and everything it was given."""

    def __init__(
        self,
        world: World,
        ip: str,
        port: int,
        settings: Settings,
        key: NodeKey | None,
        role: Role = MEMBER,
    ) -> None:
        self.world = world
        self.ip = ip
        self.port = port
        self.key = key
        self.transport = MemoryTransport(world, ip)
        self.facts = Facts(bare(ip, port))
        self.facts.nodes = world.node_list
        self.log = Log()
        self.bus = EventBus()
        self.counters = Counters()
        self.scope = trio.CancelScope()
        self.service = PeerService(
            settings,
            transport=self.transport,
            facts=self.facts,
            log=self.log,
            bus=self.bus,
            counters=self.counters,
            clock=world.clock,
            rng=random.Random(f"{ip}:{port}"),
            key=key,
            role=role,
        )

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self.scope:
            await self.service.run(task_status=task_status)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [dict(event.data) for event in self.bus.replay() if event.name == name]


class Visitor:
    """The scripted far end of a link into a node."""

    def __init__(self, link: MemoryLink) -> None:
        self.link = link

    def send(self, message: str | bytes) -> None:
        if self.link.closed is None:
            self.link.other.inbox.append(message)
            self.link.other.touch()

    def received(self) -> list[str | bytes]:
        """What arrived so far; timestamps are cut off texts."""
        messages = [split_timestamp(m)[1] if isinstance(m, str) else m for m in self.link.inbox]
        self.link.inbox.clear()
        self.link.other.touch()
        return messages

    async def closed(self) -> None:
        """Wait until the link is over, at most 60 s."""
        with trio.fail_after(60):
            while self.link.closed is None:
                await self.link._changed.wait()

    @property
    def code(self) -> int | None:
        return None if self.link.closed is None else self.link.closed.close_code

    @property
    def reason(self) -> str:
        return "" if self.link.closed is None else self.link.closed.reason


class World:
    """All nodes of a test, one clock, one node list."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.clock = VirtualClock()
        self.node_list = NodeList()
        self.nodes: dict[tuple[str, int], Node] = {}
        self.listeners: dict[tuple[str, int], Callable[[Request], Any]] = {}
        self.rng = random.Random(7)

    def key(self) -> NodeKey:
        return NodeKey.generate(self.rng)

    def list_nodes(self, *entries: tuple[str, NodeKey]) -> None:
        """Set the node list of all present and later nodes."""
        self.node_list = NodeList(
            [
                NodeEntry(ip=address, pubkey=key.public_key, added_height=height)
                for height, (address, key) in enumerate(entries)
            ]
        )
        for node in self.nodes.values():
            node.facts.nodes = self.node_list
            node.bus.publish("chain:nodes", {"count": len(self.node_list)})

    async def start_node(
        self, ip: str = "203.0.113.1", port: int = 16127, *, key: NodeKey | None = None, **changes: Any
    ) -> Node:
        """Run a node; `changes` are `section__field=value`. Discovery is off unless asked for."""
        settings = Settings()
        changes.setdefault("peers__discovery_autostart", False)
        for name, value in changes.items():
            section, _, field = name.partition("__")
            part = msgspec.structs.replace(getattr(settings, section), **{field: value})
            settings = msgspec.structs.replace(settings, **{section: part})
        node = Node(self, ip, port, settings, key or self.key())
        self.nodes[ip, port] = node
        self.listeners[ip, port] = node.service.handle_inbound
        await self.nursery.start(node.run)
        return node

    async def start_listener(self, links: int = 4) -> Node:
        """Run a peer service without key and address, which nobody lists."""
        peers = listening_settings(Settings().peers, links)
        settings = msgspec.structs.replace(Settings(), peers=peers)
        node = Node(self, "203.0.113.9", 16127, settings, None, listener(links))
        node.facts.own_address = None
        node.facts.confirmed = node.facts.can_send = False
        await self.nursery.start(node.run)
        return node

    async def visit(
        self, node: Node, ip: str = "198.51.100.1", port: str = "16127", hello: Hello = ALL
    ) -> Visitor:
        """Connect a scripted peer to a node."""
        request = Request(ip, port, hello)
        request.host_ip = node.ip
        self.nursery.start_soon(node.service.handle_inbound, request)
        await request.answered.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert request.far is not None
        return Visitor(request.far)

    def running(self, address: str, key: NodeKey, *, at_ms: int | None = None, name: str = "app") -> Envelope:
        """A signed running message of one app at an address."""
        now_ms = self.clock.now_ms() if at_ms is None else at_ms
        data = {
            "type": "fluxapprunning",
            "version": 1,
            "name": name,
            "hash": "ab" * 32,
            "ip": address,
            "broadcastedAt": now_ms,
        }
        return seal(data, key, now_ms)


@pytest.fixture
async def world(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> World:
    return World(nursery)
