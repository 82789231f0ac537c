"""The event stream of the engine twin: one bounded queue for each listener (lifecycle.md §13).

A listener that does not keep up, and every listener when the engine goes away, is told that events are
missing (`lost`) as soon as the engine is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager

import trio

from trionode.containers.engine import EngineEvent
from trionode.runtime.clock import WallClock

QUEUE_EVENTS = 1000


class EventStream:
    """What one listener has yet to hear. When the queue is full it is emptied, and `lost` told instead."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._queue: deque[EngineEvent] = deque()
        self._news = trio.Event()
        self._has_lost = hub.away
        self._lost_ms = hub.now_ms()

    def __aiter__(self) -> AsyncIterator[EngineEvent]:
        return self

    async def __anext__(self) -> EngineEvent:
        await trio.lowlevel.checkpoint()
        while self._hub.away or not (self._has_lost or self._queue):
            await self._news.wait()
            self._news = trio.Event()
        if self._has_lost:
            self._has_lost = False
            return EngineEvent(lost=True, away_s=(self._hub.now_ms() - self._lost_ms) / 1000)
        return self._queue.popleft()

    def offer(self, event: EngineEvent) -> None:
        """Something happened; never waits."""
        if len(self._queue) >= QUEUE_EVENTS:
            self.lose()
        self._queue.append(event)
        self._news.set()

    def lose(self) -> None:
        """What was not heard yet is gone."""
        self._queue.clear()
        if not self._has_lost:
            self._has_lost, self._lost_ms = True, self._hub.now_ms()

    def wake(self) -> None:
        self._news.set()


class EventHub:
    """Tells all listeners of one engine."""

    def __init__(self, clock: WallClock) -> None:
        self._clock = clock
        self._streams: list[EventStream] = []
        self._away = False

    @property
    def away(self) -> bool:
        """Whether the engine is away: nobody hears anything."""
        return self._away

    @away.setter
    def away(self, value: bool) -> None:
        self._away = value
        for stream in self._streams:
            if value:
                stream.lose()
            stream.wake()

    def now_ms(self) -> int:
        """By the clock of its machine."""
        return self._clock.now_ms()

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._streams) and not self._away

    def interrupt(self) -> None:
        """The engine was away for a moment."""
        self.away = True
        self.away = False

    @contextmanager
    def listening(self) -> Iterator[EventStream]:
        """A stream for the length of the block."""
        stream = EventStream(self)
        self._streams.append(stream)
        try:
            yield stream
        finally:
            self._streams.remove(stream)

    def tell(
        self,
        kind: str,
        action: str,
        name: str,
        attributes: Mapping[str, str] | None = None,
        exit_code: int | None = None,
    ) -> None:
        """Something happened just now."""
        if not self.is_heard:
            return
        event = EngineEvent(
            kind=kind,
            action=action,
            name=name,
            attributes=attributes or {},
            at_ms=self._clock.now_ms(),
            exit_code=exit_code,
        )
        for stream in self._streams:
            stream.offer(event)
