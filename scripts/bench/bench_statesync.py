"""State sync over real links (docs/spec/wire.md §11): 40,000 locations, 8,000 nodes of 5 apps each.

First a late node, a process of its own, asks one peer, another process, for everything: verified, stored
in SQLite and indexed. Then that peer serves three readers at once while a dozen other links gossip through
it: with pings every 2 s and two missed ones allowed, no link may be lost.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio
from _harness import Bench
from _syncnode import (
    ADDRESSES,
    APPS,
    CLOCK,
    LATE_IP,
    OLD_IP,
    PING_S,
    address,
    announcement,
    keys,
    memory_mib,
    node_at,
    reset_peak,
)

from trionode.config.tree import Settings
from trionode.peers.link import CAPABILITIES, Hello, Link, LinkClosed
from trionode.peers.ws import WsTransport
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.store.eventlog import EventLog
from trionode.store.sqlite import open_sqlite
from trionode.wire.frames import SYNC_KINDS, HashPresent, decode_frame, encode_frame, sync_request
from trionode.wire.keys import NodeKey

READERS, GOSSIPERS = 3, 12
IDLE_S, PAUSE_S = 4.0, 0.05


# ---- the processes -----------------------------------------------------------------------------------


async def serve(path: Path) -> None:
    """The peer that knows everything: serves until its input is closed or a line asks for a report."""
    async with node_at(OLD_IP, path) as (node, lags), trio.open_nursery() as nursery:
        missed = 0

        async def watch() -> None:
            nonlocal missed
            while True:
                await trio.sleep(PING_S / 20)
                missed = max([missed, *(peer.pinger.missed for peer in node.peers.table)])

        nursery.start_soon(watch)
        print("ready", flush=True)
        before = memory_mib("VmRSS")
        async for _ in trio.wrap_file(sys.stdin):
            told = lags.told() | {"missed": missed, "extra_mib": memory_mib("VmHWM") - before}
            print(json.dumps(told | node.counters.snapshot()), flush=True)
            lags.clear()
            missed = 0
            before = reset_peak()
        nursery.cancel_scope.cancel()


async def be_late(path: Path) -> None:
    """A node that asks the one peer it has, and measures."""
    async with node_at(LATE_IP, path) as (node, lags):
        key = f"{OLD_IP}:16127"
        done: set[str] = set()
        over = trio.Event()

        def on_done(kind: str, _: str) -> None:
            done.add(kind)
            if len(done) == 3:
                over.set()

        node.sync.on_done(on_done)
        linked = trio.Event()
        node.peers.table.on_change(lambda event, peer: linked.set())
        node.peers.add_outgoing(OLD_IP, 16127)
        await linked.wait()
        await trio.sleep(0.5)
        lags.clear()
        before_mib = reset_peak()
        began, cpu = time.perf_counter(), time.process_time()
        asked = await node.sync.request([key])
        with trio.move_on_after(60) as patience:
            await over.wait()
        if patience.cancelled_caught:
            raise SystemExit(f"asked {asked}, got {done}: {node.counters.snapshot()}")
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        told = lags.told() | {
            "took_s": took,
            "cpu_s": cpu,
            "extra_mib": memory_mib("VmHWM") - before_mib,
            "locations": len(node.log.locations()),
            "stored": (await node.log.store.counts())["locations"],
            "received_mib": node.peers.table.get(key).link.bytes_received / 2**20,  # type: ignore[union-attr]
        }
        print(json.dumps(told), flush=True)


class Gossiper:
    """A link that brings news and notes when the others' news come."""

    def __init__(self, number: int, key: NodeKey, link: Link, transport: WsTransport) -> None:
        self.number = number
        self.key = key
        self.link = link
        self.transport = transport


