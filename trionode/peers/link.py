"""The peer transport seam: one WebSocket link, and how links come to be (wire.md §1, §2).

Implementations: `peers.ws` (real sockets through the front door), `sim.network` (virtual). Both
pass the same contract suite (`tests/contract/test_link.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from trionode.errors import PeerError

CAPABILITIES = ("transmissionTimestamps", "peerExchange", "binaryMessages", "appStateSync")
"""What trionode advertises, in the order it is sent."""


class Hello(msgspec.Struct, frozen=True):
    """What the X-Flux-* headers of one side say; a peer without headers is `Hello()`."""

    capabilities: frozenset[str] = frozenset()
    version: str | None = None
    uptime_s: int | None = None
    clock_offset_ms: int | None = None
    reconnect: bool = False


class LinkClosed(PeerError):
    """The link is gone. `code` is the WebSocket close code, 1006 for a lost connection."""

    def __init__(self, code: int = 1006, reason: str = "", *, by_us: bool = False) -> None:
        super().__init__(f"link closed with {code}{f' ({reason})' if reason else ''}")
        self.close_code = code
        self.reason = reason
        self.by_us = by_us


class DialError(PeerError):
    """A link could not be opened (refused, timed out, not a WebSocket...)."""


class PreparedMessage(Protocol):
    """One outgoing message, encoded at most once per wire form, for fan-out to many links."""

    @property
    def size_bytes(self) -> int:
        """Payload size before compression, counted against outbox limits."""
        ...


class Link(Protocol):
    """One open WebSocket to a peer. One task receives, one task sends."""

    @property
    def remote_ip(self) -> str: ...
    @property
    def remote_hello(self) -> Hello: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...

    async def receive(self) -> str | bytes:
        """Next message (`str` text, `bytes` binary). Raises LinkClosed when the link is gone."""
        ...

    async def send(self, message: PreparedMessage) -> None:
        """Send one message. Raises LinkClosed. A cancelled or timed-out send aborts the link."""
        ...

    async def ping(self) -> None:
        """Send an empty ping and return when its pong (or any later pong) arrives."""
        ...

    def ping_soon(self, on_pong: Callable[[], None]) -> None:
        """Send an empty ping without waiting; `on_pong` is called at its pong or any later pong.

        Never called once the link is closed; it must be quick and must not raise.
        """
        ...

    async def close(self, code: int, reason: str) -> None:
        """WebSocket close handshake, bounded by `peers.close_timeout_s`, then abort. Idempotent."""
        ...

    def terminate(self) -> None:
        """Abort the TCP connection at once, without a close frame (the other side sees 1006)."""
        ...


class InboundRequest(Protocol):
    """A peer's upgrade request that has not been answered yet."""

    @property
    def remote_ip(self) -> str:
        """TCP source address without an IPv6-mapped prefix."""
        ...

    @property
    def dial_port(self) -> str:
        """Text of the path's port segment, percent-decoded; "16127" for the legacy path."""
        ...

    @property
    def hello(self) -> Hello: ...

    def accept(self, ours: Hello) -> AbstractAsyncContextManager[Link]:
        """Answer 101 with our headers; the link lives as long as the `async with` block."""
        ...


InboundHandler = Callable[[InboundRequest], Awaitable[None]]


class PeerTransport(Protocol):
    """Opens links and asks other nodes to open one to us."""

    def prepare(self, message: str | bytes) -> PreparedMessage:
        """Wrap a message so that sending it to many links encodes it once per form."""
        ...

    def dial(
        self, ip: str, port: int, ours: Hello, *, own_port: int, ephemeral: bool = False
    ) -> AbstractAsyncContextManager[Link]:
        """Open a link to `ws://ip:port/ws/flux/<own_port>`. Raises DialError."""
        ...

    async def invite(self, ip: str, port: int, own_address: str) -> None:
        """GET http://ip:port/flux/addoutgoingpeer/<own_address>; DialError unless answered 2xx."""
        ...
