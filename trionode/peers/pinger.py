"""The pings of one link and what their pongs say (wire.md §4); `peers.liveness` decides when."""

from __future__ import annotations

import math
from functools import partial

import trio

from trionode.peers.link import Link, LinkClosed
from trionode.runtime.clock import WallClock


class Pinger:
    """Pings one link. Wall-clock times are None before the first ping or pong."""

    def __init__(self, link: Link, clock: WallClock) -> None:
        self._link = link
        self._clock = clock
        self.missed = 0
        """Pings since the last pong; `peers.liveness` counts up, any pong sets it to zero."""
        self.latency_ms: int | None = None
        """Half the round trip of the newest answered ping."""
        self.last_ping_ms: int | None = None
        self.last_pong_ms: int | None = None

    def ping_soon(self) -> None:
        """One ping; whenever its pong comes, it counts."""
        self.last_ping_ms = self._clock.now_ms()
        self._link.ping_soon(partial(self._ponged, trio.current_time()))

    async def ping(self) -> None:
        """One ping and its pong. Raises LinkClosed."""
        self.last_ping_ms = self._clock.now_ms()
        sent_s = trio.current_time()
        await self._link.ping()
        self._ponged(sent_s)

    def _ponged(self, sent_s: float) -> None:
        self.missed = 0
        self.latency_ms = math.ceil((trio.current_time() - sent_s) * 500)
        self.last_pong_ms = self._clock.now_ms()

    async def answers_within(self, timeout_s: float) -> bool:
        """Whether a ping sent now is answered in time; False also when the link breaks."""
        with trio.move_on_after(timeout_s):
            try:
                await self.ping()
            except LinkClosed:
                return False
            return True
        return False
