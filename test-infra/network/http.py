"""A small HTTP client on trio and h11 whose sockets are made inside the network's namespace."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import h11
import msgspec
import trio

from network.namespace import HARNESS_IP, Namespace

REQUEST_WITHIN_S = 90.0
CHUNK_BYTES = 64 * 1024


class Answer(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Unanswered(Exception):
    """The request got no answer: refused, cut, or broken off."""


class Caller:
    """Makes requests to addresses of one network, from the harness's own address."""

    def __init__(self, namespace: Namespace | None) -> None:
        self._namespace = namespace

    async def connect(self, ip: str, port: int) -> trio.SocketStream:
        """Raises OSError."""
        if self._namespace is None:
            socket = trio.socket.socket()
        else:
            with self._namespace.entered():
                socket = trio.socket.socket()
        try:
            if self._namespace is not None:
                await socket.bind((HARNESS_IP, 0))
            await socket.connect((ip, port))
        except BaseException:
            socket.close()
            raise
        return trio.SocketStream(socket)

    async def ask(
        self,
        ip: str,
        port: int,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        within_s: float = REQUEST_WITHIN_S,
    ) -> Answer:
        """One request on a connection of its own. Raises Unanswered."""
        with trio.move_on_after(within_s):
            async with self.streamed(ip, port, method, path, body, headers) as (status, chunks):
                content = bytearray()
                async for chunk in chunks:
                    content += chunk
                return Answer(status, bytes(content))
        raise Unanswered(f"{method} {ip}:{port}{path}: no answer within {within_s:g} s")

    @asynccontextmanager
    async def streamed(
        self,
        ip: str,
        port: int,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """The status and the body as it comes. Raises Unanswered, also while the body is read."""
        try:
            stream = await self.connect(ip, port)
        except OSError as error:
            raise Unanswered(f"{method} {ip}:{port}{path}: {error}") from error
        try:
            state = h11.Connection(h11.CLIENT)
            every = {"Host": f"{ip}:{port}", "Connection": "close", "Content-Length": str(len(body))}
            request = h11.Request(
                method=method, target=path, headers=list({**every, **(headers or {})}.items())
            )
            head = state.send(request) or b""
            content = state.send(h11.Data(body)) or b""
            await stream.send_all(head + content + (state.send(h11.EndOfMessage()) or b""))
            # What is left unread ends here: its collection would be a warning, which tests take for an error.
            async with aclosing(_events(stream, state)) as events, aclosing(_body(events)) as body_chunks:
                response = await anext(events)
                assert isinstance(response, h11.Response), response
                yield response.status_code, body_chunks
        except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError, StopAsyncIteration) as error:
            raise Unanswered(f"{method} {ip}:{port}{path}: {error!r}") from error
        finally:
            await trio.aclose_forcefully(stream)


async def _events(stream: trio.SocketStream, state: h11.Connection) -> AsyncGenerator[h11.Event, None]:
    while True:
        event = state.next_event()
        if event is h11.NEED_DATA:
            state.receive_data(await stream.receive_some(CHUNK_BYTES))
        elif isinstance(event, h11.EndOfMessage) or event is h11.PAUSED:
            return
        elif isinstance(event, h11.Event):
            if not isinstance(event, h11.InformationalResponse):
                yield event
        else:
            raise h11.RemoteProtocolError(f"unexpected {event}")


async def _body(events: AsyncIterator[h11.Event]) -> AsyncGenerator[bytes, None]:
    async for event in events:
        if isinstance(event, h11.Data):
            yield bytes(event.data)
        elif isinstance(event, h11.ConnectionClosed):
            return
