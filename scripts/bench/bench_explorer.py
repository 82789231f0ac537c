"""Explorer against the local chain stub (a process of its own), rows into SQLite.

Fast bootstrap of a 2.1-million-block chain with 60,000 app payments; plain scan of its last blocks;
back from a reorganisation of 99 blocks. Baseline: the same blocks asked for one after the other, unread.
"""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio
from _harness import Bench

from trionode.chain.explorer import Explorer
from trionode.chain.poll import ChainInfo
from trionode.chain.rpc import HttpRpc
from trionode.config.tree import ChainSettings, Settings
from trionode.devnet.processes import module_command
from trionode.runtime.bus import EventBus, Subscription
from trionode.runtime.counters import Counters
from trionode.store.registry_sqlite import open_sqlite_registry

HOST = "127.0.0.1"
TIP, PAYMENTS = 2_100_000, 60_000
SCANNED_BLOCKS = 8000
ONE_BY_ONE_BLOCKS = 1500
ORDINARY = 20
REORG_BLOCKS = 99
SETTINGS = Settings(chain=ChainSettings(poll_interval_s=0.2))
PLAIN_SCAN = "plain scan"
ONE_BY_ONE = "getblock one by one"


class Ports:
    """Three free ports for the stub."""

    def __init__(self) -> None:
        sockets = [socket.create_server((HOST, 0)) for _ in range(3)]
        self.daemon, self.bench, self.control = (one.getsockname()[1] for one in sockets)
        for one in sockets:
            one.close()


def main() -> int:
    bench = Bench("explorer: bootstrap, plain scan, reorganisation (stub over loopback, SQLite)")
    ports = Ports()
    with tempfile.TemporaryDirectory() as folder:
        with stub(ports):
            trio.run(bootstrap, bench, ports, Path(folder) / "bootstrap.sqlite")
            trio.run(one_by_one, bench, ports)
            trio.run(scan, bench, ports, Path(folder) / "scan.sqlite", PLAIN_SCAN)
        with stub(ports, "--ordinary", str(ORDINARY)):
            name = f"{PLAIN_SCAN}, {ORDINARY} other transactions a block"
            trio.run(scan, bench, ports, Path(folder) / "full.sqlite", name)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bench.add("peak RSS of all this", peak_mb, "MB", goal=300.0, better="lower")
    return bench.finish()


async def bootstrap(bench: Bench, ports: Ports, path: Path) -> None:
    async with explorer(ports, path, scanned=0, index=True) as (service, news, counters):
        began = trio.current_time()
        await named(news, "explorer:synced")
        took_s = trio.current_time() - began
        rows = counters["explorer.hashes"]
        note = f"{rows} rows, {counters['explorer.blocks']} blocks at the end"
        bench.add(f"bootstrap, {PAYMENTS} payments", took_s, "s", goal=60.0, better="lower", note=note)
        if service.scanned_height != TIP or rows < PAYMENTS * 0.8:
            raise SystemExit(f"the bootstrap ended at {service.scanned_height} with {rows} rows")


async def one_by_one(bench: Bench, ports: Ports) -> None:
    with client(ports) as rpc:
        began = trio.current_time()
        for height in range(TIP - ONE_BY_ONE_BLOCKS, TIP):
            await rpc.call("getblock", [str(height), 2], fresh=True)
        bench.add(ONE_BY_ONE, ONE_BY_ONE_BLOCKS / (trio.current_time() - began), "1/s")


async def scan(bench: Bench, ports: Ports, path: Path, name: str) -> None:
    start = TIP - SCANNED_BLOCKS
    async with explorer(ports, path, scanned=start, index=False) as (service, news, counters):
        began = trio.current_time()
        await named(news, "explorer:synced")
        rate = SCANNED_BLOCKS / (trio.current_time() - began)
        note = f"{counters['explorer.hashes']} rows"
        bench.add(name, rate, "1/s", baseline=ONE_BY_ONE, goal=400.0, note=note)
        if name == PLAIN_SCAN:
            await back_from_reorg(bench, ports, service, news)


async def back_from_reorg(bench: Bench, ports: Ports, service: Explorer, news: Subscription) -> None:
    began = trio.current_time()
    await trio.to_thread.run_sync(control, ports, "/reorg", {"depth": REORG_BLOCKS})
    await named(news, "explorer:synced")
    took_s = trio.current_time() - began
    bench.add(f"back from a reorganisation of {REORG_BLOCKS}", took_s, "s", note="poll of 0.2 s included")
    if service.scanned_height != TIP + 1:
        raise SystemExit(f"the reorganisation ended at {service.scanned_height}")


@asynccontextmanager
async def explorer(
    ports: Ports, path: Path, *, scanned: int, index: bool
) -> AsyncIterator[tuple[Explorer, Subscription, Counters]]:
    """An explorer at work on a new store."""
    bus, counters = EventBus(), Counters()
    with client(ports) as rpc, bus.subscribe("explorer:synced") as news:
        async with open_sqlite_registry(path) as store, trio.open_nursery() as nursery:
            await store.set_scanned_height(scanned)
            facts = ChainInfo(SETTINGS.chain, rpc, bus, counters)
            service = Explorer(SETTINGS, rpc, store, facts, bus, counters, has_address_index=index)
            nursery.start_soon(facts.run)
            await nursery.start(service.run)
            yield service, news, counters
            nursery.cancel_scope.cancel(reason="measured")


def client(ports: Ports) -> HttpRpc:
    return HttpRpc(HOST, ports.daemon, "user", "password", timeout_s=40.0)


async def named(news: Subscription, name: str) -> None:
    while (await news.receive()).name != name:
        pass


def control(ports: Ports, path: str, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    with socket.create_connection((HOST, ports.control), timeout=10) as connection:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: stub\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        connection.sendall(head.encode() + data)
        answer = connection.recv(65536)
    if b" 200 " not in answer.split(b"\r\n", 1)[0]:
        raise SystemExit(f"{path}: {answer!r}")


@contextmanager
def stub(ports: Ports, *more: str) -> Iterator[None]:
    """The chain stub as a process, ready."""
    arguments = (
        *("--host", HOST, "--port", str(ports.daemon), "--bench-port", str(ports.bench)),
        *("--control-port", str(ports.control), "--height", str(TIP), "--apps", str(PAYMENTS), "--seed", "7"),
    )
    command = module_command("trionode.sim.stub_server", *arguments, *more)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if "ready" not in process.stdout.readline():
            raise SystemExit("the chain stub did not start")
        yield
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


if __name__ == "__main__":
    sys.exit(main())
