"""Payments of the newest blocks whose message nobody told us: one peer at a time is asked for it.

Facts: docs/spec/registry.md §9 ("new hashes of a synced block"). This is the quick way for a few; what it
does not bring is left to the hash sync, which asks more peers at the next block.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

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
from trionode.sync.rounds import Asked, signed_requests
from trionode.wire.envelope import Envelope
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
        asked: Asked,
        counters: Counters,
        clock: WallClock,
        rng: random.Random,
        key: NodeKey,
    ) -> None:
        self._min_peers = settings.min_peers
        self._store = store
        self._peers = peers
        self._asked = asked
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
            if not missing:
                return
            requests = signed_requests(missing, self._key, self._clock.now_ms())
            peer = self._peer(direction, requests)
            if peer is None:
                return
            self._counters.add("newhashes.requests")
            self._asked.ask(peer, requests)
            await trio.sleep(ANSWER_S)

    def _peer(self, direction: Direction, requests: Sequence[Envelope]) -> Peer | None:
        """A random peer of that direction, or of the other, that would read one of these.

        None while there are few peers, and when all were asked.
        """
        peers = [peer for peer in self._peers.table if not peer.closing]
        if len(peers) < self._min_peers:
            return None
        fit = [peer for peer in peers if self._asked.takes(peer, requests)]
        wanted = [peer for peer in fit if peer.direction == direction] or fit
        return self._rng.choice(wanted) if wanted else None

    async def _still_missing(self, hashes: list[str]) -> list[str]:
        rows = await self._store.hash_rows(hashes)
        return [hash_ for hash_ in hashes if hash_ in rows and not rows[hash_].message]
