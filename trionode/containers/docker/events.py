"""The event stream of the Docker engine, across its restarts (docs/spec/lifecycle.md §13).

Nothing runs beside the reader: a piece is read when the next event is asked for, and the socket wakes it.
While the engine is away its socket is tried at growing intervals. What is not of use is filtered out at the
engine, above all the commands of health checks, which would wake the node again and again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import trio

from trionode.containers.docker.answers import decode, since_of
from trionode.containers.docker.requests import Body, Requests
from trionode.containers.docker.shapes import About, ToldEvent
from trionode.containers.docker.streams import Lines
from trionode.containers.engine import EngineError, EngineEvent, EngineUnreachable
from trionode.runtime.logs import get_logger

ENTER_WITHIN_S = 5.0
"""An engine that does not answer in this time when the stream is opened counts as away."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
KINDS = ("container", "network", "image", "volume")
ACTIONS = (
    *("create", "start", "restart", "stop", "kill", "die", "oom", "pause", "unpause", "destroy"),
    *("rename", "update", "health_status", "connect", "disconnect", "pull", "tag", "untag", "delete"),
)
_FILTERS = msgspec.json.encode({"type": KINDS, "event": ACTIONS}).decode()

log = get_logger("containers.docker.events")


class DockerEvents:
    """One listener. Has to be opened before and closed after use."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._connection = AsyncExitStack()
        self._body: Body | None = None
        self._lines = Lines()
        self._queue: deque[EngineEvent] = deque()
        self._has_lost = False
        self._lost_s = 0.0
        self._pause_s = 0.0

    async def open(self) -> None:
        """Listen from now on; when the engine is away, from when it is there."""
        with trio.move_on_after(ENTER_WITHIN_S):
            try:
                await self._connect()
                return
            except EngineError as error:
                log.warning("no events from the engine", problem=error.message)
        self._interrupted()

    async def close(self) -> None:
        self._body = None
        await self._connection.aclose()

    def __aiter__(self) -> AsyncIterator[EngineEvent]:
        return self

    async def __anext__(self) -> EngineEvent:
        while True:
            if self._queue:
                await trio.lowlevel.checkpoint()
                return self._queue.popleft()
            if self._body is None:
                await self._reconnect()
            if self._has_lost:
                self._has_lost = False
                return EngineEvent(lost=True, away_s=trio.current_time() - self._lost_s)
            await self._read()

    async def _read(self) -> None:
        if self._body is None:
            return
        try:
            content = await self._body.receive()
        except EngineUnreachable:
            content = b""
        if not content:
            await self.close()
            self._interrupted()
            return
        self._pause_s = 0.0
        for line in self._lines.feed(content):
            if line.strip():
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            self._queue.append(decode(line, ToldEvent).event())
        except EngineError as error:
            # Something happened that cannot be read: whoever listens has to look.
            log.warning("an event of the engine cannot be read", problem=error.message)
            self._lose()

    async def _reconnect(self) -> None:
        told = False
        while self._body is None:
            await trio.sleep(self._pause_s)
            self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            try:
                await self._connect()
            except EngineError as error:
                if not told:
                    log.warning("the engine is away", problem=error.message)
                told = True
        if told:
            log.info("the engine is there again")

    async def _connect(self) -> None:
        # The engine says yes before it listens: with its own time asked before, nothing falls in between.
        about = decode(await self._requests.call("GET", "info", doing="ask about the engine"), About)
        query = {"filters": _FILTERS}
        since = since_of(about.system_time)
        if since is not None:
            query["since"] = since
        async with AsyncExitStack() as stack:
            body = await stack.enter_async_context(
                self._requests.stream("GET", "events", doing="listen to the engine", query=query)
            )
            self._connection = stack.pop_all()
        self._lines = Lines()
        self._body = body

    def _interrupted(self) -> None:
        self._lose()
        self._pause_s = max(self._pause_s, FIRST_PAUSE_S)

    def _lose(self) -> None:
        if not self._has_lost:
            self._has_lost, self._lost_s = True, trio.current_time()
