"""The simulated world: nodes, chain and network on one virtual clock, all from one seed.

A scenario gets a `World`, starts and breaks things, and waits for what should come true. Every random
choice descends from the seed; deliveries and node events are folded into `world.trace`. The first
violated invariant or crashed node ends the run with a report of seed, virtual time and replay command.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Self
from zlib import crc32

import msgspec
import trio

from trionode.chain.explorer import Explorer
from trionode.config.tree import Settings
from trionode.errors import ChainError, TrionodeError
from trionode.hosting.memory import MemoryHost
from trionode.hosting.port import RunningApp
from trionode.node import NodeCore
from trionode.runtime.bus import Event
from trionode.runtime.clock import VirtualClock
from trionode.sim.chain import VirtualChain
from trionode.sim.chainnodes import StubNode
from trionode.sim.checks import Checks
from trionode.sim.conditions import CALM, Conditions
from trionode.sim.fleet import Fleet, stub_node
from trionode.sim.invariants import InvariantViolation
from trionode.sim.link import now_ms
from trionode.sim.machines import Hardware
from trionode.sim.network import VirtualNetwork
from trionode.sim.node import SimNode
from trionode.sim.signing import WatchedKey
from trionode.sim.source import SimHttp
from trionode.sim.store import WatchedStore
from trionode.sim.trace import Trace
from trionode.store.registry_port import RegistryStore
from trionode.wire.keys import NodeKey

SETTLE_S = 0.02
"""`until` looks at most this often, so that a burst of news is one look."""


class ScenarioFailed(TrionodeError):
    """Something that a scenario waits for did not come true in time."""

    code = "scenario"


class WorldPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to build a world. `settings` are those of every node, apart from key and address."""

    nodes: int = 16
    apps_per_node: int = 2
    apps_from_start: bool = False
    """False: nodes start empty, and get their apps from `World.start_apps`."""
    conditions: Conditions = CALM
    settings: Settings = Settings()
    clock_skew_ms: int = 0
    """Each node's wall clock is off by up to this much, either way."""
    start_spacing_s: float = 0.5
    block_interval_s: float = 120.0
    tick_ms: int = 1
    checks: bool = True
    hardware: Hardware | None = None
    """Every node has a container engine on such a machine; None: apps are what is said of them."""


