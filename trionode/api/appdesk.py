"""The desk for commands to apps: what has to go on when the client that asked for it goes away.

An install that was begun is carried through (or rolled back by itself), and a stop of three containers does
not end after the first, whatever becomes of the connection. The work runs in this service; the request only
listens. Commands to all nodes of an app are sent from here too (docs/spec/api.md §8.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec
import trio

from trionode.api.answers import Answer, ApiFailure, message, warning
from trionode.api.closing import closing
from trionode.api.commandstream import CommandStream, OutputStream
from trionode.containers.operations import Busy
from trionode.errors import TrionodeError
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.sync.source import HttpBody, SourceError

MAX_COMMANDS = 64
"""Commands and fan-outs at once; more are refused, so nothing here grows without bound."""
MAX_STREAMS = 64
"""Logs and samples that are followed at once. They have places of their own: who reads keeps nobody from
stopping an app."""
MAX_OF_ONE = 16
"""Of either, for one caller."""
ASK_S = 30.0
"""A node that was sent a command is listened to this long; what it does goes on without us."""
CHUNKS_AHEAD = 16

log = get_logger("api.appdesk")

Work = Callable[[CommandStream], Awaitable[Answer]]
Source = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]


class NodeHttp(Protocol):
    """GETs of other nodes (`sync.source.HttpSource`)."""

    def get(
        self, ip: str, port: int, path: str, *, headers: Sequence[tuple[str, str]] = ()
    ) -> AbstractAsyncContextManager[HttpBody]: ...


class _Job(msgspec.Struct, frozen=True, eq=False):
    """What somebody wants done, and the place it takes until then."""

    work: Callable[[], Awaitable[None]]
    places: Places
    who: str


class Target(msgspec.Struct, frozen=True):
    """A node a command is sent to."""

    ip: str
    port: int


class Places:
    """How much may be under way, in all and of one caller; of the node itself (who is "") all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return self._taken.total()

    def take(self, who: str) -> None:
        """Raises ApiFailure when there is none left."""
        if self._taken.total() >= self._most:
            raise ApiFailure("Too many commands to apps are under way on this node, try again later")
        if who and self._taken[who] >= MAX_OF_ONE:
            raise ApiFailure(f"Too many of your commands to apps are under way, at most {MAX_OF_ONE} may be")
        self._taken[who] += 1

    def give_back(self, who: str) -> None:
        self._taken[who] -= 1
        if not self._taken[who]:
            del self._taken[who]


class AppDesk:
    """Service "app commands". `who`: the Flux ID of the caller."""

    name = "app commands"

    def __init__(self, http: NodeHttp, counters: Counters, *, spacing_s: float) -> None:
        self._http = http
        self._counters = counters
        self._spacing_s = spacing_s
        # as many places as there may be jobs: handing one in never waits
        self._jobs_in, self._jobs = trio.open_memory_channel[_Job](MAX_COMMANDS + MAX_STREAMS)
        self.commands, self.streams = Places(MAX_COMMANDS), Places(MAX_STREAMS)
        self._open = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self._open = True
                task_status.started()
                async for job in self._jobs:
                    nursery.start_soon(self._guard, job)
        finally:
            self._open = False

    async def _guard(self, job: _Job) -> None:
        """One job to its end; a defect in it must not cancel an install beside it."""
        try:
            await job.work()
        except Exception:
            self._counters.add("api.apps.crashed")
            log.exception("a command to an app failed")
        finally:
            job.places.give_back(job.who)

    def begin(self, work: Work, who: str = "") -> CommandStream:
        """Have it done; what it tells, and at last its answer, come out of the stream.

        Raises ApiFailure when too much is under way.
        """
        stream = CommandStream()

        async def job() -> None:
            try:
                stream.finish(await _answer_of(work, stream))
            finally:
                # reached with no answer only when the node stops
                stream.finish(Answer("error", message("The node stops; the command was cut short")))

        self._hand_in(job, self.commands, who)
        return stream

    async def do(self, work: Callable[[], Awaitable[Answer]], who: str = "") -> Answer:
        """Have it done and wait for the answer; it goes on when the waiting is cancelled."""
        return await self.begin(lambda _: work(), who).answer()

    async def pump(self, source: Source, who: str = "") -> OutputStream:
        """Chunks from a source that is opened here and closed when the client leaves.

        Raises what opening it raises; what breaks later ends the stream.
        """
        chunks_in, chunks = trio.open_memory_channel[bytes](CHUNKS_AHEAD)
        opened = trio.Event()
        problems: list[Exception] = []
        scope = trio.CancelScope()

        async def job() -> None:
            try:
                with scope, chunks_in:
                    async with source() as pieces, closing(pieces):
                        opened.set()
                        async for piece in pieces:
                            await chunks_in.send(piece)
            except trio.BrokenResourceError:
                self._counters.add("api.apps.listeners_left")
            except TrionodeError as error:
                problems.append(error)
            finally:
                opened.set()

        self._hand_in(job, self.streams, who)
        try:
            await opened.wait()
        except trio.Cancelled:
            scope.cancel(reason="the client left")
            raise
        if problems:
            raise problems[0]
        return OutputStream(chunks, scope.cancel)

    def fan_out(self, targets: Sequence[Target], path: str, zelidauth: str, who: str = "") -> None:
        """Send a command to nodes, one after the other with a pause, without waiting for their answers.

        `zelidauth`: the header of who asked, as it came. Raises ApiFailure when too much is under way.
        """

        async def job() -> None:
            async with trio.open_nursery() as nursery:
                for number, target in enumerate(targets):
                    if number:
                        await trio.sleep(self._spacing_s)
                    nursery.start_soon(self._ask, target, path, zelidauth)

        self._hand_in(job, self.commands, who)

    async def _ask(self, target: Target, path: str, zelidauth: str) -> None:
        try:
            with trio.move_on_after(ASK_S):
                headers = [("zelidauth", zelidauth)]
                async with self._http.get(target.ip, target.port, path, headers=headers) as body:
                    async for _ in body.pieces:
                        pass  # read to the end, so that an old node does not see its client leave
            self._counters.add("api.apps.global_commands")
        except SourceError as error:
            self._counters.add("api.apps.global_commands_failed")
            log.info("command not delivered", node=f"{target.ip}:{target.port}", problem=error.message)

    def _hand_in(self, work: Callable[[], Awaitable[None]], places: Places, who: str) -> None:
        if not self._open:
            raise ApiFailure("This node does not take commands to apps right now")
        try:
            places.take(who)
        except ApiFailure:
            self._counters.add("api.apps.refused.busy")
            raise
        self._jobs_in.send_nowait(_Job(work, places, who))


async def _answer_of(work: Work, stream: CommandStream) -> Answer:
    """The answer of the work, or what stands for its failure; this service outlives any command."""
    try:
        return await work(stream)
    except ApiFailure as failure:
        return failure.answer()
    except Busy as busy:
        return warning(busy.one_line())
    except TrionodeError as error:
        return Answer("error", message(error.one_line()))
    except Exception as error:
        log.exception("a command to an app failed")
        return Answer("error", message("Internal error", type(error).__name__))
