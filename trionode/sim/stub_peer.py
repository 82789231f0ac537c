"""The peer stub: a peer that knows only the app messages it was given (docs/spec/testnet.md §4.2).

Port 16127: GET /flux/version, and links at /ws/flux/*, whose signed `fluxapprequest` v1 and v2 are answered
with signed app messages. Port 16128: GET /health, GET /stats, POST /load-message, POST /clear. It is no node:
it dials nobody, relays nothing and forgets everything at its end.

    python -m trionode.sim.stub_peer --host 127.9.0.1 --key-file node.key
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h11
import msgspec
import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from trionode.errors import StartupError, TrionodeError, WireError
from trionode.runtime.clock import SystemClock
from trionode.sim.minihttp import StubReply, StubRequest, json_reply, serve_stub
from trionode.wire.envelope import decode_envelope, seal
from trionode.wire.jsjson import parse
from trionode.wire.keys import NodeKey
from trionode.wire.origin import is_signed

PEER_PORT = 16127
CONTROL_PORT = 16128
VERSION = "8.0.0"
UPTIME_S = 1000
CAPABILITIES = "peerExchange,appStateSync"
REQUEST_LOG_ENTRIES = 1000
MAX_HEAD_BYTES = 16 * 1024
CHUNK_BYTES = 64 * 1024
HEAD_WITHIN_S = 10.0
ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class PeerStub:
    """The messages it has, and what was asked of it."""

    def __init__(self, key: NodeKey) -> None:
        self._key = key
        self._clock = SystemClock()
        self._reset()

    def _reset(self) -> None:
        self._messages: dict[str, dict[str, Any]] = {}
        self._connections = 0
        self._requests: list[dict[str, Any]] = []
        self._request_count = 0
        self._served = 0

    async def control(self, request: StubRequest) -> StubReply:
        """Answer one control request."""
        match request.method, request.segments:
            case "GET", ("health",):
                return json_reply({"ok": True})
            case "GET", ("stats",):
                return json_reply(self.stats())
            case "POST", ("load-message",):
                try:
                    message = msgspec.json.decode(request.body, type=dict[str, Any])
                except msgspec.DecodeError as error:
                    return json_reply({"error": f"no message: {error}"}, 400)
                if not isinstance(message.get("hash"), str):
                    return json_reply({"error": "the message has no hash"}, 400)
                self._messages[message["hash"]] = message
                return json_reply({"loaded": len(self._messages)})
            case "POST", ("clear",):
                self._reset()
                return json_reply({"ok": True})
        return json_reply({"error": f"no control route {request.method} /{'/'.join(request.segments)}"}, 404)

    def stats(self) -> dict[str, Any]:
        return {
            "connectionsReceived": self._connections,
            "requestsReceived": self._request_count,
            "messagesServed": self._served,
            "messagesLoaded": len(self._messages),
            "requestLog": self._requests,
        }

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection to the peer port: a link, or one request about the version."""
        head, rest = b"", b""
        with trio.move_on_after(HEAD_WITHIN_S):
            head, rest = await _read_head(stream)
        request = _parse_head(head)
        if request is None:
            return
        headers = {name.lower(): value for name, value in request.headers}
        target = request.target.decode("latin-1")
        key = headers.get(b"sec-websocket-key")
        if target.lower().startswith("/ws/flux") and key is not None:
            self._connections += 1
            await stream.send_all(_accept(key))
            await self._follow_link(stream, rest)
        elif target == "/flux/version":
            await stream.send_all(_plain_answer(200, {"status": "success", "data": VERSION}))
        else:
            await stream.send_all(_plain_answer(404, {"status": "error", "data": {"message": "not here"}}))

    async def _follow_link(self, stream: trio.SocketStream, first: bytes) -> None:
        link = Connection(ConnectionType.SERVER)
        text: list[str] = []
        data = first
        while True:
            if data:
                link.receive_data(data)
            for event in link.events():
                if isinstance(event, Ping):
                    await stream.send_all(link.send(event.response()))
                elif isinstance(event, TextMessage):
                    text.append(event.data)
                    if event.message_finished:
                        for answer in self._answers("".join(text)):
                            await stream.send_all(link.send(TextMessage(answer)))
                        text.clear()
                elif isinstance(event, CloseConnection):
                    await stream.send_all(link.send(event.response()))
                    return
                elif isinstance(event, BytesMessage):
                    pass  # inventory and the like: nothing of it is wanted here
            data = await stream.receive_some(CHUNK_BYTES)
            if not data:
                return

    def _answers(self, text: str) -> list[str]:
        """The signed messages that a signed request gets; nothing for any other message."""
        try:
            envelope = decode_envelope(parse(text))
        except WireError:
            return []
        if envelope.type != "fluxapprequest" or not is_signed(envelope):
            return []
        asked = (
            envelope.data.get("hashes") if envelope.data.get("version") == 2 else [envelope.data.get("hash")]
        )
        hashes = [hash_ for hash_ in asked if isinstance(hash_, str)] if isinstance(asked, list) else []
        found = [self._messages[hash_] for hash_ in hashes if hash_ in self._messages]
        self._request_count += 1
        self._served += len(found)
        self._requests = [
            *self._requests[1 - REQUEST_LOG_ENTRIES :],
            {"from": envelope.pub_key, "hashes": hashes, "found": len(found)},
        ]
        return [seal(message, self._key, self._clock.now_ms()).text for message in found]


