"""Payments of the newest blocks whose message nobody told us: one peer at a time is asked for it.

Facts: docs/spec/registry.md §9 ("new hashes of a synced block"). This is the quick way for a few; what it
does not bring is left to the hash sync, which asks more peers at the next block.
"""

from __future__ import annotations

import random

import trio

from trionode.config.chain import HashSyncSettings
from trionode.errors import StoreError
from trionode.peers.closecodes import Direction
from trionode.peers.peer import Peer
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.store.registry_port import RegistryStore
from trionode.sync.ports import Peers
from trionode.sync.rounds import request_texts
from trionode.wire.keys import NodeKey

log = get_logger("hashsync")

DIRECTIONS: tuple[Direction, ...] = ("outbound", "outbound", "inbound", "outbound", "inbound")
"""Of the peer that is asked, try by try."""

ANSWER_S = 30.0


class NewHashes:
    """`run` works on what `ask` asked for; whatever comes in comes through gossip."""

    def __init__(
        self,
        settings: HashSyncSettings,
        *,
        store: RegistryStore,
        peers: Peers,
        counters: Counters,
        clock: WallClock,
        rng: random.Random,
        key: NodeKey,
    ) -> None:
        self._min_peers = settings.min_peers
        self._store = store
        self._peers = peers
        self._counters = counters
        self._clock = clock
        self._rng = rng
        self._key = key
        self._height = 0
        self._work = trio.Event()

    def ask(self, height: int) -> None:
        """There are payments of the block at `height` whose message is not here."""
        self._height = height
        self._work.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            try:
                await self._ask_for(self._height)
            except StoreError as error:
                # the hash sync comes to the same payments at the next block
                self._counters.add("newhashes.failed")
                log.error("new payments could not be looked up", exc_info=error)

    async def _ask_for(self, height: int) -> None:
        rows = await self._store.hashes(missing=True, due_at=height)
        missing = [row.hash for row in rows if row.height == height]
        for direction in DIRECTIONS:
            missing = await self._still_missing(missing)
            peer = self._peer(direction)
            if not missing or peer is None:
                return
            self._counters.add("newhashes.requests")
            for text in request_texts(missing, self._key, self._clock.now_ms()):
                self._peers.send_text(peer, text)
            await trio.sleep(ANSWER_S)

    def _peer(self, direction: Direction) -> Peer | None:
        """A random peer of that direction, or of the other; None while there are few."""
        fit = [peer for peer in self._peers.table if not peer.closing]
        if len(fit) < self._min_peers:
            return None
        return self._rng.choice([peer for peer in fit if peer.direction == direction] or fit)

    async def _still_missing(self, hashes: list[str]) -> list[str]:
        rows = await self._store.hash_rows(hashes)
        return [hash_ for hash_ in hashes if hash_ in rows and not rows[hash_].message]
