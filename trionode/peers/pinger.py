"""The long-lived ping task of one peer (wire.md §4); `peers.liveness` decides when it pings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from trionode.peers.link import LinkClosed
from trionode.runtime.clock import WallClock

if TYPE_CHECKING:
    from trionode.peers.peer import Peer


class Pinger:
    """Pings one peer whenever it is woken."""

    def __init__(self, peer: Peer, clock: WallClock) -> None:
        self._peer = peer
        self._clock = clock
        self._wake = trio.Event()
        self.busy = False

    def wake(self) -> None:
        """Send a ping soon; only while not busy."""
        self.busy = True
        self._wake.set()

    async def run(self) -> None:
        """Serve wakes until cancelled or the link is gone (LinkClosed)."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self.ping()
            self.busy = False

    async def ping(self) -> None:
        """One ping and its pong. Raises LinkClosed."""
        peer = self._peer
        peer.last_ping_ms = self._clock.now_ms()
        sent_s = trio.current_time()
        await peer.link.ping()
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
