"""The bulk route end to end (docs/spec/registry.md §12): a late node gets all messages from a local peer.

A peer in a process of its own serves its list over a socket, gzipped, as `/apps/permanentmessages` does; the
node reads it through HttpSource, cuts, judges in worker processes and stores into SQLite. Memory is the
peak of the node's process plus that of its workers, the peer's not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, cast

import trio
from _appmix import messages
from _harness import Bench

from trionode.config.tree import Settings
from trionode.peers.dispatch import MessageHandler
from trionode.peers.peer import Peer
from trionode.registry.changes import AddHashes
from trionode.registry.rows import HashRow
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import SystemClock
from trionode.runtime.counters import Counters
from trionode.store.appregistry import AppRegistry
from trionode.store.appregistry_judges import ProcessJudges
from trionode.store.registry_sqlite import open_sqlite_registry
from trionode.sync.hashsync import HashSync
from trionode.sync.rowstream import RowCutter
from trionode.sync.source import HttpSource
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeList

MESSAGES = 60_000
HEIGHT = 2_200_000
LISTEN_IP, OWN_IP = "127.0.0.9", "127.0.0.8"
SYNCED = b'{"status":"success","data":true}'


# ---- the peer ----------------------------------------------------------------------------------------


async def serve(path: Path) -> None:
    """Serve the gzipped list until killed; the port goes to standard output."""
    size = (await trio.Path(path).stat()).st_size
    listeners = await trio.open_tcp_listeners(0, host=LISTEN_IP)
    print(listeners[0].socket.getsockname()[1], flush=True)

    async def answer(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(65536)
        if b"/explorer/issynced" in head:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(SYNCED) + SYNCED)
            return
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % size
        )
        async with await trio.open_file(path, "rb") as file:
            while piece := await file.read(65536):
                await stream.send_all(piece)

    await trio.serve_listeners(answer, listeners)


def write_list(folder: Path, count: int) -> tuple[Path, Path, int]:
    """The gzipped list, the payments for it, and the size of the list unpacked."""
    packed, payments = folder / "list.json.gz", folder / "payments.jsonl"
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    size = 0
    with packed.open("wb") as out, payments.open("w", encoding="utf-8") as rows:
        mark = '{"status":"success","data":['
        for row, document in messages(count, random.Random(1)):
            text = mark + json.dumps(document, ensure_ascii=False, separators=(",", ":"))
            size += len(text)
            out.write(packer.compress(text.encode()))
            rows.write(json.dumps([row.txid, row.height, row.hash, row.value_sat]) + "\n")
            mark = ","
        out.write(packer.compress(b"]}") + packer.flush())
    return packed, payments, size


# ---- the node ----------------------------------------------------------------------------------------


class OnePeer:
    """As much of a peer as the bulk route needs."""

    closing = False
    source = "random"

    def __init__(self, port: int) -> None:
        self.ip, self.port = LISTEN_IP, port
        self.key = f"{LISTEN_IP}:{port}"


class Table:
    threshold_reached = True

    def __init__(self, peer: OnePeer) -> None:
        self._peer = cast("Peer", peer)

    def __iter__(self) -> Iterator[Peer]:
        return iter([self._peer])

    def __len__(self) -> int:
        return 1

    def __contains__(self, key: str) -> bool:
        return key == self._peer.key


class Links:
    """Peers that only speak HTTP: whatever is asked over links stays unanswered."""

    def __init__(self, port: int) -> None:
        self.table = Table(OnePeer(port))

    def send_text(self, peer: Peer, text: str) -> None:
        return None

    def ephemeral(self, ip: str, port: int) -> AbstractAsyncContextManager[Peer]:
        raise AssertionError("no other nodes are known")

    def register_handler(self, message_type: str, handler: MessageHandler) -> None:
        return None


class Facts:
    nodes = NodeList()
    own_address = OWN_IP
    height = HEIGHT
    synced = confirmed = can_send = True


class Chain:
    is_synced = True
    scanned_height = HEIGHT


def payment_rows(path: Path) -> Iterator[HashRow]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield HashRow.found(*json.loads(line))


def peak_mib(pid: int) -> float:
    """The most memory a process ever had since it runs this program."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def children() -> list[int]:
    """The processes that this one has started and that are alive."""
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