def fitted(plan: WorldPlan) -> WorldPlan:
    """The plan with thresholds that a world of fewer than 13 nodes can reach."""
    settings, others = plan.settings, max(1, plan.nodes - 1)
    peers, sync = settings.peers, settings.state_sync
    sync = msgspec.structs.replace(sync, min_completions=min(sync.min_completions, others))
    if peers.threshold_reached > others:
        below = max(1, peers.threshold_below * others // peers.threshold_reached)
        peers = msgspec.structs.replace(peers, threshold_reached=others, threshold_below=below)
    settings = msgspec.structs.replace(settings, peers=peers, state_sync=sync)
    return msgspec.structs.replace(plan, settings=settings)


def address_of(number: int) -> str:
    """Address of the node with this number: every node has a /16 of its own (docs/spec/wire.md §3)."""
    return f"{20 + number // 200}.{1 + number % 200}.10.1"


class World:
    """Use `async with World.open(plan, seed=...) as world`."""

    def __init__(self, plan: WorldPlan, seed: int) -> None:
        self.plan = plan = fitted(plan)
        self.seed = seed
        self.trace = Trace()
        self.rng = random.Random(f"{seed}/scenario")
        self.network = VirtualNetwork(
            random.Random(f"{seed}/network"), plan.conditions, self.trace, tick_ms=plan.tick_ms
        )
        self.http = SimHttp(self.network, self._registry_at, self._status_at)
        self.failure: TrionodeError | None = None
        self.on_signed: list[Callable[[int, str], None]] = []
        """Told (number of the node, text) of everything a node signs."""
        self.on_event: list[Callable[[SimNode, Event], None]] = []
        """Told of every event on a node's bus, at once."""
        self._news = trio.Event()
        self._scope = trio.CancelScope()
        # A start waits until its process is ready, so there is never more than one waiting per caller.
        self._send_start, self._receive_start = trio.open_memory_channel[tuple[SimNode, trio.Event]](1)
        self.fleet = Fleet(plan.hardware) if plan.hardware is not None else None
        self.checks = Checks(self._key_of, self._name_of, self.violate) if plan.checks else None
        self.nodes = [self._make_node(number) for number in range(plan.nodes)]
        self._by_ip = {node.ip: node for node in self.nodes}
        self.chain = VirtualChain(
            [stub_node(node) for node in self.nodes],
            block_interval_ms=round(plan.block_interval_s * 1000),
        )
        for node in self.nodes:
            # The list is the same for all, and a list is never changed.
            node.build_nodes = self.chain.build_nodes
        # Keys outlive the list: what was stored while a node was listed stays right.
        self._keys = {node.address: node.key.public_key for node in self.nodes}
        if self.fleet is not None:
            self.fleet.connect(self.http)
        if self.checks is not None:
            self.network.monitor = self.checks.relays

    def _make_node(self, number: int) -> SimNode:
        rng = random.Random(f"{self.seed}/node {number}")
        plan = self.plan
        address = address_of(number)
        clock = VirtualClock(skew_ms=rng.randint(-plan.clock_skew_ms, plan.clock_skew_ms))
        fleet = self.fleet
        return SimNode(
            number,
            address,
            self._make_key(number, rng),
            clock,
            MemoryHost(self.apps_of(number) if plan.apps_from_start else ()),
            WatchedStore(f"node{number}", self.checks),
            plan.settings,
            f"{self.seed}/node {number}",
            fleet.machine(number, address, clock) if fleet is not None else None,
        )

    def _make_key(self, number: int, rng: random.Random) -> WatchedKey:
        key = WatchedKey.make(rng, compressed=bool(number % 2))
        key.on_sign = lambda text: self._signed(number, text)
        return key

    def _signed(self, number: int, text: str) -> None:
        for listener in self.on_signed:
            listener(number, text)

    def list_host(self, address: str, key: NodeKey) -> None:
        """Put a host that is none of ours on the node list."""
        self.chain.add_node(StubNode(ip=address, pubkey=key.public_key))
        self._keys[address] = key.public_key

    def apps_of(self, number: int) -> tuple[RunningApp, ...]:
        """The apps the plan means for a node: every app runs on three nodes, so it has several locations."""
        count = self.plan.apps_per_node
        names = dict.fromkeys(f"app{(number * count + place) // 3}" for place in range(count))
        return tuple(app(name) for name in names)

    @classmethod
    @asynccontextmanager
    async def open(cls, plan: WorldPlan, *, seed: int) -> AsyncIterator[Self]:
        """A world whose network and chain run for the length of the block; no node is started yet.

        Raises InvariantViolation or the failure of a node, whatever the block itself does.
        """
        world = cls(plan, seed)
        with world._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(world.network.run)
                nursery.start_soon(world._host_lives)
                nursery.start_soon(world.chain.run_ticker)
                world.chain.start_ticker()
                if world.checks is not None:
                    nursery.start_soon(world.checks.run, world.nodes)
                yield world
                nursery.cancel_scope.cancel(reason="the scenario is over")
        if world.failure is not None:
            raise world.failure

    # --- time -------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """Virtual seconds since the start."""
        return trio.current_time()

    async def sleep(self, seconds: float) -> None:
        """Let the world run for some virtual seconds."""
        await trio.sleep(seconds)

    async def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> float:
        """Wait until `condition()`; the virtual seconds it took. Raises ScenarioFailed.

        Looked at whenever a node or the network has news, not on a timer; a condition that becomes
        true by time alone must be waited for with `sleep`.
        """
        start_s = trio.current_time()
        with trio.move_on_after(timeout_s):
            while not condition():
                self._news = trio.Event()
                await self._news.wait()
                await trio.sleep(SETTLE_S)
            return trio.current_time() - start_s
        raise ScenarioFailed(f"not within {timeout_s:g} virtual seconds: {what}")

    # --- nodes ------------------------------------------------------------------------------

    async def start(self, *nodes: SimNode) -> None:
        """Start (or restart) nodes that are down; returns when all of them are ready."""
        for node in nodes:
            if not self.network.is_up(node.ip):
                self.network.power_up(node.ip)
            self.note(f"start {node.name}")
            ready = trio.Event()
            await self._send_start.send((node, ready))
            await ready.wait()

    async def start_all(self) -> None:
        """Start every node, `start_spacing_s` apart."""
        for node in self.nodes:
            await self.start(node)
            await trio.sleep(self.plan.start_spacing_s)

    async def stand_up(self, timeout_s: float = 900.0) -> None:
        """Start every node, wait for its links, start the apps, and wait until everybody knows them all.

        Apps come last because a node hears of an announcement only while it has peers: what was told
        before reaches it an hour later, with the next round.
        """
        await self.start_all()
        wanted = min(self.plan.settings.peers.threshold_reached, len(self.nodes) - 1)
        await self.until(
            lambda: all(self.peers(node) >= wanted for node in self.nodes),
            timeout_s,
            f"every node has {wanted} peers",
        )
        self.start_apps(*self.nodes)
        await self.until(self.knows_all, 120, "all nodes list the apps of all nodes")

    def start_apps(self, *nodes: SimNode) -> None:
        """Start the apps of the plan on these nodes; each announces them."""
        for node in nodes:
            self.note(f"apps on {node.name}")
            node.apps.replace(self.apps_of(node.number))

    async def _host_lives(self) -> None:
        """Run every process that `start` asks for, side by side."""
        async with trio.open_nursery() as nursery:
            async for node, ready in self._receive_start:
                nursery.start_soon(self._life, node, ready)

    async def _life(self, node: SimNode, ready: trio.Event) -> None:
        daemon, bench = self.chain.rpc_for(node.address), self.chain.bench_for(node.address)
        try:
            source = self.http.of(node.ip)
            await node.run(self.network, daemon, bench, source, self._started, ready)
        except Exception as error:
            if node.is_dying and node.box is not None:
                return
            # Noted before it unwinds, so that the report names the node.
            error.add_note(f"in {node!r} at virtual second {trio.current_time():.3f}, seed {self.seed}")
            raise

    def _registry_at(self, ip: str, port: int) -> tuple[Explorer, RegistryStore] | None:
        node = self._by_ip.get(ip)
        if node is None or node.core is None or node.port != port:
            return None
        return node.core.explorer, node.registry_store

    def _status_at(self, ip: str) -> str | None:
        try:
            return str(self.chain.answer("daemon", ip, "getzelnodestatus", ())["status"])
        except ChainError:
            return None

    def _started(self, node: SimNode, core: NodeCore) -> None:
        number = node.number

        def listen(event: Event) -> None:
            mark = crc32(msgspec.json.encode(event.data))
            self.trace.add(f"{now_ms()} node{number} {event.name} {mark:x}")
            self._news.set()
            for listener in self.on_event:
                listener(node, event)

        core.bus.tap(listen)

    async def kill(self, *nodes: SimNode) -> None:
        """kill -9: the process is gone, its connections are reset, its store stays."""
        for node in nodes:
            self.note(f"kill {node.name}")
            self.network.reset_host(node.ip)
            await node.kill()

    async def power_cut(self, *nodes: SimNode) -> None:
        """The machine is gone: like `kill`, but nobody is told and dials time out."""
        for node in nodes:
            self.note(f"power cut {node.name}")
            self.network.power_cut(node.ip)
            await node.kill()
            node.power_off()

    async def stop(self, *nodes: SimNode) -> None:
        """An orderly end of the process: its peers are told."""
        for node in nodes:
            self.note(f"stop {node.name}")
            await node.stop()

    async def sigterm(self, node: SimNode) -> None:
        """The machine goes down: the node says goodbye to the network and ends."""
        self.note(f"sigterm {node.name}")
        await node.sigterm()

    def up(self) -> list[SimNode]:
        """The nodes that are running."""
        return [node for node in self.nodes if node.is_running]

    # --- faults -----------------------------------------------------------------------------

    def partition(self, *groups: Iterable[SimNode], one_way: bool = False) -> None:
        """Cut the network between groups of nodes; see `VirtualNetwork.partition`."""
        self.network.partition(*([node.ip for node in group] for group in groups), one_way=one_way)

    def heal(self) -> None:
        """Undo partitions and blocked directions, and give the links calm weather."""
        self.network.heal()
        self.network.set_conditions(CALM)

    def note(self, what: str) -> None:
        """Write a decision of the scenario into the trace and wake `until`."""
        self.trace.add(f"{now_ms()} {what}")
        self._news.set()

    # --- looking ----------------------------------------------------------------------------

    def locations(self, node: SimNode) -> dict[tuple[str, str], int]:
        """What a node answers to "where does everything run": (app, address) -> broadcastedAt."""
        rows = node.running.log.index.locations()
        return {(row.name, row.ip): row.broadcasted_at_ms for row in rows}

    def agreed(self) -> bool:
        """All running nodes give the same locations."""
        views = [self.locations(node) for node in self.up()]
        return all(view == views[0] for view in views[1:])

    def knows_all(self, *, about: Iterable[SimNode] | None = None) -> bool:
        """All running nodes agree, and list every app of the given nodes (default: the running ones)."""
        wanted = [
            (app.name, node.address)
            for node in (self.up() if about is None else about)
            for app in node.apps.apps()
        ]
        for node in self.up():
            index = node.running.log.index
            if len(index) < len(wanted):
                return False
        views = [self.locations(node) for node in self.up()]
        return all(key in view for view in views for key in wanted) and self.agreed()

    def peers(self, node: SimNode) -> int:
        """How many live peers a node has."""
        return len(node.running.peers.table)

    # --- what went wrong --------------------------------------------------------------------

    def _key_of(self, address: str) -> str | None:
        return self._keys.get(address)

    def _name_of(self, ip: str) -> str | None:
        node = self._by_ip.get(ip)
        return node.name if node is not None else None

    def violate(self, node: str, what: str) -> None:
        """A rule is broken: the first one ends the run."""
        if self.failure is None:
            at_s = trio.current_time()
            self.trace.end()
            self.failure = InvariantViolation(f"at virtual second {at_s:.3f}, {node}: {what}")
            self._scope.cancel(reason="an invariant does not hold")


def app(name: str) -> RunningApp:
    """A running app of this name."""
    return RunningApp(name, f"{crc32(name.encode()):064x}")
