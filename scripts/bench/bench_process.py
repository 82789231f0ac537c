"""A node as a process: start to the first API answer, memory, the status command, an orderly stop.

A real node runs beside the daemon stub; real peers are linked to it; its log is filled with real
signed messages. Baselines of the same run: bare Python, and importing what a node needs.
"""

from __future__ import annotations

import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import trio
from _harness import Bench
from _processes import get, rss_mb, running, stub

from trionode.config.tree import AppStateSettings, PeerSettings
from trionode.devnet import layout as places
from trionode.devnet.layout import NodePlace
from trionode.devnet.processes import module_command
from trionode.peers.link import Hello
from trionode.peers.ws import WsTransport
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import SystemClock
from trionode.runtime.counters import Counters
from trionode.store.eventlog import EventLog
from trionode.store.open import FILE_NAME
from trionode.store.sqlite import open_sqlite
from trionode.wire.envelope import seal
from trionode.wire.keys import NodeKey

OFFSET = 100
ADDRESSES, APPS_EACH = 8000, 5
BARE, IMPORTS = "python -c pass", "imports alone"
IMPORT_LINE = "import trio, trio_websocket, hypercorn.trio, quart_trio, coincurve, msgspec, structlog, click"


def main() -> int:
    bench = Bench("process: start, memory, status command, stop")
    with tempfile.TemporaryDirectory() as folder:
        layout = places.plan(Path(folder), 1, OFFSET)
        overrides = {"peers.min_inbound": 16, "peers.discovery_autostart": False, "log.level": "warning"}
        places.write(layout, random.Random(1), overrides)
        bench.add(BARE, seconds_of([sys.executable, "-c", "pass"]), "s")
        bench.add(IMPORTS, seconds_of([sys.executable, "-c", IMPORT_LINE]), "s")
        with stub(layout):
            empty_node(bench, layout.nodes[0])
            trio.run(fill, layout.nodes[0])
            full_node(bench, layout.nodes[0])
    return bench.finish()


def empty_node(bench: Bench, node: NodePlace) -> None:
    starts = []
    for _ in range(5):
        with running(node) as (_, start_s):
            starts.append(start_s)
    start_s = statistics.median(starts)
    bench.add("start to first API answer", start_s, "s", baseline=IMPORTS, goal=1.5, better="lower")
    with running(node) as (process, _):
        time.sleep(3)
        bench.add("idle RSS", rss_mb(process.pid), "MB", goal=120.0, better="lower")
        status = module_command("trionode", "--config", str(node.config), "status", "--json")
        took_s = seconds_of(status, runs=7)
        bench.add("trionode status, wall", took_s, "s", baseline=BARE, goal=0.25, better="lower")
    with running(node) as (process, _):
        stop_s = trio.run(stop_with_peers, node, process, bench)
        bench.add("SIGTERM to exit, 60 peers", stop_s, "s", goal=5.0, better="lower")


def full_node(bench: Bench, node: NodePlace) -> None:
    with running(node) as (process, start_s):
        time.sleep(2)
        rss = rss_mb(process.pid)
        rows = len(get(node, "/apps/locations"))
        bench.add(f"start with {rows} locations", start_s, "s", baseline=IMPORTS)
        bench.add(f"RSS with {rows} locations", rss, "MB")
        bench.add("RSS after one full listing", rss_mb(process.pid), "MB")


async def stop_with_peers(node: NodePlace, process: subprocess.Popen[bytes], bench: Bench) -> float:
    """Link 60 peers from 60 addresses, look at the memory, then stop the node; seconds it took."""
    async with AsyncExitStack() as stack:
        for number in range(1, 61):
            transport = WsTransport(PeerSettings(), bind_host=f"127.{OFFSET + 20}.{number}.1")
            dial = transport.dial(node.ip, places.API_PORT, Hello(), own_port=16127)
            await stack.enter_async_context(dial)
        await trio.sleep(2)
        inbound = get(node, "/trionode/status")["peers"]["inbound"]
        bench.add(f"RSS with {inbound} peers", rss_mb(process.pid), "MB", goal=150.0, better="lower")
        begin = trio.current_time()
        process.send_signal(signal.SIGTERM)
        # The peers do not read on: the node must not wait for their close frames for ever.
        await trio.to_thread.run_sync(process.wait)
        return trio.current_time() - begin


async def fill(node: NodePlace) -> None:
    """Write the announcements of 8,000 addresses into the node's own store."""
    folder = node.folder / "data"
    key = NodeKey.generate(random.Random(2))
    clock = SystemClock()
    async with open_sqlite(folder / FILE_NAME) as store, trio.open_nursery() as nursery:
        log = EventLog(AppStateSettings(), store, clock, EventBus(), Counters())
        await nursery.start(log.run)
        for first in range(0, ADDRESSES, 1000):
            now_ms = clock.now_ms()
            batch = [seal(announcement(n, now_ms), key, now_ms) for n in range(first, first + 1000)]
            async with trio.open_nursery() as together:
                for envelope in batch:
                    together.start_soon(log.ingest, envelope)
        nursery.cancel_scope.cancel(reason="filled")


def announcement(number: int, now_ms: int) -> dict[str, object]:
    """A fluxapprunning v2 of one address."""
    return {
        "type": "fluxapprunning",
        "version": 2,
        "apps": [
            {"name": f"app{(number * APPS_EACH + n) % 2000}", "hash": f"{number:064x}"}
            for n in range(APPS_EACH)
        ],
        "ip": f"203.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        "broadcastedAt": now_ms,
        "osUptime": 1000,
        "staticIp": True,
    }


def seconds_of(command: list[str], runs: int = 5) -> float:
    """Median wall time of a whole process."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
