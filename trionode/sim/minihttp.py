"""A very small HTTP/1.1 server on trio and h11, for the stubs only.

Enough for JSON both ways with keep-alive: bounded heads and bodies, one guard per connection. A
handler may also say `HANG_UP`, which drops the connection without an answer (a daemon that is down).
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import msgspec
import trio

MAX_BODY_BYTES = 64 * 1024 * 1024
IDLE_LIMIT_S = 60.0


class HangUp(enum.Enum):
    """The type of `HANG_UP`."""

    VALUE = 0


HANG_UP: Final = HangUp.VALUE


class StubRequest(msgspec.Struct, frozen=True):
    """One request; `segments` is the path split at "/" and percent-decoded."""

    method: str
    segments: tuple[str, ...]
    query: Mapping[str, str]
    body: bytes
    source_ip: str
    headers: Mapping[str, str]


class StubReply(msgspec.Struct, frozen=True):
    """One answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"


StubHandler = Callable[[StubRequest], Awaitable[StubReply | HangUp]]


def json_reply(value: Any, status: int = 200) -> StubReply:
    """`value` as a JSON answer."""
    return StubReply(status, msgspec.json.encode(value))


async def serve_stub(listener: trio.SocketListener, handler: StubHandler) -> None:
    """Serve `handler` on `listener` until cancelled; a broken client never ends the server."""

    async def serve_one(stream: trio.SocketStream) -> None:
        try:
            await _serve_connection(stream, handler)
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            return  # the client went away or spoke no HTTP: nobody to answer
        finally:
            await trio.aclose_forcefully(stream)

    await trio.serve_listeners(serve_one, [listener])


async def _serve_connection(stream: trio.SocketStream, handler: StubHandler) -> None:
    peer = stream.socket.getpeername()
    source_ip = str(peer[0]).removeprefix("::ffff:")
    state = h11.Connection(h11.SERVER)
    while True:
        request: StubRequest | None = None
        with trio.move_on_after(IDLE_LIMIT_S):
            request = await _receive(stream, state, source_ip)
        if request is None:
            return
        reply = await handler(request)
        if reply is HANG_UP:
            return
        headers = [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body)))]
        head = state.send(h11.Response(status_code=reply.status, headers=headers)) or b""
        body = state.send(h11.Data(reply.body)) or b""
        await stream.send_all(head + body + (state.send(h11.EndOfMessage()) or b""))
        if state.our_state is not h11.DONE or state.their_state is not h11.DONE:
            return
        state.start_next_cycle()


async def _receive(stream: trio.SocketStream, state: h11.Connection, source_ip: str) -> StubRequest | None:
    """The next whole request; None when the client closed or sent too much."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = state.next_event()
        if event is h11.NEED_DATA:
            if state.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await stream.send_all(state.send(go_on) or b"")
            state.receive_data(await stream.receive_some(64 * 1024))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                return None
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            break
        else:
            return None
    url = urlsplit(head.target.decode("ascii", "replace"))
    return StubRequest(
        method=head.method.decode("ascii"),
        segments=tuple(unquote(part) for part in url.path.split("/") if part),
        query=dict(parse_qsl(url.query)),
        body=bytes(body),
        source_ip=source_ip,
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
    )
