"""EventBus: news of the node for its own services, SSE clients and tests.

Publishing is synchronous and never waits. Every subscriber has a bounded buffer; a slow one loses
its oldest events and is told how many. The last events stay in a ring so that an SSE client can
catch up by id (docs/spec/lifecycle.md §3, api.md §10). Event names: docs/spec/testnet.md §6.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import trio


class Event(msgspec.Struct, frozen=True):
    """One published event. `lost` counts events this subscriber missed right before it."""

    id: int
    name: str
    data: Mapping[str, Any]
    lost: int = 0


class Subscription:
    """The receiving end of one subscriber; iterate it with `async for`."""

    def __init__(self, buffer: int, wanted: Callable[[str], bool] | None) -> None:
        self._buffer: deque[Event] = deque(maxlen=buffer)
        self._wanted = wanted
        self._lost = 0
        self._news = trio.Event()

    def _offer(self, event: Event) -> None:
        if self._wanted is not None and not self._wanted(event.name):
            return
        if len(self._buffer) == self._buffer.maxlen:
            self._lost += 1
        self._buffer.append(event)
        self._news.set()

    async def receive(self) -> Event:
        """Wait for the next event of this subscription."""
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            if self._news.is_set():
                self._news = trio.Event()
            await self._news.wait()
        event = self._buffer.popleft()
        if self._lost:
            event = msgspec.structs.replace(event, lost=self._lost)
            self._lost = 0
        return event

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await self.receive()


class EventBus:
    """Publish/subscribe with a ring of the last `ring` events; ids count from 1 per process."""

    def __init__(self, ring: int = 1024) -> None:
        self._ring: deque[Event] = deque(maxlen=ring)
        self._subscriptions: dict[int, Subscription] = {}
        self._taps: list[Callable[[Event], None]] = []
        self._last_id = 0
        self._next_key = 0

    def publish(self, name: str, data: Mapping[str, Any] | None = None) -> None:
        """Give the event to every subscriber; never blocks and never raises."""
        self._last_id += 1
        event = Event(self._last_id, name, data if data is not None else {})
        self._ring.append(event)
        for subscription in self._subscriptions.values():
            subscription._offer(event)
        for listener in self._taps:
            listener(event)

    def tap(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` inside every publish from now on: for observers that must miss nothing.

        It must be quick and must not raise (the simulator's trace uses it).
        """
        self._taps.append(listener)

    @property
    def last_id(self) -> int:
        return self._last_id

    def replay(self, after_id: int = 0) -> Iterator[Event]:
        """The buffered events with an id greater than `after_id`, oldest first."""
        return iter([event for event in self._ring if event.id > after_id])

    @contextmanager
    def subscribe(
        self,
        *names: str,
        buffer: int = 256,
        replay_after_id: int | None = None,
    ) -> Iterator[Subscription]:
        """Subscribe to the named events (all if none given) for the length of a `with` block.

        With `replay_after_id`, the buffered events after that id come first, without a gap or a
        duplicate between them and the live ones. What the ring has already dropped is reported as
        `lost` of the first event (with names given, at most that many of them were wanted).
        """
        wanted = frozenset(names).__contains__ if names else None
        subscription = Subscription(buffer, wanted)
        if replay_after_id is not None:
            oldest = self._ring[0].id if self._ring else self._last_id + 1
            subscription._lost = max(0, oldest - 1 - replay_after_id)
            for event in self.replay(replay_after_id):
                subscription._offer(event)
        key = self._next_key
        self._next_key += 1
        self._subscriptions[key] = subscription
        try:
            yield subscription
        finally:
            del self._subscriptions[key]
