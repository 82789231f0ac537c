"""The seam for what one node asks another over plain HTTP (docs/spec/registry.md §12, api.md §8).

`PeerHttp` is the port for reading, `NodeHttp` also for asking with a body; `HttpSource` speaks HTTP/1.1
through h11, from the node's own address so that a peer sees who asks. Bodies come as they arrive, still
encoded: who reads decides how much it takes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import h11
import trio

from trionode.errors import TrionodeError

READ_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024


class SourceError(TrionodeError):
    """A peer did not give what it was asked for over HTTP."""

    code = "source"


class HttpBody:
    """The answer to one request: its head, and its body piece by piece."""

    def __init__(
        self, status: int, encoding: str, pieces: AsyncGenerator[bytes, None], *, etag: str = ""
    ) -> None:
        self.status = status
        self.encoding = encoding
        """Content-Encoding in lower case; empty when there is none."""
        self.pieces = pieces
        """The body; who stops reading before its end closes it."""
        self.etag = etag


class PeerHttp(Protocol):
    """GETs of other nodes."""

    def get(self, ip: str, port: int, path: str) -> AbstractAsyncContextManager[HttpBody]:
        """The answer to a GET with gzip accepted; open for the length of the block.

        Opening it and reading from it raise SourceError. There is no time limit in here.
        """
        ...


class NodeHttp(PeerHttp, Protocol):
    """GETs and POSTs of other nodes."""

    def post(self, ip: str, port: int, path: str, body: bytes) -> AbstractAsyncContextManager[HttpBody]:
        """The answer to a POST of a JSON text; as `get` otherwise."""
        ...


class HttpSource:
    """`NodeHttp` over TCP, one connection per request."""

    def __init__(self, *, source_ip: str | None = None) -> None:
        self._source_ip = source_ip

    def get(
        self, ip: str, port: int, path: str, *, headers: Sequence[tuple[str, str]] = ()
    ) -> AbstractAsyncContextManager[HttpBody]:
        return self._ask(ip, port, "GET", path, headers)

    def post(self, ip: str, port: int, path: str, body: bytes) -> AbstractAsyncContextManager[HttpBody]:
        headers = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
        return self._ask(ip, port, "POST", path, headers, body)

    @asynccontextmanager
    async def _ask(
        self,
        ip: str,
        port: int,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes = b"",
    ) -> AsyncIterator[HttpBody]:
        where = f"{ip}:{port}"
        try:
            stream = await trio.open_tcp_stream(ip, port, local_address=self._source_ip)
        except (OSError, ValueError) as error:  # a text that is no host name at all is a ValueError
            raise _lost(where, error) from error
        exchange = _Exchange(stream, where)
        try:
            yield await exchange.ask(method, path, headers, body)
        finally:
            # nothing of value is lost with the connection: it serves one request
            stream.socket.close()


class _Exchange:
    def __init__(self, stream: trio.SocketStream, where: str) -> None:
        self._stream = stream
        self._where = where
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)

    async def ask(self, method: str, path: str, more: Sequence[tuple[str, str]], body: bytes) -> HttpBody:
        headers = [("Host", self._where), ("Accept-Encoding", "gzip"), ("Connection", "close")]
        request = self._state.send(h11.Request(method=method, target=path, headers=[*headers, *more])) or b""
        if body:
            request += self._state.send(h11.Data(body)) or b""
        end = self._state.send(h11.EndOfMessage()) or b""
        try:
            await self._stream.send_all(request + end)
        except (OSError, trio.BrokenResourceError) as error:
            raise _lost(self._where, error) from error
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                break
            if not isinstance(event, h11.InformationalResponse):
                raise SourceError(f"{self._where} hung up before it answered", remedy="ask another peer")
        named = dict(event.headers)
        encoding = named.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        etag = named.get(b"etag", b"").decode("latin-1")
        return HttpBody(event.status_code, encoding, self._pieces(), etag=etag)

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            else:
                raise SourceError(f"{self._where} hung up in its answer", remedy="ask another peer")

    async def _next(self) -> object:
        while True:
            try:
                event = self._state.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._state.receive_data(await self._stream.receive_some(READ_BYTES))
            except (OSError, trio.BrokenResourceError) as error:
                raise _lost(self._where, error) from error
            except h11.ProtocolError as error:
                raise SourceError(
                    f"{self._where} does not answer in whole HTTP: {error}", remedy="ask another peer"
                ) from error


def _lost(where: str, error: BaseException) -> SourceError:
    return SourceError(
        f"cannot talk to {where}: {str(error) or 'connection lost'}", remedy="ask another peer"
    )
