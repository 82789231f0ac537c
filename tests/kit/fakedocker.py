"""An engine's HTTP API of values on a unix socket, for what a real one cannot be made to do.

Newer versions than the one at hand, answers that break off, silence, nonsense. Paths are told without their
version, which is kept in `Asked`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import msgspec
import trio

PIECE_BYTES = 65_536


class Asked(msgspec.Struct, frozen=True):
    """A request that came. `version`: of the path, "" when it had none."""

    method: str
    path: str
    version: str
    query: str
    headers: dict[str, str]
    body: bytes


class Answer(msgspec.Struct, frozen=True):
    """`pieces` are a chunked body; `breaks_off`: without its end; `hangs`: silence instead of its end."""

    value: Any = None
    status: int = 200
    pieces: tuple[bytes, ...] | None = None
    breaks_off: bool = False
    hangs: bool = False


class FakeDocker:
    """The engine; `answers` by (method, path) go before the built-in ones."""

    def __init__(self, folder: Path, *, api: str = "1.51", oldest: str = "1.44") -> None:
        self.path = folder / "fake.sock"
        self.url = f"unix://{self.path}"
        self.api = api
        self.oldest = oldest
        self.asked: list[Asked] = []
        self.answers: dict[tuple[str, str], Answer] = {}
        self.connections = 0
        """Open at this moment."""
        self.silent = False
        """Requests are taken and not answered."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen for the length of the block; leaving it cuts all connections."""
        self.path.unlink(missing_ok=True)
        listening = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        await listening.bind(str(self.path))
        listening.listen(100)
        listener = trio.SocketListener(listening)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, [listener])
            yield
            nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        try:
            await self._talk(stream)
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            return  # the other side went away, maybe in the middle of a question
        finally:
            self.connections -= 1
            await trio.aclose_forcefully(stream)

    async def _talk(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            request, body = None, b""
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(PIECE_BYTES))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    break
            if request is None or not isinstance(event, h11.EndOfMessage):
                return
            if not await self._answer(stream, connection, request, body):
                return
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()

    async def _answer(
        self, stream: trio.SocketStream, connection: h11.Connection, request: h11.Request, body: bytes
    ) -> bool:
        path, _, query = request.target.decode().removeprefix("/").partition("?")
        version = ""
        if path.startswith("v1."):
            version, _, path = path.partition("/")
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        asked = Asked(request.method.decode(), path, version, query, headers, body)
        self.asked.append(asked)
        if self.silent:
            return await _stay_silent(stream)
        answer = self._answer_to(asked)
        pieces = answer.pieces
        content = b"" if answer.value is None else msgspec.json.encode(answer.value)
        framing = ("Transfer-Encoding", "chunked") if pieces else ("Content-Length", str(len(content)))
        sent = h11.Response(
            status_code=answer.status, headers=[("Content-Type", "application/json"), framing], reason=b"so"
        )
        await stream.send_all(connection.send(sent) or b"")
        for piece in pieces or (content,):
            if piece:
                await stream.send_all(connection.send(h11.Data(data=piece)) or b"")
        if answer.hangs:
            return await _stay_silent(stream)
        if answer.breaks_off:
            return False
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        return True

    def _answer_to(self, asked: Asked) -> Answer:
        found = self.answers.get((asked.method, asked.path))
        if found is not None:
            return found
        if asked.version and tuple(map(int, asked.version[1:].split("."))) < tuple(
            map(int, self.oldest.split("."))
        ):
            return Answer({"message": f"client version {asked.version} is too old"}, 400)
        if asked.path == "version":
            return Answer(
                {"Version": "29.0.0", "ApiVersion": self.api, "MinAPIVersion": self.oldest, "Arch": "arm64"}
            )
        if asked.path == "info":
            return Answer({"NCPU": 4, "MemTotal": 8 << 30, "SystemTime": "2026-01-01T00:00:00.5Z"})
        return Answer({"message": f"nobody knows {asked.path}"}, 404)


async def _stay_silent(stream: trio.SocketStream) -> bool:
    """Until the other side closes the connection."""
    while await stream.receive_some(PIECE_BYTES):
        continue
    return False
