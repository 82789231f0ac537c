"""Real GETs of other nodes, over sockets of the loopback range (docs/spec/registry.md §12)."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial

import pytest
import trio
from standstill import standstill

from trionode.sync.bulk import LIST_PATH
from trionode.sync.source import HttpSource, SourceError

pytestmark = pytest.mark.process

SERVER_IP, OWN_IP = "127.0.0.21", "127.0.0.22"
Answer = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    listeners = await trio.open_tcp_listeners(0, host=SERVER_IP)

    async def serve(stream: trio.SocketStream) -> None:
        # whoever does not like the beginning of an answer hangs up before its end
        with suppress(trio.BrokenResourceError):
            async with stream:
                await answer(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, serve, listeners))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def head_of(stream: trio.SocketStream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive_some(4096)
    return head


async def read(port: int) -> tuple[int, str, bytes]:
    source = HttpSource(source_ip=OWN_IP)
    async with (
        source.get(SERVER_IP, port, LIST_PATH) as body,
        aclosing(body.pieces) as pieces,
    ):
        return body.status, body.encoding, b"".join([piece async for piece in pieces])


@pytest.mark.trio
async def test_the_own_address_and_gzip_are_offered() -> None:
    seen: list[tuple[str, bytes]] = []
    packed = gzip.compress(b"x" * 300_000)

    async def answer(stream: trio.SocketStream) -> None:
        seen.append((stream.socket.getpeername()[0], await head_of(stream)))
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: GZIP\r\nContent-Length: %d\r\n\r\n"
        await stream.send_all(head % len(packed) + packed)

    async with serving(answer) as port:
        assert await read(port) == (200, "gzip", packed)
    assert seen[0][0] == OWN_IP
    assert seen[0][1].startswith(b"GET /apps/permanentmessages HTTP/1.1\r\n")
    assert b"accept-encoding: gzip" in seen[0][1].lower()


@pytest.mark.trio
async def test_chunked_bodies_come_whole() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            await stream.send_all(b"4\r\nabcd\r\n")
        await stream.send_all(b"0\r\n\r\n")

    async with serving(answer) as port:
        assert await read(port) == (200, "", b"abcd" * 3)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"", "hung up"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "whole HTTP"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "whole HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "whole HTTP"),
    ],
)
async def test_answers_that_are_none_are_named(said: bytes, told: str) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await head_of(stream)
        if said:
            await stream.send_all(said)

    async with serving(answer) as port:
        with pytest.raises(SourceError) as caught:
            await read(port)
    assert SERVER_IP in caught.value.message
    assert caught.value.remedy


@pytest.mark.trio
async def test_nobody_there_is_named() -> None:
    with pytest.raises(SourceError, match="cannot talk to"):
        await read(1)


@pytest.mark.trio
async def test_reading_stops_when_the_reader_does() -> None:
    """A peer is not read further than somebody wants: what it sends stays in its own socket."""
    sent = 0

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal sent
        await head_of(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            await stream.send_all(bytes(1 << 16))
            sent += 1 << 16

    async with (
        serving(answer) as port,
        HttpSource().get(SERVER_IP, port, "/") as body,
        aclosing(body.pieces) as pieces,
    ):
        await anext(pieces)
        await standstill(lambda: sent, least=1)
        assert sent < 50 << 20


@pytest.mark.trio
@pytest.mark.parametrize("ip", ["\ud800", f"{'a' * 64}.com", "192.0.2.1\0"])
async def test_a_text_that_is_no_host_is_an_address_nobody_answers_at(ip: str) -> None:
    with pytest.raises(SourceError, match="cannot talk"):
        async with HttpSource().get(ip, 16127, "/flux/version"):
            pass
