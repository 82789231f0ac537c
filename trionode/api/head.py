"""The first request head of a connection: read within bounds, and decide who serves it (wire.md §1).

Only enough is understood here to route; the peer transport and hypercorn judge the head strictly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

import msgspec
import trio

READ_BYTES = 16 * 1024
_END = re.compile(rb"\n\r?\n")
_UPGRADE = re.compile(rb"\nupgrade[ \t]*:[^\n]*websocket", re.IGNORECASE)


class Route(Enum):
    """Who answers the connection."""

    PEER = "peer"
    REFUSED_UPGRADE = "refused upgrade"
    HTTP = "http"


class HeadRefused(Exception):
    """No usable head came; `status` is what to answer, 0 = nothing (not HTTP, or the peer left)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class RequestHead(msgspec.Struct, frozen=True):
    """`raw` ends with the blank line; `rest` is what arrived behind it."""

    raw: bytes
    rest: bytes

    @property
    def target(self) -> bytes:
        parts = self.raw.split(b"\n", 1)[0].split()
        return parts[1] if len(parts) > 1 else b""

    @property
    def route(self) -> Route:
        """Peer upgrades, other upgrades (refused), and everything else."""
        if not _UPGRADE.search(self.raw):
            return Route.HTTP
        return Route.PEER if self.target.startswith(b"/ws/") else Route.REFUSED_UPGRADE


async def read_request_head(stream: trio.SocketStream, limit_bytes: int) -> RequestHead:
    """Read up to the first blank line. Raises HeadRefused; the caller sets the time limit."""
    data = bytearray()
    while True:
        try:
            chunk = await stream.receive_some(READ_BYTES)
        except trio.BrokenResourceError as error:
            raise HeadRefused(0, f"reset before a request: {error}") from error
        if not chunk:
            raise HeadRefused(0, "closed before a whole request head")
        # TLS and other protocols are told from HTTP by their first byte, without waiting
        if not data and not (chunk[:1].isalpha() or chunk[:1] in b"\r\n"):
            raise HeadRefused(0, f"first byte 0x{chunk[0]:02x} is not HTTP")
        seen = max(0, len(data) - 2)
        data += chunk
        end = _END.search(data, seen)
        if end is not None and end.end() <= limit_bytes:
            return RequestHead(bytes(data[: end.end()]), bytes(data[end.end() :]))
        if len(data) > limit_bytes:
            raise HeadRefused(431, f"the request head exceeds {limit_bytes} bytes")


_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


TEXT = b"text/plain; charset=utf-8"


def last_response(
    status: int,
    body: bytes,
    content_type: bytes = TEXT,
    headers: Iterable[tuple[bytes, bytes]] = (),
    *,
    head_only: bool = False,
) -> bytes:
    """A whole response that ends the connection; `head_only` leaves the body out (HEAD)."""
    lines = [
        b"HTTP/1.1 %d %s" % (status, _REASONS.get(status, "Refused").encode()),
        b"Content-Type: " + content_type,
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        *(b"%s: %s" % header for header in headers),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head_only else body)


def refusal(status: int, message: str, headers: list[tuple[bytes, bytes]] | None = None) -> bytes:
    """A whole plain-text response that ends the connection."""
    return last_response(status, f"{message}\n".encode("ascii", "replace"), headers=headers or ())


class ReplayStream(trio.abc.HalfCloseableStream):
    """A socket stream with bytes that were already read put back in front, for hypercorn."""

    def __init__(self, stream: trio.SocketStream, head: bytes) -> None:
        self._stream = stream
        self._head = memoryview(head)
        self.gone = False
        """The client is known to have left, or we closed: nothing sent can arrive any more."""

    @property
    def socket(self) -> trio.socket.SocketType:
        """hypercorn asks it for the two addresses."""
        return self._stream.socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self._head:
            return await self._stream.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        count = len(self._head) if max_bytes is None else max_bytes
        data, self._head = bytes(self._head[:count]), self._head[count:]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.gone = True
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        # hypercorn's first step of closing. It runs in the task of the request, which the end of that
        # same request cancels: unshielded, "Connection: close" would leave the socket open for ever
        with trio.CancelScope(shield=True):
            await self._stream.send_eof()  # waits for nothing but its turn

    async def aclose(self) -> None:
        self.gone = True
        await self._stream.aclose()
