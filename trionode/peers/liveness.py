"""Pings and who is dead (wire.md §4): one ticker for all regular peers.

Every interval each peer's count of missed pongs rises by one; a peer whose count reaches the limit
is cut at once, the others are pinged. Any pong sets the count to zero, also a late one. A ping costs
no task: the link calls back when its pong arrives.
"""

from __future__ import annotations

import trio

from trionode.config.tree import PeerSettings
from trionode.peers.table import PeerTable
from trionode.runtime.counters import Counters


class Liveness:
    """The ticker."""

    def __init__(self, settings: PeerSettings, table: PeerTable, counters: Counters) -> None:
        self._interval_s = settings.ping_interval_s
        self._limit = settings.max_missed_pongs
        self._table = table
        self._counters = counters

    async def run(self) -> None:
        """Tick until cancelled."""
        next_s = trio.current_time()
        while True:
            next_s += self._interval_s
            await trio.sleep_until(next_s)
            # after a suspended machine wakes up, skip the missed ticks instead of repeating them
            next_s = max(next_s, trio.current_time())
            self._tick()

    def _tick(self) -> None:
        for peer in self._table:
            peer.pinger.missed += 1
            if peer.pinger.missed >= self._limit:
                self._counters.add("peers.dead")
                peer.link.terminate()
            else:
                peer.pinger.ping_soon()