async def late_node(port: int, payments: Path, folder: Path) -> dict[str, float]:
    """One run of the hash sync with everything missing."""
    lags: list[float] = []

    async def watch() -> None:
        while True:
            due = trio.current_time() + 0.005
            await trio.sleep_until(due)
            lags.append(1000 * (trio.current_time() - due))

    counters, clock, bus = Counters(), SystemClock(), EventBus()
    async with open_sqlite_registry(folder / "registry.sqlite") as store:
        rows: list[HashRow] = []
        for row in payment_rows(payments):
            rows.append(row)
            if len(rows) == 5000:
                await store.commit([AddHashes(tuple(rows))])
                rows = []
        await store.commit([AddHashes(tuple(rows))])
        registry = AppRegistry(
            store, clock, bus, counters, daemon_height=lambda: HEIGHT, judges=ProcessJudges(counters)
        )
        sync = HashSync(
            Settings(),
            registry=registry,
            explorer=Chain(),
            peers=Links(port),
            facts=Facts(),
            http=HttpSource(source_ip=OWN_IP),
            bus=bus,
            counters=counters,
            clock=clock,
            rng=random.Random(1),
            key=NodeKey.generate(random.Random(2)),
            version="bench",
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(registry.run)
            nursery.start_soon(watch)
            before_mib = peak_mib(os.getpid())
            began = time.perf_counter()
            report = await sync.sync_missing(HEIGHT)
            took = time.perf_counter() - began
            began = time.perf_counter()
            current = await registry.reindex()
            reindex_s = time.perf_counter() - began
            own_mib = peak_mib(os.getpid())
            workers_mib = sum(map(peak_mib, children()))
            nursery.cancel_scope.cancel()
        permanents = (await store.counts())["permanents"]
    lags.sort()
    assert report.missing == 0, report
    return {
        "took_s": took,
        "reindex_s": reindex_s,
        "resolved": report.resolved,
        "permanents": permanents,
        "current": current or 0,
        "before_mib": before_mib,
        "own_mib": own_mib,
        "workers_mib": workers_mib,
        "lag_ms": lags[int(len(lags) * 0.99)],
        "worst_ms": lags[-1],
    }


def node(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        result = trio.run(partial(late_node, options.port, Path(options.file), Path(folder)))
    print(json.dumps(result))
    return 0


# ---- the bench ---------------------------------------------------------------------------------------


def cutting_rate(packed: Path) -> float:
    """Bytes of a list cut into objects per CPU second, nothing kept."""
    text = zlib.decompress(packed.read_bytes(), 31)
    cutter, count = RowCutter(), 0
    began = time.process_time()
    for start in range(0, len(text), 1 << 16):
        for _ in cutter.feed(text[start : start + (1 << 16)]):
            count += 1
    return count / (time.process_time() - began)


def main() -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--node", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--file")
    parser.add_argument("--messages", type=int, default=MESSAGES)
    options, rest = parser.parse_known_args()
    if options.serve:
        trio.run(serve, Path(options.file))
    if options.node:
        return node(options)
    bench = Bench(f"Bulk route: {options.messages:,} app messages from a local peer into SQLite")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        packed, payments, size = write_list(Path(folder), options.messages)
        bench.add("list, unpacked", size / 2**20, "MiB")
        bench.add("objects cut out of the list", cutting_rate(packed), "1/s", note="per CPU second")
        served = subprocess.Popen(
            [sys.executable, __file__, "--serve", "--file", str(packed)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert served.stdout is not None
            port = served.stdout.readline().strip()
            command = [sys.executable, __file__, "--node", "--port", port, "--file", str(payments)]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        finally:
            served.kill()
            served.wait()
        result: dict[str, Any] = json.loads(answer)
    assert result["permanents"] == result["resolved"] == options.messages, result
    bench.add("whole run", result["took_s"], "s", goal=40 * options.messages / MESSAGES, better="lower")
    bench.add("messages", options.messages / result["took_s"], "1/s")
    bench.add("reindex afterwards", result["reindex_s"], "s", note=f"{result['current']:,} current")
    own, workers = result["own_mib"], result["workers_mib"]
    bench.add("peak memory, workers included", own + workers, "MiB", goal=300, better="lower")
    bench.add("of it the node's own process", own, "MiB", note=f"{result['before_mib']:.0f} before the run")
    bench.add("loop lag p99", result["lag_ms"], "ms")
    bench.add("loop lag worst", result["worst_ms"], "ms")
    return bench.finish(rest)


if __name__ == "__main__":
    sys.exit(main())
