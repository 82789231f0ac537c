"""The event stream: Server-Sent Events from the bus (docs/spec/api.md §10, lifecycle.md §3).

`EventStream` is an async iterator of chunks for one client. It subscribes when iteration starts and
unsubscribes in `aclose`, which the server calls however the connection ends.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import ExitStack

import trio

from trionode.api.delivery import encode_json
from trionode.runtime.bus import Event, EventBus, Subscription

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",
}
KEEPALIVE = b": keepalive\n\n"
GAP_EVENT = "stream:gap"


def frame(name: str, data: object, event_id: int | None = None) -> bytes:
    """One record: event, data, id, blank line. Records of our own making carry no id."""
    lines = b"event: " + _one_line(name).encode() + b"\ndata: " + encode_json(data) + b"\n"
    if event_id is not None:
        lines += b"id: %d\n" % event_id
    return lines + b"\n"


def _one_line(name: str) -> str:
    return name.replace("\r", " ").replace("\n", " ")


def last_event_id(header: str | None) -> int:
    """The number a `Last-Event-ID` header begins with; 0 (replay everything) when there is none."""
    found = re.match(r"\s*(\d{1,15})", header or "", re.ASCII)
    return int(found[1]) if found else 0


class EventStream:
    """Chunks for one client.

    The client's buffer holds the whole ring and as much again; when it overflows the oldest events
    are lost and a `stream:gap` record says how many, instead of slowing the node down.
    """

    def __init__(self, bus: EventBus, after_id: int, ring: int, keepalive_s: float) -> None:
        self._bus = bus
        self._after_id = after_id
        self._buffer = 2 * ring
        self._keepalive_s = keepalive_s
        self._stack = ExitStack()
        self._subscription: Subscription | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._subscription is None:
            return self._begin()
        event: Event | None = None
        with trio.move_on_after(self._keepalive_s):
            event = await self._subscription.receive()
        if event is None:
            return KEEPALIVE
        record = frame(event.name, event.data, event.id)
        return frame(GAP_EVENT, {"lost": event.lost}) + record if event.lost else record

    def _begin(self) -> bytes:
        """Subscribe. The (empty) first chunk makes the server send the headers at once."""
        after_id = self._after_id
        if not after_id:
            # "Everything kept": what the ring has dropped before is not missed by anybody.
            oldest = next(self._bus.replay(), None)
            after_id = oldest.id - 1 if oldest is not None else 0
        self._subscription = self._stack.enter_context(
            self._bus.subscribe(buffer=self._buffer, replay_after_id=after_id)
        )
        return b""

    async def aclose(self) -> None:
        """Unsubscribe; idempotent."""
        self._stack.close()
        await trio.lowlevel.cancel_shielded_checkpoint()
