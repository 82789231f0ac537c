"""Serving the list of all paid messages (docs/spec/api.md §4) while gossip goes on.

A real node has 60,000 paid messages. Three linked peers gossip through it, and a latency is from the sending
of a message to its first announcement by the node. Then one reader after the other fetches the whole list,
gzipped as peers ask for it, without a pause.
"""

from __future__ import annotations

import random
import socket
import sys
import tempfile
import time
from pathlib import Path

import trio
from _appmix import messages
from _harness import Bench
from _processes import rss_mb, running, stub

from trionode.config.tree import PeerSettings
from trionode.devnet import layout as places
from trionode.devnet.layout import NodePlace
from trionode.peers.link import CAPABILITIES, Hello, Link
from trionode.peers.ws import WsTransport
from trionode.registry.changes import AddPermanents
from trionode.registry.rows import PermanentRow
from trionode.runtime.clock import SystemClock
from trionode.store.open import REGISTRY_FILE_NAME
from trionode.store.registry_sqlite import open_sqlite_registry
from trionode.wire.envelope import seal
from trionode.wire.frames import HashPresent, decode_frame
from trionode.wire.jsjson import stringify

MESSAGES = 60_000
OFFSET = 130
IDLE_S, PAUSE_S = 8.0, 0.04
CLOCK = SystemClock()


async def fill(node: NodePlace) -> None:
    """Write the paid messages into the node's own store."""
    folder = node.folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    async with open_sqlite_registry(folder / REGISTRY_FILE_NAME) as store:
        rows: list[PermanentRow] = []
        for payment, served in messages(MESSAGES, random.Random(1)):
            spec = served["appSpecifications"]
            rows.append(
                PermanentRow(
                    served["hash"],
                    served["type"],
                    served["version"],
                    stringify(spec),
                    spec["name"],
                    spec["owner"],
                    served["timestamp"],
                    served["signature"],
                    payment.txid,
                    payment.height,
                    payment.value_sat,
                )
            )
            if len(rows) == 2000:
                await store.commit([AddPermanents(tuple(rows))])
                rows = []
        await store.commit([AddPermanents(tuple(rows))])


class Talk:
    """Gossip by three peers, and how long the node takes to pass it on."""

    def __init__(self) -> None:
        self.sent_s: dict[str, float] = {}
        self.latencies: list[float] = []

    async def join(self, target: NodePlace, node: NodePlace, *, task_status: trio.TaskStatus[None]) -> None:
        transport = WsTransport(PeerSettings(), bind_host=node.ip)
        hello = Hello(capabilities=frozenset(CAPABILITIES), uptime_s=10_000)
        async with (
            transport.dial(target.ip, places.API_PORT, hello, own_port=16127) as link,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._listen, link)
            nursery.start_soon(self._speak, link, transport, node)
            task_status.started()
            await trio.sleep_forever()

    async def _listen(self, link: Link) -> None:
        while True:
            message = await link.receive()
            frame = decode_frame(message) if isinstance(message, bytes) else None
            began = self.sent_s.pop(frame.hash, None) if isinstance(frame, HashPresent) else None
            if began is not None:
                self.latencies.append(1000 * (time.perf_counter() - began))

    async def _speak(self, link: Link, transport: WsTransport, node: NodePlace) -> None:
        key = node.key
        while True:
            now_ms = CLOCK.now_ms()
            apps = [{"name": "app", "hash": "ab" * 32}]
            data = {"type": "fluxapprunning", "version": 2, "apps": apps, "ip": node.ip}
            envelope = seal(data | {"broadcastedAt": now_ms}, key, now_ms)
            self.sent_s[envelope.data_hash] = time.perf_counter()
            await link.send(transport.prepare(envelope.text))
            await trio.sleep(3 * PAUSE_S)

    def take(self) -> list[float]:
        """What was measured since the last call, ascending."""
        values, self.latencies = sorted(self.latencies), []
        return values or [0.0]


def fetch(ip: str) -> tuple[float, float, int]:
    """Seconds to the first byte of the list itself and to its end, and its size unpacked."""
    size, body = 0, b""
    began = time.perf_counter()
    with socket.create_connection((ip, places.API_PORT)) as connection:
        lines = (
            "GET /apps/permanentmessages HTTP/1.1",
            f"Host: {ip}",
            "Accept-Encoding: gzip",
            "Connection: close",
        )
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        while not body.partition(b"\r\n\r\n")[2]:
            body += connection.recv(65536)
        first_s = time.perf_counter() - began
        while piece := connection.recv(65536):
            size += len(piece)
    return first_s, time.perf_counter() - began, size


async def measure(bench: Bench, target: NodePlace, others: tuple[NodePlace, ...], pid: int) -> None:
    talk = Talk()
    async with trio.open_nursery() as nursery:
        for node in others:
            await nursery.start(talk.join, target, node)
        await trio.sleep(2)
        talk.take()
        await trio.sleep(IDLE_S)
        idle = talk.take()
        before_mb = rss_mb(pid)
        firsts, wholes, size, peak_mb = [], [], 0, 0.0
        until = time.perf_counter() + IDLE_S
        while time.perf_counter() < until:
            first_s, whole_s, size = await trio.to_thread.run_sync(fetch, target.ip)
            firsts.append(first_s)
            wholes.append(whole_s)
            peak_mb = max(peak_mb, rss_mb(pid))
        busy = talk.take()
        nursery.cancel_scope.cancel()
    bench.add(
        "first byte", 1000 * max(firsts), "ms", goal=300, better="lower", note=f"worst of {len(firsts)}"
    )
    bench.add("whole list", min(wholes), "s", note=f"{size / 2**20:.1f} MiB gzipped")
    bench.add("memory while serving", peak_mb - before_mb, "MB", note="more than before")
    for name, place in (("p50", 0.5), ("p95", 0.95)):
        base = f"gossip latency {name}, idle"
        bench.add(base, idle[int(len(idle) * place)], "ms", note=f"{len(idle)} messages")
        bench.add(
            f"gossip latency {name}, serving",
            busy[int(len(busy) * place)],
            "ms",
            baseline=base,
            goal=2 * idle[int(len(idle) * place)],
            better="lower",
            note=f"{len(busy)} messages",
        )


def main() -> int:
    bench = Bench(f"Serving the list of {MESSAGES:,} paid messages to one reader after the other")
    with tempfile.TemporaryDirectory() as folder:
        layout = places.plan(Path(folder), 4, OFFSET)
        overrides = {"peers.min_inbound": 16, "peers.discovery_autostart": False, "log.level": "warning"}
        places.write(layout, random.Random(1), overrides)
        target = layout.nodes[0]
        trio.run(fill, target)
        with stub(layout), running(target) as (process, _):
            time.sleep(6)
            trio.run(measure, bench, target, layout.nodes[1:], process.pid)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
