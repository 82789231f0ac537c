"""Requests put to the API's application and over sockets, and other nodes as it asks them over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from trionode.api.probe import HttpAnswer
from trionode.sync.source import HttpBody, SourceError


class RawRequest:
    """One request put to the ASGI application itself; `leave` is the client going away."""

    def __init__(self, app: Any, method: str, path: str, headers: Mapping[str, str]) -> None:
        self._app = app
        self._left = trio.Event()
        self._asked = False
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 5000),
            "server": ("127.0.0.1", 16127),
            "extensions": {},
        }
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    async def run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    def leave(self) -> None:
        self._left.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().title(): value.decode() for name, value in message["headers"]}
        else:
            self.chunks.append(message.get("body", b""))


async def read_all(stream: trio.SocketStream) -> bytes:
    """What comes until the other side closes, however it does that."""
    answer = bytearray()
    with trio.fail_after(90), suppress(trio.BrokenResourceError):
        while chunk := await stream.receive_some():
            answer += chunk
    return bytes(answer)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that tells nobody, like a count."""
    with trio.fail_after(90):
        while not condition():  # noqa: ASYNC110 - that is what it is for
            await trio.sleep(0.02)


class FakeNodes:
    """Other nodes over HTTP: what was asked of whom, when, and with whose credentials."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], float]] = []
        self.dead: set[str] = set()

    @asynccontextmanager
    async def get(
        self, ip: str, port: int, path: str, *, headers: Sequence[tuple[str, str]] = ()
    ) -> AsyncIterator[HttpBody]:
        if ip in self.dead:
            raise SourceError(f"cannot talk to {ip}")
        self.asked.append((f"{ip}:{port}", path, dict(headers), trio.current_time()))
        yield HttpBody(200, "", self._body())

    async def _body(self) -> AsyncGenerator[bytes, None]:
        await trio.sleep(3)  # others take their time
        yield b"{}"


class FakeProbe:
    """Machines that answer: `pages[(ip, port, path)]` and `open_ports`."""

    def __init__(self) -> None:
        self.pages: dict[tuple[str, int, str], HttpAnswer] = {}
        self.open_ports: set[tuple[str, int]] = set()

    async def http_get(self, ip: str, port: int, path: str, *, timeout_s: float) -> HttpAnswer | None:
        return self.pages.get((ip, port, path))

    async def tcp_connects(self, ip: str, port: int, *, timeout_s: float) -> bool:
        return (ip, port) in self.open_ports
