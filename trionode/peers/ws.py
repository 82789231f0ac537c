"""The real peer transport: WebSocket links over TCP (wire.md §1, §2), behind `peers.link`.

`WsTransport` dials; the front door hands it the upgrade requests that come in. One link is two
tasks (reader, pongs) inside the `async with` block that owns it; nothing outlives the block.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import quote

import trio

from trionode.config.tree import PeerSettings
from trionode.errors import WireError
from trionode.peers.deflate import Agreement, MessageGuard
from trionode.peers.handshake import (
    MAX_HEAD_BYTES,
    Upgrade,
    accept_upgrade,
    dial_request,
    read_answer,
    read_response,
    read_upgrade,
)
from trionode.peers.link import DialError, Hello, Link, LinkClosed
from trionode.peers.wsframes import Prepared
from trionode.peers.wslink import WsConnection, WsLink
from trionode.peers.wsstream import LinkStream, open_stream, read_head, remote_ip


class WsTransport:
    """`peers.link.PeerTransport` on sockets; `bind_host` is the node's own address or a wildcard."""

    def __init__(self, settings: PeerSettings, *, bind_host: str = "0.0.0.0") -> None:
        self._settings = settings
        self._bind_host = bind_host

    def prepare(self, message: str | bytes) -> Prepared:
        """Wrap a message so that sending it to many links encodes it once per form."""
        return Prepared(message, self._settings.compression_threshold_bytes)

    def dial(
        self, ip: str, port: int, ours: Hello, *, own_port: int, ephemeral: bool = False
    ) -> AbstractAsyncContextManager[Link]:
        """Open a link to `ws://ip:port/ws/flux/<own_port>`. Raises DialError."""
        return self._dial(ip, port, ours, own_port, ephemeral)

    @asynccontextmanager
    async def _dial(
        self, ip: str, port: int, ours: Hello, own_port: int, ephemeral: bool
    ) -> AsyncIterator[Link]:
        request, key = dial_request(
            ip, port, ours, own_port=own_port, ephemeral=ephemeral, nonce=os.urandom(16)
        )
        stream: trio.SocketStream | None = None
        try:
            with trio.move_on_after(self._settings.handshake_timeout_s) as scope:
                stream = await self._connect(ip, port)
                head, rest = await _ask(stream, request)
            if scope.cancelled_caught or stream is None:
                raise DialError(f"{ip}:{port} did not answer in {self._settings.handshake_timeout_s} s")
            try:
                hello, agreement = read_answer(head, key, ephemeral=ephemeral)
            except WireError as error:
                raise DialError(f"{ip}:{port} {error}") from error
            async with self._run_link(stream, rest, ip, hello, agreement, client=True) as link:
                yield link
        finally:
            if stream is not None:
                stream.socket.close()

    async def invite(self, ip: str, port: int, own_address: str) -> None:
        """Ask `ip:port` to dial us (wire.md §3). DialError unless it answers 2xx in time."""
        path = f"/flux/addoutgoingpeer/{quote(own_address, safe=':')}"
        request = f"GET {path} HTTP/1.1\r\nHost: {ip}:{port}\r\nConnection: close\r\n\r\n"
        stream: trio.SocketStream | None = None
        try:
            with trio.move_on_after(self._settings.invite_timeout_s) as scope:
                stream = await self._connect(ip, port)
                head, _rest = await _ask(stream, request.encode("ascii"))
            if scope.cancelled_caught:
                raise DialError(
                    f"{ip}:{port} did not answer the invitation in {self._settings.invite_timeout_s} s"
                )
        finally:
            if stream is not None:
                stream.socket.close()
        try:
            status, _headers = read_response(head)
        except WireError as error:
            raise DialError(f"{ip}:{port} {error}") from error
        if not 200 <= status < 300:
            raise DialError(f"{ip}:{port} answered the invitation with {status}")

    def inbound(self, stream: trio.SocketStream, head: bytes, rest: bytes = b"") -> WsInbound:
        """Judge an upgrade request whose head was read from `stream`, `rest` being what came behind.

        Raises UpgradeRefused with the HTTP status to answer, OSError if the peer is gone already.
        """
        return WsInbound(self, stream, read_upgrade(head), rest)

    async def _connect(self, ip: str, port: int) -> trio.SocketStream:
        return await open_stream(
            ip, port, bind_host=self._bind_host, user_timeout_ms=self._settings.tcp_user_timeout_ms
        )

    @asynccontextmanager
    async def _run_link(
        self,
        stream: trio.SocketStream,
        rest: bytes,
        ip: str,
        hello: Hello,
        agreement: Agreement | None,
        *,
        client: bool,
    ) -> AsyncIterator[WsLink]:
        wire = LinkStream(stream)
        wire.sliced = agreement is not None
        guard = MessageGuard(self._settings.max_message_bytes, agreement)
        connection = WsConnection(wire, client=client, guard=guard, rest=rest, settings=self._settings)
        link = WsLink(connection, wire, remote_ip=ip, remote_hello=hello, agreement=agreement)
        failure: Exception | None = None
        orderly = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.read)
            nursery.start_soon(connection.answer_pings)
            try:
                yield link
                orderly = True
            except Exception as error:  # noqa: BLE001 - raised below, outside the nursery's group
                failure = error
                orderly = True
            finally:
                if not orderly:
                    # cancelled: there is no time for a close handshake
                    link.terminate()
            await connection.finish(1000 if failure is None else 1011, "")
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


async def _ask(stream: trio.SocketStream, request: bytes) -> tuple[bytes, bytes]:
    try:
        await stream.send_all(request)
    except trio.BrokenResourceError as error:
        raise DialError(f"connection lost while asking: {error}") from error
    return await read_head(stream, MAX_HEAD_BYTES)


class WsInbound:
    """`peers.link.InboundRequest`: an upgrade request waiting for our answer. Nothing is read yet."""

    def __init__(
        self, transport: WsTransport, stream: trio.SocketStream, upgrade: Upgrade, rest: bytes
    ) -> None:
        self._transport = transport
        self._stream = stream
        self._upgrade = upgrade
        self._rest = rest
        self._remote_ip = remote_ip(stream)

    @property
    def remote_ip(self) -> str:
        return self._remote_ip

    @property
    def dial_port(self) -> str:
        return self._upgrade.dial_port

    @property
    def hello(self) -> Hello:
        return self._upgrade.hello

    def accept(self, ours: Hello) -> AbstractAsyncContextManager[Link]:
        """Answer 101; the link lives as long as the block. LinkClosed if the answer cannot be sent."""
        return self._accept(ours)

    @asynccontextmanager
    async def _accept(self, ours: Hello) -> AsyncIterator[Link]:
        answer, agreement = accept_upgrade(self._upgrade, ours)
        transport = self._transport
        try:
            with trio.move_on_after(transport._settings.handshake_timeout_s) as scope:
                await self._stream.send_all(answer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkClosed(1006, "lost during the handshake") from error
        if scope.cancelled_caught:
            raise LinkClosed(1006, "the peer does not read its handshake answer", by_us=True)
        async with transport._run_link(
            self._stream, self._rest, self._remote_ip, self._upgrade.hello, agreement, client=False
        ) as link:
            yield link
