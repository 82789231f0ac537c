"""The pings of one peer (wire.md §4); `peers.liveness` decides when."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import trio

from trionode.peers.link import LinkClosed
from trionode.runtime.clock import WallClock

if TYPE_CHECKING:
    from trionode.peers.peer import Peer


class Pinger:
    """Pings one peer and notes what its pongs say."""

    def __init__(self, peer: Peer, clock: WallClock) -> None:
        self._peer = peer
        self._clock = clock

    def ping_soon(self) -> None:
        """One ping; whenever its pong comes, it counts."""
        self._peer.last_ping_ms = self._clock.now_ms()
        self._peer.link.ping_soon(partial(self._ponged, trio.current_time()))

    async def ping(self) -> None:
        """One ping and its pong. Raises LinkClosed."""
        self._peer.last_ping_ms = self._clock.now_ms()
        sent_s = trio.current_time()
        await self._peer.link.ping()
        self._ponged(sent_s)

    def _ponged(self, sent_s: float) -> None:
        peer = self._peer
        peer.missed_pongs = 0
        peer.latency_ms = math.ceil((trio.current_time() - sent_s) * 500)
        peer.last_pong_ms = self._clock.now_ms()

    async def answers_within(self, timeout_s: float) -> bool:
        """Whether a ping sent now is answered in time; False also when the link breaks."""
        with trio.move_on_after(timeout_s):
            try:
                await self.ping()
            except LinkClosed:
                return False
            return True
        return False
