"""Asking other machines whether they answer: the outward half of the availability routes.

docs/spec/api.md §6 (checkfluxavailability, checkappavailability). `Probe` is what
the routes need; `TcpProbe` does it with real sockets, from the node's own address where one is bound.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import h11
import msgspec
import trio

READ_BYTES = 64 * 1024
BODY_LIMIT_BYTES = 1024 * 1024


class HttpAnswer(msgspec.Struct, frozen=True):
    """Status and (bounded) body of a GET."""

    status: int
    body: bytes


class Probe(Protocol):
    """Outward questions; none of them raises for what the other side does."""

    async def http_get(self, ip: str, port: int, path: str, *, timeout_s: float) -> HttpAnswer | None:
        """The answer of one GET, None when there was none in time."""
        ...

    async def tcp_connects(self, ip: str, port: int, *, timeout_s: float) -> bool:
        """True when a TCP connection is accepted in time."""
        ...


class TcpProbe:
    """The probe of a real node. `source_ip` None lets the system choose."""

    def __init__(self, source_ip: str | None = None) -> None:
        self._source_ip = source_ip

    async def tcp_connects(self, ip: str, port: int, *, timeout_s: float) -> bool:
        try:
            async with self._open(ip, port, timeout_s):
                return True
        except (OSError, trio.TooSlowError):
            return False

    async def http_get(self, ip: str, port: int, path: str, *, timeout_s: float) -> HttpAnswer | None:
        try:
            with trio.fail_after(timeout_s):
                async with self._open(ip, port, timeout_s) as stream:
                    return await _get(stream, f"{ip}:{port}", path)
        except (OSError, trio.TooSlowError, trio.BrokenResourceError, h11.RemoteProtocolError):
            return None

    @asynccontextmanager
    async def _open(self, ip: str, port: int, timeout_s: float) -> AsyncIterator[trio.SocketStream]:
        sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            with trio.fail_after(timeout_s):
                if self._source_ip is not None:
                    await sock.bind((self._source_ip, 0))
                await sock.connect((ip, port))
            yield trio.SocketStream(sock)
        finally:
            sock.close()


async def _get(stream: trio.SocketStream, host: str, path: str) -> HttpAnswer | None:
    """One GET on a fresh connection; None when the body exceeds the limit."""
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method="GET", target=path, headers=[("Host", host), ("Connection", "close")])
    await stream.send_all(connection.send(request) or b"")
    await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
    status = 0
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(READ_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > BODY_LIMIT_BYTES:
                return None
        elif isinstance(event, h11.EndOfMessage):
            return HttpAnswer(status, bytes(body))
        elif not isinstance(event, h11.InformationalResponse):
            return None