async def _read_head(stream: trio.SocketStream) -> tuple[bytes, bytes]:
    """The request head with its blank line, and what came behind it."""
    data = b""
    while b"\r\n\r\n" not in data and len(data) <= MAX_HEAD_BYTES:
        chunk = await stream.receive_some(CHUNK_BYTES)
        if not chunk:
            break
        data += chunk
    end = data.find(b"\r\n\r\n") + 4
    return data[:end], data[end:]


def _parse_head(head: bytes) -> h11.Request | None:
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(head)
    event = parser.next_event()
    return event if isinstance(event, h11.Request) else None


def _accept(key: bytes) -> bytes:
    token = base64.b64encode(hashlib.sha1(key + ACCEPT_SALT).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + token + b"\r\n"
        b"X-Flux-Capabilities: " + CAPABILITIES.encode() + b"\r\n"
        b"X-Flux-Version: " + VERSION.encode() + b"\r\n"
        b"X-Flux-Uptime: " + str(UPTIME_S).encode() + b"\r\n\r\n"
    )


def _plain_answer(status: int, value: Any) -> bytes:
    body = msgspec.json.encode(value)
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


async def run_peer_stub(
    stub: PeerStub,
    host: str,
    port: int = PEER_PORT,
    control_port: int = CONTROL_PORT,
    *,
    task_status: trio.TaskStatus[tuple[int, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; `started` gives the ports really bound. Raises StartupError for a busy port."""

    async def serve_one(stream: trio.SocketStream) -> None:
        try:
            await stub.serve(stream)
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            return  # the other side went away or spoke no HTTP: nobody to answer
        finally:
            await trio.aclose_forcefully(stream)

    try:
        links = (await trio.open_tcp_listeners(port, host=host))[0]
        control = (await trio.open_tcp_listeners(control_port, host=host))[0]
    except OSError as error:
        raise StartupError(
            f"the peer stub cannot listen on {host}: {error.strerror or error}",
            remedy="end the program that holds the port or choose another address",
        ) from error
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve_one, [links])
        nursery.start_soon(serve_stub, control, stub.control)
        task_status.started((links.socket.getsockname()[1], control.socket.getsockname()[1]))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trionode.sim.stub_peer", description="A stand-in for one peer."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=PEER_PORT, help="port of links and of /flux/version")
    parser.add_argument("--control-port", type=int, default=CONTROL_PORT, help="control port")
    parser.add_argument(
        "--key-file", required=True, help="file with the key (WIF) its messages are signed with"
    )
    arguments = parser.parse_args(argv)
    exit_code = 0
    try:
        stub = PeerStub(NodeKey.from_wif(Path(arguments.key_file).read_text("ascii").strip()))
        trio.run(partial(run_peer_stub, stub, arguments.host, arguments.port, arguments.control_port))
    except* KeyboardInterrupt:
        pass  # Ctrl-C is the ordinary way to end the stub
    except* (TrionodeError, OSError) as group:
        exit_code = 1
        print(f"peer stub: {group.exceptions[0]}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
