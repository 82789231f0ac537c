"""How messages go out to all peers (wire.md §9 Relay).

A relay above the hash height announces its hash to everybody but the sender at once. Full texts
(own broadcasts, and relays below that height) are paced: outbound peers first, 25 ms before each
send, a gap of 500 ms, then inbound. One task paces everything; there is none per message.
"""

from __future__ import annotations

import contextlib
import heapq
from itertools import chain

import trio

from trionode.config.tree import PeerSettings
from trionode.peers.link import LinkClosed
from trionode.peers.outbox import Tier
from trionode.peers.outgoing import Forms, Outgoing
from trionode.peers.peer import Peer
from trionode.peers.relay import paced_offsets_s, relay_targets
from trionode.peers.table import PeerTable
from trionode.runtime.counters import Counters
from trionode.wire.frames import HashPresent

MAX_SCHEDULED = 20_000
"""Sends that may wait for their moment; further ones are dropped and counted."""


class Broadcaster:
    """Fan-out to the regular peers of the table."""

    def __init__(self, settings: PeerSettings, table: PeerTable, forms: Forms, counters: Counters) -> None:
        self._table = table
        self._forms = forms
        self._counters = counters
        self._spacing_s = settings.own_broadcast_outbound_delay_ms / 1000
        self._gap_s = settings.own_broadcast_inbound_gap_ms / 1000
        self._due: list[tuple[float, int, Peer, Outgoing]] = []
        self._sequence = 0
        self._news = trio.Event()

    def announce(self, hash_hex: str, exclude: Peer | None) -> int:
        """Send hash-present to all but one, without delay; how many peers that was."""
        outgoing = self._forms.frame(HashPresent(hash_hex))
        sent = 0
        for peer in relay_targets(self._table, exclude):
            outgoing.send(peer, Tier.GOSSIP)
            sent += 1
        return sent

    def paced(self, text: str, exclude: Peer | None = None) -> int:
        """Send a full text to all but one by the paced schedule; how many peers that will be."""
        outgoing = self._forms.text(text)
        groups = [
            relay_targets(self._table.peers(direction), exclude) for direction in ("outbound", "inbound")
        ]
        offsets_s = paced_offsets_s([len(group) for group in groups], self._spacing_s, self._gap_s)
        now_s = trio.current_time()
        scheduled = 0
        for peer, offset_s in zip(chain.from_iterable(groups), offsets_s, strict=True):
            if len(self._due) >= MAX_SCHEDULED:
                self._counters.add("peers.broadcast.schedule_full")
                continue
            self._sequence += 1
            heapq.heappush(self._due, (now_s + offset_s, self._sequence, peer, outgoing))
            scheduled += 1
        self._news.set()
        return scheduled

    def at_once(self, text: str) -> int:
        """Send a full text to all without delay, ahead of nothing but not to be dropped; how many peers."""
        outgoing = self._forms.text(text)
        peers = relay_targets(self._table, None)
        for peer in peers:
            outgoing.send(peer, Tier.REPLY)
        return len(peers)

    async def flushed(self) -> None:
        """Wait until what is queued for every peer has been handed to its socket, or its link is gone."""
        async with trio.open_nursery() as nursery:
            for peer in self._table:
                nursery.start_soon(_flushed, peer)

    async def run(self) -> None:
        """Hand scheduled sends to the outboxes at their time, until cancelled."""
        while True:
            self._news = trio.Event()
            now_s = trio.current_time()
            while self._due and self._due[0][0] <= now_s:
                _, _, peer, outgoing = heapq.heappop(self._due)
                if not peer.gone:
                    outgoing.send(peer, Tier.GOSSIP)
            deadline_s = self._due[0][0] if self._due else float("inf")
            with trio.move_on_at(deadline_s):
                await self._news.wait()


async def _flushed(peer: Peer) -> None:
    with contextlib.suppress(LinkClosed):
        await peer.outbox.drained()
