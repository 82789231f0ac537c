"""Hostile input against a real front door: whatever is sent, the node lives and answers others.

16 inputs that are known to end other servers, and 240 more built from a seed.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
import trio
from quart import request
from quart_trio import QuartTrio

from trionode.api.frontdoor import FrontDoor
from trionode.config.tree import ApiSettings, PeerSettings
from trionode.peers.deflate import compress
from trionode.peers.link import Hello, InboundRequest, LinkClosed
from trionode.peers.ws import WsTransport
from trionode.peers.wsframes import data_frame
from trionode.runtime.counters import Counters

HOST = "127.78.0.32"
KEY_LINE = b"Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n"
WS = (
    b"GET /ws/flux/16127 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    + KEY_LINE
    + b"Sec-WebSocket-Version: 13\r\n\r\n"
)
WS_DEFLATE = WS[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
MASK = b"\x01\x02\x03\x04"
BOMB = data_frame(compress(bytes(4 << 20), 15), text=True, compressed=True, mask_key=MASK)


class Script(msgspec.Struct, frozen=True):
    """What one hostile client does. `read` = wait for an answer before the next part."""

    name: str
    parts: tuple[bytes, ...]
    read: bool = True
    reset: bool = False
    half_close: bool = False
    chunk_bytes: int = 1 << 20
    times: int = 1


def known() -> list[Script]:
    get = b"GET /json HTTP/1.1\r\nHost: x\r\n"
    post = b"POST /json HTTP/1.1\r\nHost: x\r\n"
    return [
        Script("byte behind the upgrade", (WS + b"x",)),
        Script("impossible frame", (WS, b"\xff" * 10)),
        Script("frame without mask", (WS, b"\x81\x02hi")),
        Script("text that is not UTF-8", (WS, b"\x81\x82\0\0\0\0\xff\xfe")),
        Script("no key", (WS.replace(KEY_LINE, b""),)),
        Script("no version", (WS.replace(b"Sec-WebSocket-Version: 13\r\n", b""),)),
        Script("odd extension", (WS_DEFLATE.replace(b"deflate", b"deflate; server_max_window_bits=abc"),)),
        Script("data behind a closing request", (get + b"Connection: close\r\n\r\nEXTRA",)),
        Script("reset after the upgrade", (WS,), reset=True),
        Script("path that is not ASCII", (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",)),
        Script("peer path that is not ASCII", (WS.replace(b"/ws/flux", b"/ws/fl\xe9x"),)),
        Script("reset inside a body", (post + b"Content-Length: 100\r\n\r\nabc",), read=False, reset=True),
        Script("connect and reset", (), reset=True, times=20),
        Script("HTTP/2 preface", (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\xff\0\0\0\0\0garbage",)),
        Script(
            "h2c upgrade",
            (get + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: !!!\r\n\r\n",),
        ),
        Script("broken chunk", (post + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",)),
    ]


def head(rng: random.Random) -> bytes:
    """A request head, often a damaged one."""
    raw = bytearray(rng.choice([WS, WS, WS_DEFLATE, b"GET /json HTTP/1.1\r\nHost: x\r\n\r\n"]))
    match rng.randrange(8):
        case 0:
            for _ in range(rng.randint(1, 6)):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
        case 1:
            del raw[rng.randrange(len(raw)) :]
        case 2:
            raw = raw.replace(b"Host: x", b"Host: " + rng.randbytes(rng.randint(1, 40)))
        case 3:
            raw[-2:] = b"X-Flux-Capabilities: " + b"a," * rng.randint(1, 6000) + b"\r\n\r\n"
        case 4:
            raw = raw.replace(b"/16127", rng.choice([b"/%", b"/%ff", b"//", b"?q", b"/" + b"9" * 3000]))
    return bytes(raw)


def frame(rng: random.Random) -> bytes:
    """A client frame, often a wrong one."""
    payload = rng.randbytes(rng.choice([0, 1, 5, 125, 126, 300, 70_000]))
    good = bytearray(data_frame(payload, text=False, compressed=False, mask_key=rng.randbytes(4)))
    match rng.randrange(12):
        case 0:
            good[0] = rng.randrange(256)
        case 1:
            good[1] &= 0x7F
        case 2:
            good[0] = 0x09
        case 3:
            good[0] = rng.choice([0x00, 0x80, 0x02, 0x01])
        case 4:
            return b"\x82\xff" + rng.choice([1 << 62, 1 << 63, 1 << 40, 70_000, 3]).to_bytes(8, "big") + MASK
        case 5:
            return BOMB
        case 6:
            return data_frame(rng.randbytes(400), text=True, compressed=True, mask_key=MASK)
        case 7:
            code = rng.randbytes(rng.randint(0, 3))
            closing = data_frame(code, text=True, compressed=False, mask_key=MASK)
            return b"\x88" + closing[1:]
        case 8:
            return rng.randbytes(rng.randint(1, 2000))
    return bytes(good)


def fuzzed(seed: int) -> Script:
    rng = random.Random(seed)
    first = head(rng)
    frames = b"".join(frame(rng) for _ in range(rng.randint(0, 6)))
    together = rng.random() < 0.3
    return Script(
        f"seed {seed}",
        (first + frames,) if together else (first, frames),
        read=rng.random() < 0.7,
        reset=rng.random() < 0.3,
        half_close=rng.random() < 0.2,
        chunk_bytes=rng.choice([1, 7, 100, 1 << 20]) if len(frames) < 5000 else 1 << 20,
    )


class House:
    def __init__(self, head_timeout_s: float) -> None:
        self.counters = Counters()
        self.transport = WsTransport(
            PeerSettings(close_timeout_s=0.2, handshake_timeout_s=60.0, max_message_bytes=1 << 20)
        )
        app = QuartTrio("hostile")

        @app.route("/json", methods=["GET", "POST"])
        async def json() -> dict[str, int]:
            return {"size": len(await request.get_data())}

        self.door = FrontDoor(
            ApiSettings(head_timeout_s=head_timeout_s, max_connections=64),
            host=HOST,
            port=0,
            app=app,
            transport=self.transport,
            on_peer=self.on_peer,
            counters=self.counters,
            grace_s=0.5,
        )

    async def on_peer(self, inbound: InboundRequest) -> None:
        async with inbound.accept(Hello(version="8.13.1")) as link:
            try:
                while True:
                    await link.send(self.transport.prepare(await link.receive()))
            except LinkClosed:
                return

    async def attack(self, script: Script) -> None:
        for _ in range(script.times):
            stream = await trio.open_tcp_stream(HOST, self.door.port)
            async with stream:
                with trio.move_on_after(0.5):
                    # it may throw us out
                    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                        await self._play(stream, script)
                if script.reset:
                    linger = struct.pack("ii", 1, 0)
                    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async def _play(self, stream: trio.SocketStream, script: Script) -> None:
        for part in script.parts:
            for start in range(0, len(part), script.chunk_bytes):
                await stream.send_all(part[start : start + script.chunk_bytes])
                await trio.lowlevel.checkpoint()
            if script.read:
                with trio.move_on_after(0.05):
                    await stream.receive_some()
        if script.half_close:
            await stream.send_eof()
            while await stream.receive_some():
                pass

    async def still_serves(self) -> None:
        with trio.fail_after(90):
            async with await trio.open_tcp_stream(HOST, self.door.port) as stream:
                await stream.send_all(b"POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
                answer = b""
                while b'{"size":3}' not in answer:
                    chunk = await stream.receive_some()
                    assert chunk, answer
                    answer += chunk
            async with self.transport.dial(HOST, self.door.port, Hello(), own_port=16127) as link:
                await link.send(self.transport.prepare("alive"))
                assert await link.receive() == "alive"
                await link.ping()


@asynccontextmanager
async def opened(head_timeout_s: float = 60.0) -> AsyncIterator[House]:
    house = House(head_timeout_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(house.door.run)
        yield house
        await house.still_serves()
        nursery.cancel_scope.cancel()
    assert house.door.connections == 0


async def attack_in_parallel(scripts: list[Script], at_once: int) -> House:
    async with opened() as house:
        limit = trio.CapacityLimiter(at_once)

        async def one(script: Script) -> None:
            async with limit:
                await house.attack(script)

        for start in range(0, len(scripts), 60):
            async with trio.open_nursery() as nursery:
                for script in scripts[start : start + 60]:
                    nursery.start_soon(one, script)
            await house.still_serves()
    return house


@pytest.mark.trio
@pytest.mark.parametrize("script", known(), ids=lambda script: script.name)
async def test_known_killers(script: Script) -> None:
    async with opened() as house:
        await house.attack(script)


@pytest.mark.trio
async def test_two_hundred_and_forty_more() -> None:
    scripts = [fuzzed(seed) for seed in range(240)]
    house = await attack_in_parallel(scripts, at_once=12)
    accepted = house.counters["front_door.accepted"]
    assert accepted >= len(scripts)
    # the fuzzer must reach every branch to be worth its time
    for name in ("peer", "http", "refused.head", "refused.upgrade"):
        assert house.counters[f"front_door.{name}"] > 0, name


def test_the_fuzzer_is_reproducible() -> None:
    assert fuzzed(7) == fuzzed(7)
    assert fuzzed(7) != fuzzed(8)


async def until_closed(stream: trio.SocketStream) -> bytes:
    data = b""
    with trio.fail_after(60):
        while chunk := await stream.receive_some():
            data += chunk
    return data


@pytest.mark.trio
async def test_silent_and_slow_clients_are_dropped_in_time() -> None:
    async with opened(1.0) as house:
        silent = await trio.open_tcp_stream(HOST, house.door.port)
        slow = await trio.open_tcp_stream(HOST, house.door.port)
        start = trio.current_time()

        async def drip() -> None:
            with suppress(trio.BrokenResourceError):
                for byte in b"GET / HTTP/1.1\r\nHost: " + b"x" * 60:
                    await slow.send_all(bytes([byte]))
                    await trio.sleep(0.05)

        async with silent, slow, trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            assert await until_closed(silent) == b""
            assert trio.current_time() - start < 30
        assert house.counters["front_door.refused.slow"] == 2
        # Whoever looks whether it still serves has time again.
        house.door._settings = msgspec.structs.replace(house.door._settings, head_timeout_s=60.0)


@pytest.mark.trio
async def test_other_protocols_are_told_from_http_at_once() -> None:
    async with opened() as house:
        start = trio.current_time()
        async with await trio.open_tcp_stream(HOST, house.door.port) as stream:
            await stream.send_all(b"\x16\x03\x01\x02\x00\x01\x00")
            assert await until_closed(stream) == b""
        assert house.counters["front_door.refused.head"] == 1
        assert trio.current_time() - start < 50


@pytest.mark.trio
async def test_closed_connections_free_their_place_at_once() -> None:
    async with opened() as house:
        for seed in (1009, 1035, 1041, 1049, 1066, 1088, 1144):
            await house.attack(fuzzed(seed))
        with trio.fail_after(30):
            while house.door.connections:  # noqa: ASYNC110 - a count, not an event
                await trio.sleep(0.02)
