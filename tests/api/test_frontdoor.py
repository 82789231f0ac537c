"""FrontDoor: one port for HTTP and peers, its bounds, and that stopping it never hangs."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from apirequests import read_all, until
from quart import Response, request, websocket
from quart_trio import QuartTrio

from trionode.api.frontdoor import FrontDoor
from trionode.config.tree import ApiSettings, PeerSettings
from trionode.errors import StartupError
from trionode.peers.link import DialError, Hello, InboundRequest, LinkClosed
from trionode.peers.ws import WsTransport
from trionode.runtime.counters import Counters

HOST = "127.78.0.31"
SETTINGS = ApiSettings(head_timeout_s=60, head_limit_bytes=4096, max_connections=40)
USER_TIMEOUT_MS = 300_000
"""Clients that do not read on purpose must not be given up before the test is over."""
PEERS = PeerSettings(close_timeout_s=0.5, handshake_timeout_s=60.0, send_timeout_s=300.0)
pytestmark = pytest.mark.usefixtures("patient_answers")


class House:
    """A front door with a small app and an echoing peer handler."""

    def __init__(self, settings: ApiSettings = SETTINGS, *, grace_s: float = 0.3, port: int = 0) -> None:
        self.counters = Counters()
        self.slow_began = trio.Event()
        self.transport = WsTransport(PEERS)
        self.door = FrontDoor(
            settings,
            host=HOST,
            port=port,
            app=make_app(self.slow_began),
            transport=self.transport,
            on_peer=self.on_peer,
            counters=self.counters,
            tcp_user_timeout_ms=USER_TIMEOUT_MS,
            grace_s=grace_s,
        )
        self.crash_peers = False
        self.dial_ports: list[str] = []

    async def on_peer(self, inbound: InboundRequest) -> None:
        if self.crash_peers:
            raise ZeroDivisionError("a bug in the peer service")
        self.dial_ports.append(inbound.dial_port)
        async with inbound.accept(Hello(version="8.13.1")) as link:
            try:
                while True:
                    await link.send(self.transport.prepare(await link.receive()))
            except LinkClosed:
                return

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(HOST, self.door.port)

    async def ask(self, raw: bytes) -> bytes:
        """Send raw bytes on a new connection and read until it closes."""
        async with await self.connect() as stream:
            await stream.send_all(raw)
            return await read_all(stream)

    async def get(self, path: str) -> tuple[int, bytes]:
        answer = await self.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    async def echo(self, text: str = "hello peer") -> str | bytes:
        async with self.transport.dial(HOST, self.door.port, Hello(), own_port=16137) as link:
            await link.send(self.transport.prepare(text))
            return await link.receive()


def make_app(slow_began: trio.Event | None = None) -> QuartTrio:
    app = QuartTrio("house")

    @app.get("/json")
    async def json() -> dict[str, int]:
        return {"a": 1}

    @app.post("/size")
    async def size() -> dict[str, int]:
        return {"size": len(await request.get_data())}

    @app.get("/crash")
    async def crash() -> str:
        raise RuntimeError("a route that fails")

    @app.get("/flood")
    async def flood() -> Response:
        async def events() -> AsyncIterator[bytes]:
            while True:
                yield b"data: " + b"x" * 65536 + b"\n\n"

        response = Response(events(), content_type="text/event-stream")
        response.timeout = None
        return response

    @app.get("/slow")
    async def slow() -> dict[str, bool]:
        if slow_began is not None:
            slow_began.set()
        await trio.sleep(0.15)
        return {"finished": True}

    @app.websocket("/ws/flux/<port>")
    async def never(port: str) -> None:
        await websocket.send("the app must never see a peer")

    return app


@asynccontextmanager
async def opened(settings: ApiSettings = SETTINGS, *, grace_s: float = 0.3) -> AsyncIterator[House]:
    house = House(settings, grace_s=grace_s)
    with trio.fail_after(250):
        async with trio.open_nursery() as nursery:
            await nursery.start(house.door.run)
            yield house
            nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_http_and_peers_share_one_port() -> None:
    async with opened() as house:
        assert await house.get("/json") == (200, b'{"a":1}\n')
        assert await house.echo() == "hello peer"
        assert house.dial_ports == ["16137"]
        assert (await house.get("/missing"))[0] == 404
        assert (await house.get("/crash"))[0] == 500
        assert (await house.get("/ws/flux/16127"))[0] != 101
        assert house.counters["front_door.crashed"] == 0


@pytest.mark.trio
async def test_keep_alive_and_a_head_in_pieces() -> None:
    async with opened() as house, await house.connect() as stream:
        for _ in range(3):
            for piece in (b"GET /js", b"on HTTP/1.1\r\nHo", b"st: x\r\n\r", b"\n"):
                await stream.send_all(piece)
                await trio.sleep(0.01)
            answer = b""
            while b'{"a":1}\n' not in answer:
                answer += await stream.receive_some()
            assert answer.startswith(b"HTTP/1.1 200")
        body = b"y" * 20_000
        await stream.send_all(b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + body)
        answer = b""
        while b"}" not in answer:
            answer += await stream.receive_some()
        assert b'{"size":20000}' in answer
        assert house.counters["front_door.accepted"] == 1


@pytest.mark.trio
async def test_pipelined_requests_and_a_body_behind_the_head_arrive() -> None:
    async with opened() as house:
        answer = await house.ask(
            b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
            b"GET /json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert b'{"size":3}' in answer
        assert b'{"a":1}' in answer


UPGRADE = (
    "GET {} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (UPGRADE.format("/ws/id/phrase"), 404),
        (UPGRADE.format("/ws/flux?x"), 404),
        (UPGRADE.format("/ws/flux/%zz"), 400),
        (UPGRADE.format("/socket.io/?EIO=4&transport=websocket"), 404),
        (UPGRADE.format("/flux/eventstream"), 404),
        (UPGRADE.format("/ws/flux/1").replace("Version: 13", "Version: 7"), 426),
        ("GET /" + "a" * 5000 + " HTTP/1.1\r\n\r\n", 431),
        ("GET / HTTP/1.1\r\n" + "X: y\r\n" * 5000, 431),
    ],
)
async def test_refusals_are_proper_answers(raw: str, status: int) -> None:
    async with opened() as house:
        answer = await house.ask(raw.encode())
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.split(b"\r\n\r\n", 1)[1]


@pytest.mark.trio
async def test_a_late_upgrade_on_a_keep_alive_connection_harms_nobody() -> None:
    async with opened() as house:
        async with await house.connect() as stream:
            await stream.send_all(b"GET /json HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.receive_some()
            await stream.send_all(UPGRADE.format("/ws/flux/1").encode() + b"\xff" * 20)
            await trio.sleep(0.1)
        assert await house.get("/json") == (200, b'{"a":1}\n')


@pytest.mark.trio
async def test_waiting_connections_make_room_for_new_ones() -> None:
    async with opened(ApiSettings(head_timeout_s=30, max_connections=5)) as house:
        idle = [await house.connect() for _ in range(8)]
        # They are accepted, and then one after the other let go, some time after they connect here.
        await until(lambda: house.counters["front_door.accepted"] == 8 and house.door.connections == 5)
        assert await house.get("/json") == (200, b'{"a":1}\n')
        assert await house.echo() == "hello peer"
        for stream in idle:
            await stream.aclose()


@pytest.mark.trio
async def test_busy_connections_do_not_make_room() -> None:
    async with opened(ApiSettings(max_connections=3)) as house:
        busy = [await house.connect() for _ in range(3)]
        for stream in busy:
            await stream.send_all(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.receive_some()
        answer = await house.ask(b"")
        assert answer.startswith(b"HTTP/1.1 503 ")
        for stream in busy:
            await stream.aclose()


@pytest.mark.trio
async def test_a_crash_of_the_peer_service_ends_that_connection_only() -> None:
    async with opened() as house:
        house.crash_peers = True
        with pytest.raises(DialError):
            await house.echo()
        house.crash_peers = False
        assert house.counters["front_door.crashed"] == 1
        assert await house.echo() == "hello peer"


@pytest.mark.trio
async def test_a_stray_cancellation_stays_in_its_connection() -> None:
    house = House()

    async def leak(_inbound: InboundRequest) -> None:
        # what hypercorn's TaskGroup does when its own scope is cancelled: the result is dropped
        manager = trio.open_nursery()
        nursery = await manager.__aenter__()
        nursery.cancel_scope.cancel()
        try:
            await trio.sleep(1)
        except trio.Cancelled as error:
            await manager.__aexit__(type(error), error, error.__traceback__)
            raise

    house.door._on_peer = leak
    async with trio.open_nursery() as nursery:
        await nursery.start(house.door.run)
        with pytest.raises(DialError):
            await house.echo()
        house.door._on_peer = house.on_peer
        assert await house.echo() == "hello peer"
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_it_survives_a_shortage_of_file_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    real = trio.SocketListener.accept
    failures = [errno.EMFILE, errno.ECONNABORTED, errno.ENFILE]

    async def accept(self: trio.SocketListener) -> trio.SocketStream:
        stream = await real(self)
        if failures:
            await stream.aclose()
            raise OSError(failures.pop(), "made up")
        return stream

    monkeypatch.setattr(trio.SocketListener, "accept", accept)
    async with opened() as house:
        for _ in range(3):
            await (await house.connect()).aclose()
        assert await house.get("/json") == (200, b'{"a":1}\n')
        assert house.counters["front_door.accept.short_of_resources"] == 2
        assert house.counters["front_door.accept.lost"] == 1


@pytest.mark.trio
async def test_a_busy_port_is_named_with_its_remedy() -> None:
    async with opened() as house:
        port = house.door.port
        with pytest.raises(StartupError, match=f"port {port} .*already in use") as caught:
            await House(port=port).door.run()
        assert "node.api_port" in caught.value.remedy
    with pytest.raises(StartupError, match="no address") as caught:
        await FrontDoor(
            SETTINGS,
            host="198.51.100.7",
            port=0,
            app=make_app(),
            transport=house.transport,
            on_peer=house.on_peer,
            counters=house.counters,
        ).run()
    assert "node.bind_host" in caught.value.remedy


@pytest.mark.trio
async def test_the_port_is_free_again_after_stopping() -> None:
    async with opened() as house:
        port = house.door.port
        await house.get("/json")
    again = House(port=port)
    async with trio.open_nursery() as nursery:
        await nursery.start(again.door.run)
        assert await again.get("/json") == (200, b'{"a":1}\n')
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_request_under_way_is_finished_before_stopping() -> None:
    answers: list[tuple[int, bytes]] = []
    house = House(grace_s=60.0)
    async with trio.open_nursery() as clients:
        async with trio.open_nursery() as nursery:
            await nursery.start(house.door.run)

            async def ask() -> None:
                answers.append(await house.get("/slow"))

            clients.start_soon(ask)
            await house.slow_began.wait()
            start = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - start < 50, "the whole grace was waited for"
    assert answers == [(200, b'{"finished":true}\n')]


@pytest.mark.trio
async def test_stopping_does_not_wait_for_clients_that_do_not_read() -> None:
    house = House(grace_s=0.5)
    streams: list[trio.SocketStream] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(house.door.run)
        flood = await house.connect()
        await flood.send_all(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        peer = await house.connect()
        await peer.send_all(UPGRADE.format("/ws/flux/1").encode())
        await peer.receive_some(1)
        # frames the handler echoes until nobody takes the echoes any more
        frame = b"\x82\xff" + (60_000 + 9_000).to_bytes(8, "big") + bytes(4) + bytes(69_000)
        with trio.move_on_after(1):
            while True:
                await peer.send_all(frame)
        idle = await house.connect()
        half = await house.connect()
        await half.send_all(b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        streams += [flood, peer, idle, half]
        await until(lambda: house.door.connections == 4)
        await trio.sleep(0.3)
        assert house.door.connections == 4
        start = time.monotonic()
        nursery.cancel_scope.cancel()
    # None of these clients would ever go by itself.
    assert time.monotonic() - start < 60
    assert house.door.connections == 0
    assert house.counters["front_door.forced_close"] >= 1
    for stream in streams:
        await stream.aclose()


@pytest.mark.trio
async def test_connections_inherit_the_user_timeout() -> None:
    timeouts: list[int] = []
    house = House()

    async def look(inbound: InboundRequest) -> None:
        for stream in house.door._streams.values():
            timeouts.append(stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
            timeouts.append(stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    house.door._on_peer = look
    async with trio.open_nursery() as nursery:
        await nursery.start(house.door.run)
        with pytest.raises(DialError):
            await house.echo()
        nursery.cancel_scope.cancel()
    assert timeouts == [USER_TIMEOUT_MS, 1]
