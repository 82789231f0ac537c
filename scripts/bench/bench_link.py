"""Peer links: throughput of one link and cost of a fan-out, beside plain trio-websocket.

Throughput: both ends in this process, so a figure is the CPU of sending and receiving together.
Fan-out: 40 clients in another process only read and discard; figures are microseconds per send.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import trio
import trio_websocket
from _harness import Bench

from trionode.config.tree import PeerSettings
from trionode.peers.link import Hello, Link
from trionode.peers.ws import WsTransport
from trionode.peers.wsstream import read_head

HOST = "127.0.0.1"
FAN_PEERS = 40
SECONDS = 1.5
ROUNDS = 3
PLAIN = "trio-websocket"
UPGRADE = (
    b"GET /ws/flux/16127 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\nSec-WebSocket-Version: 13\r\n"
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def message(size_bytes: int) -> str:
    """Text that packs about as well as a signed envelope does: hex noise and JSON."""
    noise = os.urandom(size_bytes // 4).hex()
    text = '{"version":1,"data":"' + noise + '","name":"' + "application" * (size_bytes // 11 + 1)
    return text[: size_bytes - 2] + '"}'


async def pump(send: Send, receive: Receive, item: Any) -> float:
    """Messages per second through one link, sender and receiver in this process."""
    done = 0
    stop = False

    async def sender() -> None:
        while not stop:
            await send(item)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        await receive()
        start = time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            for _ in range(20):
                await receive()
            done += 20
        elapsed = time.perf_counter() - start
        stop = True
        nursery.cancel_scope.cancel()
    return done / elapsed


async def accept_links(
    transport: WsTransport, count: int, use: Callable[[list[Link]], Awaitable[None]], port: int
) -> None:
    """Serve until `count` links are open, then call `use` with them."""
    links: list[Link] = []
    ready = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        head, rest = await read_head(stream, 16384)
        async with transport.inbound(stream, head, rest).accept(Hello()) as link:
            links.append(link)
            if len(links) == count:
                ready.set()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_tcp, handle, port)
        await ready.wait()
        await use(links)
        nursery.cancel_scope.cancel()


async def our_throughput(size_bytes: int, *, plain_wire: bool) -> float:
    """One link of ours; `plain_wire` sends below the compression threshold, as the baseline does."""
    threshold = 1 << 30 if plain_wire else 128
    transport = WsTransport(PeerSettings(compression_threshold_bytes=threshold))
    port = free_port()
    result: list[float] = []

    async def use(links: list[Link]) -> None:
        [far] = links
        near = dialled[0]
        text = message(size_bytes)
        result.append(await pump(lambda item: near.send(transport.prepare(item)), far.receive, text))

    dialled: list[Link] = []

    async def dial() -> None:
        await trio.sleep(0.05)
        async with transport.dial(HOST, port, Hello(), own_port=16127) as link:
            dialled.append(link)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        await accept_links(transport, 1, use, port)
        nursery.cancel_scope.cancel()
    return result[0]


async def plain_throughput(size_bytes: int) -> float:
    """One link of trio-websocket as it comes."""
    far: list[trio_websocket.WebSocketConnection] = []
    ready = trio.Event()

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        far.append(await request.accept())
        ready.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, handle, HOST, 0, None)
        near = await trio_websocket.connect_websocket(nursery, HOST, server.port, "/", use_ssl=False)
        await ready.wait()
        result = await pump(near.send_message, far[0].get_message, message(size_bytes))
        nursery.cancel_scope.cancel()
    return result


async def fan(send_to_all: Callable[[str], Awaitable[None]], size_bytes: int) -> float:
    """Microseconds per send, each message new, 40 sends a message."""
    texts = [message(size_bytes) for _ in range(50)]
    rounds: list[float] = []
    for _ in range(ROUNDS):
        sends, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < SECONDS / 2:
            for text in texts[:5]:
                await send_to_all(text)
                sends += FAN_PEERS
        rounds.append(elapsed / sends * 1e6)
    return median(rounds)


async def our_fan(size_bytes: int, *, deflate: bool) -> float:
    transport = WsTransport(PeerSettings())
    port = free_port()
    result: list[float] = []

    async def use(links: list[Link]) -> None:
        async def send_to_all(text: str) -> None:
            prepared = transport.prepare(text)
            for link in links:
                await link.send(prepared)

        result.append(await fan(send_to_all, size_bytes))

    drain = start_drain(port, deflate=deflate)
    try:
        await accept_links(transport, FAN_PEERS, use, port)
    finally:
        drain.kill()
        drain.wait()
    return result[0]


async def plain_fan(size_bytes: int) -> float:
    sockets: list[trio_websocket.WebSocketConnection] = []
    ready = trio.Event()

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        sockets.append(await request.accept())
        if len(sockets) == FAN_PEERS:
            ready.set()
        await trio.sleep_forever()

    async def send_to_all(text: str) -> None:
        for each in sockets:
            await each.send_message(text)

    port = free_port()
    async with trio.open_nursery() as nursery:
        await nursery.start(trio_websocket.serve_websocket, handle, HOST, port, None)
        drain = start_drain(port, deflate=False)
        try:
            await ready.wait()
            result = await fan(send_to_all, size_bytes)
        finally:
            drain.kill()
            drain.wait()
        nursery.cancel_scope.cancel()
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def start_drain(port: int, *, deflate: bool) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "--drain", str(port), str(int(deflate))])


def connect(port: int) -> socket.socket:
    """The server may still be starting."""
    for _ in range(100):
        with suppress(ConnectionError):
            return socket.create_connection((HOST, port))
        time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port}")


def drain_main(port: int, deflate: bool) -> None:
    """The other process: open the links, read and discard."""
    poll = selectors.DefaultSelector()
    for _ in range(FAN_PEERS):
        peer = connect(port)
        peer.sendall(UPGRADE + (DEFLATE if deflate else b"") + b"\r\n")
        poll.register(peer, selectors.EVENT_READ, peer)
    buffer = bytearray(1 << 20)
    with suppress(ConnectionError):  # the bench is over
        while True:
            for key, _events in poll.select():
                if not key.data.recv_into(buffer):
                    return


def main() -> None:
    if "--drain" in sys.argv:
        drain_main(int(sys.argv[2]), sys.argv[3] == "1")
        return
    bench = Bench("Peer links: ours beside plain trio-websocket")
    for label, size in (("1 KB", 1024), ("64 KB", 65536)):
        name = f"link {label}, {PLAIN}"
        bench.add(name, median([trio.run(plain_throughput, size) for _ in range(ROUNDS)]), "msg/s")
        for form, plain_wire in (("", True), (" deflated", False)):
            run = partial(our_throughput, size, plain_wire=plain_wire)
            ours = median([trio.run(run) for _ in range(ROUNDS)])
            bench.add(f"link {label}{form}", ours, "msg/s", baseline=name)
    for label, size, goal in (("1 KB", 1024, 25.0), ("64 KB", 65536, None)):
        name = f"fan-out to {FAN_PEERS}, {label}, {PLAIN}"
        bench.add(name, trio.run(plain_fan, size), "us/send", better="lower")
        for form, deflate in (("", False), (" deflated", True)):
            ours = trio.run(partial(our_fan, size, deflate=deflate))
            bench.add(
                f"fan-out to {FAN_PEERS}, {label}{form}",
                ours,
                "us/send",
                baseline=name,
                goal=goal,
                better="lower",
            )
    raise SystemExit(bench.finish())


if __name__ == "__main__":
    main()
