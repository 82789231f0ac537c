"""Spawners on real event logs and real announcements; engine, ports, images and registry are fakes.

Nodes hear one another after `latency_s`. An install takes `install_s` and is announced when it is done.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from trionode.config.tree import ResourceSettings, Settings
from trionode.containers.actions import NoProgress, Outcome, Progress, Spec
from trionode.containers.operations import Busy, Operation, Work
from trionode.containers.spawning.announcements import Announcements
from trionode.containers.spawning.candidatelist import CandidateList
from trionode.containers.spawning.facts import SpawnFactSource
from trionode.containers.spawning.spawner import Spawner
from trionode.containers.spawning.world import SpawnParts, SpawnWorld
from trionode.errors import HostError
from trionode.hosting.announcer import iso_ms
from trionode.lifecycle.limits import Machine
from trionode.plans.deferrals import Kind
from trionode.plans.requirements import NodeFacts, Place
from trionode.registry.images import BlockLists
from trionode.registry.rows import CurrentSpec
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.store.appregistry_current import CurrentSpecs
from trionode.store.eventlog import EventLog
from trionode.store.memory import MemoryStore
from trionode.wire.envelope import Envelope, seal
from trionode.wire.jsjson import stringify
from trionode.wire.keys import NodeKey

HEIGHT = 2_100_000


def app_spec(name: str, *, data: str = "/d", port: int = 31000, **more: Any) -> dict[str, Any]:
    part = {
        "name": "web",
        "repotag": f"shop/{name}:1",
        "ports": [port],
        "containerPorts": [80],
        "containerData": data,
        "cpu": 1,
        "ram": 100,
        "hdd": 1,
    }
    rest = {"owner": "1Owner", "instances": 3, "nodes": [], "geolocation": [], "expire": 88_000}
    return {"version": 8, "name": name, "compose": [part], **rest, **more}


class Registry:
    """Specifications in force, for all nodes."""

    def __init__(self, *specs: dict[str, Any]) -> None:
        self.current = CurrentSpecs()
        for found in specs:
            self.put(found)

    def put(self, found: dict[str, Any]) -> None:
        self.current.put(CurrentSpec(found["name"], stringify(found), f"hash-{found['name']}", HEIGHT - 500))

    async def in_force(self, app: str) -> Spec | None:
        row = self.current.get(app)
        return None if row is None else {**row.spec(), "hash": row.hash, "height": row.height}


class Net:
    """The nodes and the paths between them."""

    def __init__(self, registry: Registry, *, latency_s: float = 0.2) -> None:
        self.registry = registry
        self.latency_s = latency_s
        self.nodes: list[Node] = []
        self.nursery: trio.Nursery | None = None

    def deliver(self, sender: Node, envelope: Envelope) -> None:
        assert self.nursery is not None
        for node in self.nodes:
            if node is not sender:
                self.nursery.start_soon(self._carry, node, envelope)

    async def _carry(self, node: Node, envelope: Envelope) -> None:
        await trio.sleep(self.latency_s)
        await node.log.ingest(envelope)

    def running(self, app: str) -> list[str]:
        return [node.address for node in self.nodes if app in node.apps]

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Net]:
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            for node in self.nodes:
                await nursery.start(node.log.run)
                await nursery.start(node.spawner.run)
                nursery.start_soon(node.announce_forever)
            yield self
            nursery.cancel_scope.cancel()


class Node:
    """One node: its spawner, and everything around it that a test may set."""

    def __init__(self, net: Net, number: int = 1, *, seed: int = 1, settings: Settings | None = None) -> None:
        self.net = net
        self.settings = settings or Settings()
        self.address = f"{10 + number}.0.0.1"
        self.key = NodeKey.generate(random.Random(number))
        self.clock = VirtualClock()
        self.bus, self.counters = EventBus(), Counters()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.bus.tap(lambda event: self.events.append((event.name, dict(event.data))))
        self.log = EventLog(self.settings.appstate, MemoryStore(), self.clock, self.bus, self.counters)
        self.ready, self.db_ready = Gate(is_open=True), Gate(is_open=True)
        # what the chain says
        self.own_address: str | None = self.address
        self.height = self.scanned_height = HEIGHT
        self.confirmed = self.can_send = True
        self.state: float = 0
        # what the node is
        self.is_enterprise = False
        self.kind_of = Kind(address=self.address)
        self.here = Place("EU", "DE", "Hesse")
        self.machine = Machine(8, 32_000, 500)
        self.silent = False
        self.containers = 0
        # what the world answers
        self.lists_of: BlockLists | None = BlockLists()
        self.image_problem: str | None = None
        self.port_problem: str | None = None
        self.unreachable: set[str] = set()
        self.outcome = Outcome(ok=True)
        self.busy = False
        self.install_s = 5.0
        self.apps: dict[str, int] = {}
        self.done: list[tuple[float, str, str]] = []
        self.expired = 0
        net.nodes.append(self)
        self.spawner = Spawner(
            self.settings,
            facts=SpawnFactSource(
                chain=self,
                explorer=self,
                db_ready=self.db_ready,
                dos=self,
                node=self,
                installed=lambda: frozenset(self.apps),
            ),
            world=SpawnWorld(self._parts()),
            ready=self.ready,
            bus=self.bus,
            counters=self.counters,
            clock=self.clock,
            rng=random.Random(f"{seed}/{number}"),
        )

    def _parts(self) -> SpawnParts:
        return SpawnParts(
            candidates=CandidateList(self.net.registry.current, self.log),
            height=lambda: self.height,
            log=self.log,
            specs=self.net.registry,
            lists=self,
            images=Answer(lambda: self.image_problem),
            ports=Answer(lambda: self.port_problem),
            node=self,
            probe=self,
            news=Announcements(self.settings.appstate, self, self, self.log, self.counters, self.clock),
            actions=self,  # type: ignore[arg-type] - only install and remove are asked of it
            expire=self._expire,
            bus=self.bus,
            counters=self.counters,
            resources=ResourceSettings(),
        )

    async def _expire(self) -> None:
        self.expired += 1

    # what this node is

    async def kind(self) -> Kind | None:
        if self.silent:
            raise HostError("the benchmark does not answer")
        return None if self.own_address is None else self.kind_of

    async def place(self) -> Place | None:
        return self.here

    async def running_containers(self) -> int:
        return self.containers

    async def facts(self) -> NodeFacts:
        return NodeFacts(machine=self.machine, address=self.address, place=self.here)

    # what it asks

    async def lists(self) -> BlockLists:
        if self.lists_of is None:
            raise HostError("nobody has the lists")
        return self.lists_of

    async def reaches(self, ip: str, port: int) -> bool:
        if ip in self.unreachable:
            await trio.sleep_forever()
        return True

    # what it does

    def broadcast_own(self, data: dict[str, Any]) -> Envelope:
        envelope = seal(data, self.key, self.clock.now_ms())
        self.did("tell", f"{data['type']} {data.get('name', '')}".strip())
        self.net.deliver(self, envelope)
        return envelope

    def did(self, what: str, app: str) -> None:
        self.done.append((round(trio.current_time(), 3), what, app))

    async def install(self, spec: Spec, *, reason: str, progress: Progress = NoProgress()) -> Outcome:  # noqa: B008
        if self.busy:
            raise Busy(Operation(Work.REMOVE, "other"))
        await trio.sleep(self.install_s)
        if self.outcome.ok:
            self.did("install", spec["name"])
            self.apps[spec["name"]] = self.clock.now_ms()
            await self.announce()
        return self.outcome

    async def remove(self, app: str, *, reason: str, force: bool = False) -> Outcome:
        assert force
        self.did("remove", app)
        self.apps.pop(app, None)
        gone = {"type": "fluxappremoved", "version": 1, "appName": app, "ip": self.address}
        await self.log.apply_local(self.broadcast_own({**gone, "broadcastedAt": self.clock.now_ms()}))
        return Outcome(ok=True)

    async def announce(self) -> None:
        entries = [
            {"name": name, "hash": f"hash-{name}", "runningSince": iso_ms(since_ms)}
            for name, since_ms in self.apps.items()
        ]
        told = {"type": "fluxapprunning", "version": 2, "apps": entries, "ip": self.address}
        more = {"broadcastedAt": self.clock.now_ms(), "osUptime": 1, "staticIp": False}
        await self.log.apply_local(self.broadcast_own({**told, **more}))

    async def announce_forever(self) -> None:
        while True:
            await trio.sleep(3600)
            if self.apps:
                await self.announce()

    def go(self) -> None:
        """READY from now on."""
        self.ready.open()
        self.bus.publish("spawner:resumed")

    def published(self, name: str) -> list[dict[str, Any]]:
        return [data for event, data in self.events if event == name]


class Answer:
    """A port that answers `problem`."""

    def __init__(self, told: Any) -> None:
        self._told = told

    async def problem(self, spec: Spec) -> str | None:
        return self._told()  # type: ignore[no-any-return]


def tuned(**spawner: Any) -> Settings:
    """Settings with some of the spawner's changed."""
    settings = Settings()
    return msgspec.structs.replace(settings, spawner=msgspec.structs.replace(settings.spawner, **spawner))
