"""The application behind the real front door: what only sockets show (api.md §1.3, §10)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from trionode.api.frontdoor import FrontDoor
from trionode.config.tree import PeerSettings
from trionode.peers.link import InboundRequest
from trionode.peers.ws import WsTransport

pytestmark = [pytest.mark.trio, pytest.mark.process]

HOST = "127.78.0.1"
WITHIN_S = 60
USER_TIMEOUT_MS = 300_000
"""A client that does not read on purpose must not be given up before the test has written all."""


class Connection:
    """One client connection; answers are read by hand."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def ask(self, method: str, path: str, *headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", *headers, "", ""]
        await self.stream.send_all("\r\n".join(lines).encode())

    async def until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`."""
        with trio.fail_after(WITHIN_S):
            while mark not in self.buffer:
                received = await self.stream.receive_some()
                assert received, self.buffer
                self.buffer += received
        found, _, self.buffer = self.buffer.partition(mark)
        return found + mark

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.until(b"\r\n\r\n")).decode().split("\r\n")
        members = [line.split(": ", 1) for line in lines[1:] if line]
        return int(lines[0].split()[1]), {name.lower(): value for name, value in members}

    async def body(self, length: int) -> bytes:
        with trio.fail_after(WITHIN_S):
            while len(self.buffer) < length:
                self.buffer += await self.stream.receive_some()
        found, self.buffer = self.buffer[:length], self.buffer[length:]
        return found


@asynccontextmanager
async def served(node: Any) -> AsyncIterator[Any]:
    """Yields a function that opens connections to the node's front door."""

    async def no_peers(_: InboundRequest) -> None:
        return None

    door = FrontDoor(
        node.context.settings.api,
        host=HOST,
        port=0,
        app=node.app,
        transport=WsTransport(PeerSettings()),
        on_peer=no_peers,
        counters=node.counters,
        tcp_user_timeout_ms=USER_TIMEOUT_MS,
        grace_s=0.3,
    )

    with trio.fail_after(2 * WITHIN_S):
        async with AsyncExitStack() as clients, trio.open_nursery() as nursery:

            async def connect() -> Connection:
                stream = await trio.open_tcp_stream(HOST, door.port, local_address="127.78.0.2")
                return Connection(await clients.enter_async_context(stream))

            await nursery.start(door.run)
            yield connect
            nursery.cancel_scope.cancel()


async def test_keep_alive_head_and_not_modified(node: Any) -> None:
    async with served(node) as connect:
        client = await connect()
        await client.ask("GET", "/apps/locations")
        status, got = await client.head()
        assert status == 200
        assert await client.body(int(got["content-length"])) == b'{"status":"success","data":[]}'
        await client.ask("HEAD", "/apps/locations")
        status, head = await client.head()
        assert (status, head["content-length"], head["etag"]) == (200, "30", got["etag"])
        assert head["cache-control"].startswith("max-age=")
        await client.ask("GET", "/apps/locations", f"If-None-Match: {got['etag']}")
        status, _ = await client.head()
        assert status == 304
        await client.ask("GET", "/flux/version")
        status, answer = await client.head()
        assert await client.body(int(answer["content-length"])) == b'{"status":"success","data":"8.13.1"}'


async def test_the_callers_address_is_the_sockets(node: Any) -> None:
    async with served(node) as connect:
        client = await connect()
        await client.ask("GET", "/flux/addoutgoingpeer/127.78.0.2:16137")
        _, head = await client.head()
        assert b"initiated" in await client.body(int(head["content-length"]))
        assert node.peers.dialled == [("127.78.0.2", 16137, "deterministic")]


async def test_stream_headers_come_at_once_events_as_they_happen(node: Any) -> None:
    async with served(node) as connect:
        client = await connect()
        await client.ask("GET", "/flux/eventstream")
        status, head = await client.head()
        assert status == 200
        assert head["content-type"] == "text/event-stream"
        assert head["cache-control"] == "no-cache"
        assert head["connection"] == "keep-alive"
        assert head["x-accel-buffering"] == "no"
        for number in (1, 2):
            node.bus.publish("a:b", {"n": number})
            record = await client.until(b"\n\n")
            assert record.endswith(f'event: a:b\ndata: {{"n":{number}}}\nid: {number}\n\n'.encode())


async def test_a_client_that_leaves_is_forgotten(node: Any) -> None:
    async with served(node) as connect:
        client = await connect()
        await client.ask("GET", "/flux/eventstream")
        node.bus.publish("a:b")
        await client.until(b"id: 1\n")
        assert len(node.bus._subscriptions) == 1
        await client.stream.aclose()
        with trio.fail_after(WITHIN_S):
            while node.bus._subscriptions:  # noqa: ASYNC110 - the server tells nobody that it noticed
                await trio.sleep(0.01)


async def test_a_client_that_does_not_read_neither_slows_nor_holds_the_node(node: Any) -> None:
    node.configure("api", event_ring=64)
    async with served(node) as connect:
        idle, lively = await connect(), await connect()
        for client in (idle, lively):
            await client.ask("GET", "/flux/eventstream")
            await client.head()
        text = "x" * 65_536
        for number in range(1, 401):
            node.bus.publish("big", {"n": number, "text": text})
            record = await lively.until(b"\n\n")
            assert f"id: {number}\n".encode() in record
        # now the idle one reads: a first part that was under way, then what it lost, then the newest
        gap = await idle.until(b"stream:gap\ndata: ")
        assert gap.count(b"event: big") < 300
        await idle.until(b"id: 400\n")


async def test_a_long_answer_arrives_whole_and_packed(node: Any) -> None:
    node.log.index.rows = [
        node.Location(f"app{number}", "ab" * 32, f"127.1.{number % 250}.1") for number in range(8000)
    ]
    async with served(node) as connect:
        client = await connect()
        await client.ask("GET", "/apps/locations")
        _, plain = await client.head()
        content = await client.body(int(plain["content-length"]))
        assert content.count(b'"name"') == 8000
        await client.ask("GET", "/apps/locations", "Accept-Encoding: gzip")
        _, packed = await client.head()
        assert packed["content-encoding"] == "gzip"
        assert int(packed["content-length"]) < len(content) / 10
        assert packed["etag"] == plain["etag"]
