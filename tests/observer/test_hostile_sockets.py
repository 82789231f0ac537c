"""Sources that misbehave on the wire itself: each costs its time limit at most, and little memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from trionode.observer.answers import NODES_PATH, read_nodes
from trionode.observer.reading import Reader
from trionode.runtime.counters import Counters
from trionode.sync.source import HttpSource, SourceError

pytestmark = pytest.mark.process

HOST = "127.0.0.23"
LIMIT_BYTES = 1_000_000
OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def says_nothing(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def drips(stream: trio.SocketStream) -> None:
    await stream.send_all(OK)
    while True:
        await stream.send_all(b"1\r\n \r\n")
        await trio.sleep(0.02)


async def never_ends(stream: trio.SocketStream) -> None:
    await stream.send_all(OK)
    while True:
        await stream.send_all(b"10000\r\n" + b" " * 65_536 + b"\r\n")


async def never_begins(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    while True:
        await stream.send_all(b"X-Header: " + b"x" * 60_000 + b"\r\n")


async def announces_for_ever(stream: trio.SocketStream) -> None:
    while True:
        await stream.send_all(b"HTTP/1.1 103 Early Hints\r\n\r\n")


async def hangs_up_half_way(stream: trio.SocketStream) -> None:
    await stream.send_all(OK + b'5\r\n[{"ip')


async def is_no_http(stream: trio.SocketStream) -> None:
    await stream.send_all(b"\x00\x01 SSH-2.0 something\r\n\r\n")


async def redirects(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n")


async def packs_oddly(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n[]")


@pytest.mark.trio
@pytest.mark.parametrize(
    "manner",
    [
        says_nothing,
        drips,
        never_ends,
        never_begins,
        announces_for_ever,
        hangs_up_half_way,
        is_no_http,
        redirects,
        packs_oddly,
    ],
)
async def test_a_source_with_bad_manners_is_given_up(
    manner: Callable[[trio.SocketStream], Awaitable[None]],
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some(4096)
            await manner(stream)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    listeners = await trio.open_tcp_listeners(0, host=HOST)
    port = listeners[0].socket.getsockname()[1]
    reader = Reader(HttpSource(), Counters())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, serve, listeners))
        with trio.fail_after(90), pytest.raises(SourceError):
            await reader.long(HOST, port, NODES_PATH, read_nodes, limit_s=0.5, limit_bytes=LIMIT_BYTES)
        nursery.cancel_scope.cancel()
