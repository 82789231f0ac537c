"""ProgressStream: what an operation tells while it runs, for the API and for people (lifecycle.md §12).

The API answers with JSON objects one after the other, without anything between them. The stream is bounded:
a reader that does not keep up misses messages, never the operation its time, and never the last message.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import trio

from trionode.containers.engine import PullProgress
from trionode.wire.jsjson import stringify, utf8

BUFFER = 256

Message = Mapping[str, Any]


class ProgressStream:
    """`Progress` with a reader. Close it when the operation is over, so that the reader ends."""

    def __init__(self, buffer: int = BUFFER) -> None:
        # Full: the message is dropped and counted, see above.
        self._send, self._receive = trio.open_memory_channel[Message](buffer)
        self._last: Message | None = None
        self.dropped = 0

    def tell(self, message: Message) -> None:
        """See `Progress.tell`."""
        try:
            self._send.send_nowait(message)
        except trio.WouldBlock:
            self.dropped += 1
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.dropped += 1  # nobody reads any more

    def close(self, last: Message | None = None) -> None:
        """No more messages but this one, which is never dropped."""
        self._last = last
        self._send.close()

    async def messages(self) -> AsyncIterator[Message]:
        """Each message in turn, until the stream is closed."""
        async with self._receive:
            async for message in self._receive:
                yield message
        if self._last is not None:
            yield self._last

    async def chunks(self) -> AsyncIterator[bytes]:
        """The same as JSON objects one after the other."""
        async for message in self.messages():
            yield utf8(stringify(dict(message)))


def status(text: str) -> Message:
    """A sentence of ours."""
    return {"status": text}


def of_pull(step: PullProgress) -> Message:
    """A message of the engine's pull in the form the network knows."""
    message: dict[str, Any] = {"status": step.status}
    if step.layer:
        message["id"] = step.layer
    if step.total_bytes is not None or step.done_bytes is not None:
        sizes = {"current": step.done_bytes, "total": step.total_bytes}
        message["progressDetail"] = {name: size for name, size in sizes.items() if size is not None}
    return message
