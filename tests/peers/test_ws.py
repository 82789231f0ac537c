"""WsTransport on real sockets, against a raw peer that follows no rules (wire.md §1)."""

from __future__ import annotations

import gc
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
import trio
import trio.lowlevel
from standstill import standstill

from trionode.config.tree import PeerSettings
from trionode.peers.deflate import compress
from trionode.peers.link import DialError, Hello, Link, LinkClosed
from trionode.peers.ws import WsTransport
from trionode.peers.wsframes import data_frame
from trionode.peers.wslink import QUEUE_BYTES, WsLink
from trionode.peers.wsstream import INFLATE_SLICE_BYTES, read_head

KEY = b"\x11\x22\x33\x44"
PATIENT = PeerSettings(
    handshake_timeout_s=60.0,
    close_timeout_s=60.0,
    send_timeout_s=60.0,
    invite_timeout_s=60.0,
    max_message_bytes=1 << 20,
)
"""Limits that no test waits for; one that is about a limit shortens that one."""
UPGRADE = (
    b"GET /ws/flux/16137 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\nSec-WebSocket-Version: 13\r\n"
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


def frame(payload: bytes, first: int = 0x82) -> bytes:
    """A masked client frame with any first byte."""
    plain = bytearray(data_frame(payload, text=False, compressed=False, mask_key=KEY))
    plain[0] = first
    return bytes(plain)


def close_of(data: bytes) -> int:
    """Code of the close frame a server sent."""
    assert data[0] == 0x88, data[:20]
    return int(struct.unpack("!H", data[2:4])[0])


@asynccontextmanager
async def served(
    handler: Callable[[Link], Awaitable[None]],
    *,
    settings: PeerSettings = PATIENT,
    extra: bytes = b"",
    behind: bytes = b"",
) -> AsyncIterator[Raw]:
    """Our link on one side, on the other a raw client stream behind the handshake."""
    transport = WsTransport(settings)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listener.socket.getsockname()

    async def serve() -> None:
        stream = await listener.accept()
        async with stream:
            head, rest = await read_head(stream, 16384)
            async with transport.inbound(stream, head, rest).accept(Hello(version="us")) as link:
                await handler(link)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        raw = await trio.open_tcp_stream("127.0.0.1", address[1])
        async with raw, listener:
            await raw.send_all(UPGRADE + extra + b"\r\n" + behind)
            answer, rest = await read_head(raw, 16384)
            assert b"101" in answer
            yield Raw(raw, rest)
        nursery.cancel_scope.cancel()


class Raw:
    """The raw peer behind the handshake; our first frames may have come in one packet with it."""

    def __init__(self, stream: trio.SocketStream, rest: bytes) -> None:
        self._stream = stream
        self._rest = rest
        self.send_all = stream.send_all

    async def receive_some(self) -> bytes:
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        return bytes(await self._stream.receive_some())


class Seen:
    """Receives until the end and remembers everything."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.closed: LinkClosed | None = None
        self.done = trio.Event()

    async def __call__(self, link: Link) -> None:
        try:
            while True:
                self.messages.append(await link.receive())
        except LinkClosed as error:
            self.closed = error
        finally:
            self.done.set()


async def read_all(raw: Raw) -> bytes:
    data = b""
    with trio.fail_after(60):
        while chunk := await raw.receive_some():
            data += chunk
    return data


@pytest.mark.trio
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(b"\xff\xfe", 0x81), 1007, id="invalid UTF-8"),
        pytest.param(frame(b"\xc3", 0x81), 1007, id="cut UTF-8"),
        pytest.param(frame(bytes((1 << 20) + 1)), 1009, id="too big"),
        pytest.param(b"\x82\xff" + (1 << 50).to_bytes(8, "big") + KEY, 1009, id="giant length"),
        pytest.param(b"\x82\xff" + (1 << 63).to_bytes(8, "big") + KEY, 1002, id="impossible length"),
        pytest.param(b"\x82\x02hi", 1002, id="not masked"),
        pytest.param(frame(b"", 0x83), 1002, id="unknown opcode"),
        pytest.param(frame(b"", 0xF2), 1002, id="reserved bits"),
        pytest.param(frame(b"x", 0x09), 1002, id="fragmented ping"),
        pytest.param(frame(b"x" * 126, 0x89), 1002, id="long ping"),
        pytest.param(frame(b"x", 0x80), 1002, id="continuation of nothing"),
        pytest.param(frame(b"x", 0x02) + frame(b"y"), 1002, id="message inside a message"),
        pytest.param(frame(b"\x03", 0x88), 1002, id="one byte close"),
        pytest.param(frame(b"\x03\xed", 0x88), 1002, id="close 1005"),
        pytest.param(frame(b"\x03\xe8\xff", 0x88), 1007, id="close reason not UTF-8"),
    ],
)
async def test_violations_are_answered_with_their_code(sent: bytes, code: int) -> None:
    seen = Seen()
    async with served(seen) as raw:
        await raw.send_all(frame(b"fine") + sent)
        assert close_of(await read_all(raw)) == code
        await seen.done.wait()
    assert seen.messages == [b"fine"]
    assert seen.closed is not None
    assert (seen.closed.close_code, seen.closed.by_us) == (code, True)


@pytest.mark.trio
async def test_a_bomb_closes_its_link_with_1009() -> None:
    bomb = data_frame(compress(bytes(32 << 20), 15), text=True, compressed=True, mask_key=KEY)
    seen = Seen()
    async with served(seen, extra=DEFLATE) as raw:
        await raw.send_all(bomb)
        assert close_of(await read_all(raw)) == 1009
        await seen.done.wait()
    assert seen.messages == []


@pytest.mark.trio
async def test_other_tasks_run_while_a_bomb_inflates() -> None:
    settings = msgspec.structs.replace(PATIENT, max_message_bytes=100 << 20)
    bomb = data_frame(compress(bytes(96 << 20), 15), text=False, compressed=True, mask_key=KEY)
    seen = Seen()
    links: list[WsLink] = []
    most_between_turns = 0

    async def handler(link: Link) -> None:
        assert isinstance(link, WsLink)
        links.append(link)
        await seen(link)

    async with served(handler, settings=settings, extra=DEFLATE) as raw:

        async def watch() -> None:
            nonlocal most_between_turns
            while not links:
                await trio.lowlevel.checkpoint()
            [guard] = links[0]._connection._wsproto.connection._proto.extensions
            while not seen.messages:
                before = guard.received_bytes
                await trio.lowlevel.checkpoint()
                most_between_turns = max(most_between_turns, guard.received_bytes - before)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await raw.send_all(bomb)
        assert len(seen.messages[0]) == 96 << 20
    # no deflate stream grows more than 1032-fold
    assert 0 < most_between_turns <= 1032 * INFLATE_SLICE_BYTES


@pytest.mark.trio
async def test_bytes_behind_the_request_are_the_first_frames() -> None:
    seen = Seen()
    async with served(seen, behind=frame(b"early")) as raw:
        await raw.send_all(frame(b"later") + frame(b"\x0f\xa1bye", 0x88))
        await seen.done.wait()
    assert seen.messages == [b"early", b"later"]
    assert seen.closed is not None
    assert (seen.closed.close_code, seen.closed.reason, seen.closed.by_us) == (4001, "bye", False)


@pytest.mark.trio
async def test_pings_are_echoed_also_inside_a_fragmented_message() -> None:
    seen = Seen()
    async with served(seen) as raw:
        await raw.send_all(frame(b"a", 0x02) + frame(b"payload", 0x89) + frame(b"", 0x00) + frame(b"b", 0x80))
        assert await raw.receive_some() == b"\x8a\x07payload"
        await raw.send_all(frame(b"", 0x88))
        await seen.done.wait()
    assert seen.messages == [b"ab"]
    assert seen.closed is not None
    assert seen.closed.close_code == 1005


@pytest.mark.trio
async def test_our_ping_is_empty_and_any_pong_answers_it() -> None:
    times: list[float] = []

    async def handler(link: Link) -> None:
        await link.ping()
        times.append(trio.current_time())
        with pytest.raises(LinkClosed):
            await link.receive()

    async with served(handler) as raw:
        assert await raw.receive_some() == b"\x89\x00"
        await raw.send_all(frame(b"something else", 0x8A))
        await raw.send_all(frame(b"", 0x88))
        await read_all(raw)
    assert len(times) == 1


@pytest.mark.trio
async def test_a_ping_after_our_close_does_not_break_the_reader() -> None:
    async def handler(link: Link) -> None:
        await link.close(4001, "enough")

    async with served(handler) as raw:
        assert close_of(await raw.receive_some()) == 4001
        await raw.send_all(frame(b"x", 0x89) + frame(b"data") + frame(b"\x0f\xa1", 0x88))
        assert await read_all(raw) == b""


@pytest.mark.trio
async def test_a_peer_that_never_answers_the_close_is_dropped() -> None:
    start = trio.current_time()
    settings = msgspec.structs.replace(PATIENT, close_timeout_s=0.5)

    async def handler(link: Link) -> None:
        await link.close(4001, "enough")

    async with served(handler, settings=settings) as raw:
        data = await read_all(raw)
    assert close_of(data) == 4001
    assert settings.close_timeout_s <= trio.current_time() - start < PATIENT.close_timeout_s / 2


@pytest.mark.trio
async def test_empty_fragments_cost_nothing() -> None:
    seen = Seen()
    async with served(seen) as raw:
        await raw.send_all(frame(b"", 0x02))
        for _ in range(20):
            await raw.send_all(frame(b"", 0x00) * 1000)
        await raw.send_all(frame(b"x", 0x00) * 3000 + frame(b"", 0x80) + frame(b"", 0x88))
        await seen.done.wait()
    assert seen.messages == [b"x" * 3000]


@pytest.mark.trio
async def test_what_waits_unread_is_bounded_in_bytes() -> None:
    settings = msgspec.structs.replace(PATIENT, max_message_bytes=4 << 20)
    sent = 0

    async def handler(_link: Link) -> None:
        await trio.sleep_forever()

    async with served(handler, settings=settings) as raw, trio.open_nursery() as nursery:

        async def push() -> None:
            nonlocal sent
            block = frame(bytes(1 << 20))
            for _ in range(60):
                await raw.send_all(block)
                sent += len(block)

        nursery.start_soon(push)
        await standstill(lambda: sent, least=QUEUE_BYTES)
        nursery.cancel_scope.cancel()
    # the queue, one message on its way, and what the two kernel buffers hold
    assert QUEUE_BYTES <= sent < QUEUE_BYTES + (30 << 20)


@pytest.mark.trio
async def test_a_cancelled_send_is_never_continued() -> None:
    transport = WsTransport(PATIENT)
    outcome: list[LinkClosed] = []
    over = trio.Event()

    async def handler(link: Link) -> None:
        big = transport.prepare(bytes(900_000))

        async def push() -> None:
            while True:
                await link.send(big)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(push)
            await standstill(lambda: link.bytes_sent, least=1)
            nursery.cancel_scope.cancel()
        with pytest.raises(LinkClosed) as caught:
            await link.send(transport.prepare("after"))
        outcome.append(caught.value)
        over.set()

    async with served(handler) as raw:
        await over.wait()
        with pytest.raises(trio.BrokenResourceError):
            await read_all(raw)
    assert outcome[0].close_code == 1006
    assert outcome[0].by_us


@pytest.mark.trio
async def test_errors_of_the_owner_come_out_bare_and_close_the_link() -> None:
    seen: list[BaseException] = []

    async def handler(link: Link) -> None:
        raise KeyError("the owner's own")

    async def guarded() -> None:
        try:
            async with served(handler) as raw:
                assert close_of(await raw.receive_some()) == 1011
                await raw.send_all(frame(b"", 0x88))
                with trio.fail_after(60):
                    await trio.sleep_forever()
        except* KeyError as group:
            seen.extend(group.exceptions)

    await guarded()
    assert len(seen) == 1


# ---------------------------------------------------------------------- dialling


@asynccontextmanager
async def raw_server(answer: bytes | None) -> AsyncIterator[tuple[int, list[tuple[str, bytes]]]]:
    """A server that answers every request the same way; None = it never answers."""
    asked: list[tuple[str, bytes]] = []

    async def handle(stream: trio.SocketStream) -> None:
        # whoever asks may leave before it has asked, and before it was answered
        with suppress(DialError, trio.BrokenResourceError):
            head, _rest = await read_head(stream, 16384)
            asked.append((stream.socket.getpeername()[0], head))
            if answer is None:
                await trio.sleep_forever()
            else:
                await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(_serve, handle)
        yield listener.socket.getsockname()[1], asked
        nursery.cancel_scope.cancel()


async def _serve(
    handle: Callable[[trio.SocketStream], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]],
) -> None:
    await trio.serve_tcp(handle, 0, host="127.0.0.1", task_status=task_status)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200"),
        (b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: no\r\n\r\n", "Accept"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "HTTP"),
        (b"", "closed"),
        (b"HTTP/1.1 101 X\r\nX: " + b"a" * 40_000, "exceeds"),
        (None, "did not answer in 0.3"),
    ],
)
async def test_failed_dials_say_why(answer: bytes | None, says: str) -> None:
    limit_s = PATIENT.handshake_timeout_s if answer is not None else 0.3
    transport = WsTransport(msgspec.structs.replace(PATIENT, handshake_timeout_s=limit_s))
    async with raw_server(answer) as (port, _asked):
        with pytest.raises(DialError, match=says):
            async with transport.dial("127.0.0.1", port, Hello(), own_port=16127):
                pytest.fail("there is no link")


@pytest.mark.trio
@pytest.mark.parametrize("ip", ["localhost", "::1", "127.0.0.256", ""])
async def test_only_addresses_are_dialled(ip: str) -> None:
    with pytest.raises(DialError, match="IPv4"):
        async with WsTransport(PATIENT).dial(ip, 1, Hello(), own_port=16127):
            pytest.fail("there is no link")


@pytest.mark.trio
async def test_refused_and_impossible_ports_are_dial_errors() -> None:
    for port in (1, 70_000):
        with pytest.raises(DialError, match="cannot connect"):
            async with WsTransport(PATIENT).dial("127.0.0.1", port, Hello(), own_port=16127):
                pytest.fail("there is no link")


@pytest.mark.trio
async def test_invitations_come_from_the_own_address() -> None:
    transport = WsTransport(PATIENT, bind_host="127.9.8.7")
    async with raw_server(b"HTTP/1.1 204 No Content\r\n\r\n") as (port, asked):
        await transport.invite("127.0.0.1", port, "127.9.8.7:16137")
    source, head = asked[0]
    assert source == "127.9.8.7"
    assert head.startswith(b"GET /flux/addoutgoingpeer/127.9.8.7:16137 HTTP/1.1\r\n")


@pytest.mark.trio
@pytest.mark.parametrize("answer", [b"HTTP/1.1 500 X\r\n\r\n", b"HTTP/1.1 302 X\r\n\r\n", b"", None])
async def test_invitations_that_fail_say_so(answer: bytes | None) -> None:
    limit_s = PATIENT.invite_timeout_s if answer is not None else 0.3
    transport = WsTransport(msgspec.structs.replace(PATIENT, invite_timeout_s=limit_s))
    async with raw_server(answer) as (port, _asked):
        with pytest.raises(DialError):
            await transport.invite("127.0.0.1", port, "1.2.3.4")


@pytest.mark.trio
async def test_nothing_is_left_open() -> None:
    """Unclosed sockets are ResourceWarnings, which are errors here."""
    transport = WsTransport(PATIENT)
    async with raw_server(b"HTTP/1.1 404 X\r\n\r\n") as (port, _asked):
        for _ in range(3):
            with pytest.raises(DialError):
                async with transport.dial("127.0.0.1", port, Hello(), own_port=1):
                    pytest.fail("there is no link")
    gc.collect()
