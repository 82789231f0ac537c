"""Streams whose client only listens: progress of an operation, output of a container (docs/spec/api.md §1.5).

The work is done elsewhere (`api.appdesk`); a client that is slow loses news it has not read yet, a client
that leaves loses all of them, and neither changes anything for the work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import trio

from trionode.api.answers import Answer
from trionode.api.delivery import encode_json

KEPT_MESSAGES = 500
STREAM_HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


class CommandStream:
    """JSON objects without separators; the last one is the answer. Is the `Progress` of an operation.

    Of a layer that is being fetched only the newest message waits; when more than `KEPT_MESSAGES` wait, the
    oldest are lost.
    """

    def __init__(self) -> None:
        self._waiting: dict[object, Mapping[str, Any]] = {}
        self._number = 0
        self._answer: Answer | None = None
        self._told = False
        self._began = False
        self._news = trio.Event()

    def tell(self, message: Mapping[str, Any]) -> None:
        """See `Progress.tell`."""
        self._number += 1
        key = ("layer", message["id"]) if message.get("id") else self._number
        # anew at the end, so that the order stays that of the news
        self._waiting.pop(key, None)
        if len(self._waiting) >= KEPT_MESSAGES:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[key] = message
        self._news.set()

    def finish(self, answer: Answer) -> None:
        """The work is over; this comes last. Only the first call counts."""
        if self._answer is None:
            self._answer = answer
            self._news.set()

    async def answer(self) -> Answer:
        """Wait for the end alone."""
        while self._answer is None:
            await self._changed()
        return self._answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._began:
            # makes the server send the headers at once
            self._began = True
            return b""
        while not self._waiting and self._answer is None:
            await self._changed()
        if self._waiting:
            batch, self._waiting = self._waiting, {}
            return b"".join(encode_json(message) for message in batch.values())
        if self._told or self._answer is None:
            raise StopAsyncIteration
        self._told = True
        return encode_json(self._answer.envelope())

    async def _changed(self) -> None:
        if self._news.is_set():
            self._news = trio.Event()
        await self._news.wait()

    async def aclose(self) -> None:
        """The client left; idempotent."""
        self._waiting.clear()
        await trio.lowlevel.cancel_shielded_checkpoint()


class OutputStream:
    """Chunks of bytes from a bounded channel: who produces them waits for the client, and ends with it."""

    def __init__(self, chunks: trio.MemoryReceiveChannel[bytes], leave: Callable[[], object]) -> None:
        self._chunks = chunks
        self._leave = leave
        self._began = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._began:
            self._began = True
            return b""
        try:
            return await self._chunks.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            raise StopAsyncIteration from error

    async def aclose(self) -> None:
        """The client left: what makes the chunks is ended; idempotent."""
        self._leave()
        self._chunks.close()
        await trio.lowlevel.cancel_shielded_checkpoint()