async def crowd() -> None:
    """Readers and gossiping links; a gossip message's latency is from its sending to its first relay."""
    signers = keys(ADDRESSES)
    hello = Hello(capabilities=frozenset(CAPABILITIES), uptime_s=10_000)
    sent_s: dict[str, float] = {}
    latencies: list[float] = []
    chunks = [0] * READERS
    finished = trio.Event()
    lost: list[str] = []

    async with trio.open_nursery() as nursery:

        async def hold(number: int, *, task_status: trio.TaskStatus[Gossiper]) -> None:
            transport = WsTransport(Settings().peers, bind_host=address(number))
            async with transport.dial(OLD_IP, 16127, hello, own_port=16127) as link:
                task_status.started(Gossiper(number, signers[number], link, transport))
                await trio.sleep_forever()

        links = [await nursery.start(hold, number) for number in range(READERS + GOSSIPERS)]

        async def listen(one: Gossiper) -> None:
            try:
                while True:
                    message = await one.link.receive()
                    if isinstance(message, bytes):
                        frame = decode_frame(message)
                        began = sent_s.pop(frame.hash, None) if isinstance(frame, HashPresent) else None
                        if began is not None:
                            latencies.append(1000 * (time.perf_counter() - began))
                    elif one.number < READERS and len(message) > 200 and 'sync"' in message[:1024]:
                        chunks[one.number] += message.endswith('"done":true}}')
                        if sum(chunks) == 4 * READERS:
                            finished.set()
            except LinkClosed as closed:
                lost.append(str(closed))

        async def talk(one: Gossiper) -> None:
            await trio.sleep(PAUSE_S * one.number)
            while True:
                envelope = announcement(one.number, one.key, CLOCK.now_ms())
                sent_s[envelope.data_hash] = time.perf_counter()
                await one.link.send(one.transport.prepare(envelope.text))
                await trio.sleep(PAUSE_S * GOSSIPERS)

        for one in links:
            nursery.start_soon(listen, one)
        for one in links[READERS:]:
            nursery.start_soon(talk, one)
        await trio.sleep(1)
        latencies.clear()
        await trio.sleep(IDLE_S)
        idle = sorted(latencies)
        print("idle", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        latencies.clear()
        began = time.perf_counter()
        for one in links[:READERS]:
            for kind in SYNC_KINDS:
                frame = encode_frame(sync_request(kind, 0, CLOCK.now_ms(), one.key))
                await one.link.send(one.transport.prepare(frame))
        with trio.move_on_after(60):
            await finished.wait()
        took = time.perf_counter() - began
        busy = sorted(latencies)
        await trio.sleep(2 * PING_S)
        told = {
            "took_s": took,
            "lost": lost,
            "idle": len(idle),
            "busy": len(busy),
            "finished": finished.is_set(),
        }
        for name, values in (("idle", idle), ("busy", busy)):
            told[f"{name}_p50_ms"] = values[len(values) // 2] if values else 0.0
            told[f"{name}_p95_ms"] = values[int(len(values) * 0.95)] if values else 0.0
        print(json.dumps(told), flush=True)
        nursery.cancel_scope.cancel()


async def fill(path: Path) -> None:
    signers = keys(ADDRESSES)
    async with open_sqlite(path) as store, trio.open_nursery() as nursery:
        log = EventLog(Settings().appstate, store, CLOCK, EventBus(), Counters())
        await nursery.start(log.run)
        for first in range(0, ADDRESSES, 1000):
            now_ms = CLOCK.now_ms()
            batch = [announcement(n, signers[n], now_ms) for n in range(first, first + 1000)]
            async with trio.open_nursery() as together:
                for envelope in batch:
                    together.start_soon(log.ingest, envelope)
        nursery.cancel_scope.cancel(reason="filled")


# ---- the bench ---------------------------------------------------------------------------------------


def start(role: str, path: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--role", role, *(("--file", str(path)) if path else ())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a process of the bench ended early")
    return line


def ask(process: subprocess.Popen[str]) -> Any:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return json.loads(line_of(process))


def measure(bench: Bench, folder: Path) -> None:
    trio.run(fill, folder / "old.sqlite")
    with start("serve", folder / "old.sqlite") as old:
        line_of(old)
        ask(old)
        with start("late", folder / "late.sqlite") as late:
            told = json.loads(line_of(late))
        server = ask(old)
        if told["locations"] != ADDRESSES * APPS or told["stored"] != ADDRESSES * APPS:
            raise SystemExit(f"not everything arrived: {told}")
        bench.add("late node has everything", told["took_s"], "s", goal=15, better="lower")
        bench.add("records verified and stored", ADDRESSES / told["took_s"], "1/s")
        bench.add("its CPU time", told["cpu_s"], "s", note="threads of the store included")
        bench.add("its extra memory", told["extra_mib"], "MiB", goal=250, better="lower")
        bench.add("received, compressed", told["received_mib"], "MiB")
        bench.add("its loop lag p99", told["lag_ms"], "ms")
        bench.add("its loop lag worst", told["worst_ms"], "ms")
        bench.add("its longest step, CPU", told["step_ms"], "ms", note=told["step"])
        bench.add("server's longest step, CPU", server["step_ms"], "ms", note=server["step"])
        with start("crowd") as many:
            line_of(many)
            idle = ask(old)
            many_told = ask(many)
            busy = ask(old)
        if many_told["lost"] or not many_told["finished"]:
            raise SystemExit(f"links were lost: {many_told}")
        bench.add(f"{READERS} readers served at once", many_told["took_s"], "s")
        bench.add("server's extra memory", busy["extra_mib"], "MiB")
        bench.add(
            "pings without a pong, most", busy["missed"], "", goal=1, better="lower", note="1: on its way"
        )
        bench.add("links lost", busy.get("peers.dead", 0), "", goal=0, better="lower")
        for part in ("p50", "p95"):
            name = f"gossip latency {part}, idle"
            bench.add(
                name, many_told[f"idle_{part}_ms"], "ms", note="75 ms of it are the intake's random delay"
            )
            bench.add(f"gossip latency {part}, serving", many_told[f"busy_{part}_ms"], "ms", baseline=name)
        bench.add("loop lag p99, idle", idle["lag_ms"], "ms")
        bench.add("loop lag p99, serving", busy["lag_ms"], "ms", baseline="loop lag p99, idle")
        bench.add("loop lag worst, serving", busy["worst_ms"], "ms")
        bench.add("longest step serving, CPU", busy["step_ms"], "ms", note=busy["step"])


def main() -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--role", choices=["serve", "late", "crowd"])
    parser.add_argument("--file", type=Path)
    options, rest = parser.parse_known_args()
    if options.role == "serve":
        trio.run(serve, options.file)
        return 0
    if options.role == "late":
        trio.run(be_late, options.file)
        return 0
    if options.role == "crowd":
        trio.run(crowd)
        return 0
    bench = Bench(f"State sync: {ADDRESSES * APPS:,} locations of {ADDRESSES:,} nodes over real links")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        measure(bench, Path(folder))
    return bench.finish(rest)


if __name__ == "__main__":
    sys.exit(main())
