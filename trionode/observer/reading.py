"""Asking a node's public HTTP API, within bounds: nothing a stranger answers can hurt or stop us.

An answer that is late, too long, packed oddly, no JSON or not of the form docs/spec/api.md §1.1 is a
SourceError. Unchanged answers are recognised by their ETag, so that they are not sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Protocol, TypeVar

import msgspec
import trio

from trionode.runtime.counters import Counters
from trionode.sync.rowstream import BadStream, Unpacker
from trionode.sync.source import HttpBody, SourceError

IN_THREAD_FROM_BYTES = 64 * 1024
MAX_ETAG_CHARS = 200
MAX_SHORT_BYTES = 256 * 1024
LONG_ANSWERS_AT_ONCE = 2
USER_AGENT = "trionode-observer"

_T = TypeVar("_T")


class SourceHttp(Protocol):
    """GETs of other nodes (`sync.source.HttpSource`)."""

    def get(
        self, ip: str, port: int, path: str, *, headers: Sequence[tuple[str, str]] = ()
    ) -> AbstractAsyncContextManager[HttpBody]:
        """The answer to a GET; raises SourceError, and has no time limit of its own."""
        ...


class _Envelope(msgspec.Struct, frozen=True):
    """An answer whose data is still bytes, so that nothing is built of what will be refused."""

    status: str
    data: msgspec.Raw = msgspec.Raw(b"null")


class Reading(msgspec.Struct, frozen=True):
    """What came of one question. `value` None: unchanged since the tag that was sent."""

    value: Any
    etag: str
    received_bytes: int


class Reader:
    """Asks one thing of one node at a time. `read` turns the bytes of `data` into a value."""

    def __init__(self, http: SourceHttp, counters: Counters) -> None:
        self._http = http
        self._counters = counters
        self._long = trio.CapacityLimiter(LONG_ANSWERS_AT_ONCE)

    async def short(self, ip: str, port: int, path: str, read: Callable[[bytes], _T], limit_s: float) -> _T:
        """A small answer. Raises SourceError."""
        reading = await self._ask(ip, port, path, read, "", limit_s, MAX_SHORT_BYTES)
        return reading.value  # type: ignore[no-any-return]

    async def long(
        self,
        ip: str,
        port: int,
        path: str,
        read: Callable[[bytes], _T],
        *,
        etag: str = "",
        limit_s: float,
        limit_bytes: int,
    ) -> Reading:
        """A whole list, a few at a time in all, parsed beside the loop. Raises SourceError."""
        async with self._long:
            return await self._ask(ip, port, path, read, etag, limit_s, limit_bytes)

    async def _ask(
        self,
        ip: str,
        port: int,
        path: str,
        read: Callable[[bytes], _T],
        etag: str,
        limit_s: float,
        limit_bytes: int,
    ) -> Reading:
        self._counters.add("observer.requests")
        with trio.move_on_after(limit_s):
            status, body, new_etag, received = await self._body(ip, port, path, etag, limit_bytes)
            if status == 304 and etag:
                self._counters.add("observer.unchanged")
                return Reading(None, etag, received)
            if status != 200:
                raise SourceError(f"it answered {status}", remedy="ask another node")
            if len(body) < IN_THREAD_FROM_BYTES:
                value = _read(body, read)
            else:
                value = await trio.to_thread.run_sync(_read, body, read, abandon_on_cancel=True)
            return Reading(value, new_etag, received)
        raise SourceError(f"no whole answer within {limit_s:g} s", remedy="ask another node")

    async def _body(
        self, ip: str, port: int, path: str, etag: str, limit_bytes: int
    ) -> tuple[int, bytes, str, int]:
        headers = [("User-Agent", USER_AGENT), *([("If-None-Match", etag)] if etag else [])]
        received = 0
        parts: list[bytes] = []
        try:
            async with self._http.get(ip, port, path, headers=headers) as answer:
                unpacker = Unpacker(answer.encoding, max_total_bytes=limit_bytes)
                async with aclosing(answer.pieces) as pieces:
                    async for piece in pieces:
                        received += len(piece)
                        parts.extend(unpacker.feed(piece))
                        await trio.lowlevel.checkpoint()
        except BadStream as error:
            raise SourceError(error.message, remedy="ask another node") from error
        finally:
            self._counters.add("observer.bytes", received)
        new_etag = answer.etag if len(answer.etag) <= MAX_ETAG_CHARS else ""
        return answer.status, b"".join(parts), new_etag, received


def _read(body: bytes, read: Callable[[bytes], _T]) -> _T:
    """The value in an answer. Raises SourceError."""
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
        if envelope.status != "success":
            raise SourceError("it answered with an error", remedy="ask another node")
        return read(bytes(envelope.data))
    except (msgspec.DecodeError, RecursionError, UnicodeError, ValueError) as error:
        raise SourceError(
            f"its answer is not of the form: {str(error)[:120]}", remedy="ask another node"
        ) from (error)
