"""A node as far as state sync needs one, on real sockets, and a network of 8,000 addresses around it."""

from __future__ import annotations

import gc
import hashlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import trio

from trionode.config.tree import Settings
from trionode.peers.service import PeerService
from trionode.peers.ws import WsTransport
from trionode.peers.wsstream import read_head
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import SystemClock
from trionode.runtime.counters import Counters
from trionode.store.eventlog import EventLog
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.store.sqlite import open_sqlite
from trionode.sync.stateserver import StateServer
from trionode.sync.statesync import StateSync
from trionode.wire.envelope import Envelope, seal
from trionode.wire.jsjson import JsValue
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeEntry, NodeList

ADDRESSES, APPS = 8_000, 5
OLD_IP, LATE_IP = "127.60.0.1", "127.60.0.2"
PING_S, MISSED = 2.0, 2
CLOCK = SystemClock()


def address(number: int) -> str:
    return f"127.60.{1 + (number >> 8)}.{number & 255}"


def keys(count: int) -> list[NodeKey]:
    """The same keys in every process."""
    rng = random.Random(11)
    return [NodeKey.generate(rng) for _ in range(count)]


class Facts:
    """All addresses are listed, with a port, since several live on this machine."""

    def __init__(self, own: str, signers: Sequence[NodeKey]) -> None:
        entries = [NodeEntry(ip=address(n), pubkey=key.public_key) for n, key in enumerate(signers)]
        entries += [NodeEntry(ip=ip, pubkey=signers[0].public_key) for ip in (OLD_IP, LATE_IP)]
        self.nodes = NodeList(entries)
        self.own_address: str | None = own
        self.height = 2_000_000
        self.synced = self.confirmed = self.can_send = True


@cache
def app_hash(app: int) -> str:
    return hashlib.sha256(str(app).encode()).hexdigest()


def announcement(number: int, key: NodeKey, now_ms: int) -> Envelope:
    apps = [
        {
            "name": f"app{(number * APPS + n) % 2000}",
            "hash": app_hash((number * APPS + n) % 2000),
            "runningSince": "2025-10-01T00:00:00.000Z",
        }
        for n in range(APPS)
    ]
    data = {"type": "fluxapprunning", "version": 2, "apps": apps, "ip": address(number)}
    return seal(data | {"broadcastedAt": now_ms, "osUptime": 123456.78, "staticIp": True}, key, now_ms)


class SyncNode:
    """What of a node state sync needs, on real sockets at `ip`."""

    def __init__(self, ip: str, log: EventLog, facts: Facts, key: NodeKey, counters: Counters) -> None:
        settings = Settings()
        peers = msgspec.structs.replace(
            settings.peers,
            discovery_autostart=False,
            min_inbound=16,
            ping_interval_s=PING_S,
            max_missed_pongs=MISSED,
        )
        network = msgspec.structs.replace(settings.network, allow_private_addresses=True)
        self.ip = ip
        self.log = log
        self.counters = counters
        settings = msgspec.structs.replace(settings, peers=peers, network=network)
        self.transport = WsTransport(peers, bind_host=ip)
        bus, rng = EventBus(), random.Random(1)
        self.peers = PeerService(
            settings,
            transport=self.transport,
            facts=facts,
            log=log,
            bus=bus,
            counters=counters,
            clock=CLOCK,
            rng=rng,
            key=key,
        )
        self.sync = StateSync(
            settings=settings,
            peers=self.peers,
            facts=facts,
            log=log,
            temp=self._no_temps,
            bus=bus,
            counters=counters,
            clock=CLOCK,
            rng=rng,
            key=key,
        )
        self.server = StateServer(
            settings=settings,
            peers=self.peers,
            facts=facts,
            log=log,
            registry_store=MemoryRegistryStore(),
            bus=bus,
            counters=counters,
            clock=CLOCK,
            key=key,
        )

    async def _no_temps(self, messages: list[JsValue]) -> int:
        await trio.lowlevel.checkpoint()
        return len(messages)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            for service in (self.log, self.peers, self.sync, self.server):
                await nursery.start(service.run)
            await nursery.start(self._listen)
            gc.collect()
            gc.freeze()
            task_status.started()

    async def _listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        async def accept(stream: trio.SocketStream) -> None:
            async with stream:
                head, rest = await read_head(stream, 16384)
                await self.peers.handle_inbound(self.transport.inbound(stream, head, rest))

        listeners = await trio.open_tcp_listeners(16127, host=self.ip)
        task_status.started()
        await trio.serve_listeners(accept, listeners)


class Lags(trio.abc.Instrument):
    """How late the loop was, in milliseconds, and the longest step of a task in CPU time, which other
    programs on the machine do not blur."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.steps: dict[str, float] = {}
        self._began_s = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began_s = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took_ms = 1000 * (time.thread_time() - self._began_s)
        if took_ms > 1:
            self.steps[task.name] = max(took_ms, self.steps.get(task.name, 0.0))

    def clear(self) -> None:
        self.values.clear()
        self.steps.clear()

    async def run(self) -> None:
        while True:
            due = trio.current_time() + 0.005
            await trio.sleep_until(due)
            self.values.append(1000 * (trio.current_time() - due))

    def told(self) -> dict[str, Any]:
        ascending = sorted(self.values) or [0.0]
        name, step_ms = max(self.steps.items(), key=lambda step: step[1], default=("", 0.0))
        return {
            "lag_ms": ascending[int(len(ascending) * 0.99)],
            "worst_ms": ascending[-1],
            "step_ms": step_ms,
            "step": name,
        }


@asynccontextmanager
async def node_at(ip: str, path: Path) -> AsyncIterator[tuple[SyncNode, Lags]]:
    signers = keys(ADDRESSES)
    async with open_sqlite(path) as store, trio.open_nursery() as nursery:
        counters = Counters()
        log = EventLog(Settings().appstate, store, CLOCK, EventBus(), counters)
        node = SyncNode(ip, log, Facts(ip, signers), signers[0], counters)
        await nursery.start(node.run)
        lags = Lags()
        nursery.start_soon(lags.run)
        trio.lowlevel.add_instrument(lags)
        yield node, lags
        nursery.cancel_scope.cancel()


def memory_mib(name: str) -> float:
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def reset_peak() -> float:
    """Forget the highest memory so far; what is used now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return memory_mib("VmRSS")
