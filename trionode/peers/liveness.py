"""Pings and who is dead (wire.md §4): one ticker for all regular peers.

Every interval each peer's count of missed pongs rises by one; a peer whose count reaches the limit
is cut at once, the others are pinged. Any pong sets the count to zero. A ping costs no new task:
each peer has a pinger that the ticker wakes. Only when the pong of an earlier ping is still out
is one more task started, so that a late pong is seen whichever ping it answers.
"""

from __future__ import annotations

import trio

from trionode.config.tree import PeerSettings
from trionode.peers.link import LinkClosed
from trionode.peers.pinger import Pinger
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
        async with trio.open_nursery() as nursery:
            next_s = trio.current_time()
            while True:
                next_s += self._interval_s
                await trio.sleep_until(next_s)
                # after a suspended machine wakes up, skip the missed ticks instead of repeating them
                next_s = max(next_s, trio.current_time())
                self._tick(nursery)

    def _tick(self, nursery: trio.Nursery) -> None:
        for peer in self._table:
            peer.missed_pongs += 1
            if peer.missed_pongs >= self._limit:
                self._counters.add("peers.dead")
                peer.link.terminate()
            elif not peer.pinger.busy:
                peer.pinger.wake()
            else:
                nursery.start_soon(_ping_again, peer.pinger)


async def _ping_again(pinger: Pinger) -> None:
    try:
        await pinger.ping()
    except LinkClosed:
        # The peer's own tasks see the same and end it.
        await trio.lowlevel.checkpoint()
