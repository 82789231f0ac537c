"""One round of a hash sync: what is asked of whom, and how long the answers are waited for.

Facts: docs/spec/registry.md §11, §12 (steps 4 and 5). Messages come in through gossip like any other; the
registry tells which of them the chain waits for. The wait ends by a movable deadline, not by looking.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

import trio

from trionode.config.chain import HashSyncSettings
from trionode.peers.cache import ExpiringMap
from trionode.peers.peer import Peer
from trionode.store.registry_port import RegistryStore
from trionode.sync.ports import Peers
from trionode.wire.envelope import Envelope, seal
from trionode.wire.jsjson import JsValue
from trionode.wire.keys import NodeKey

REQUEST_TYPE = "fluxapprequest"
HASHES_PER_REQUEST = 500
REMEMBERED_REQUESTS = 256
PROMOTION_S = 0.25
"""A message is judged and stored after it is said to have come; so long after it we look once more."""


def request_data(hashes: Sequence[str]) -> dict[str, JsValue]:
    """The request for several messages (v2)."""
    return {"type": REQUEST_TYPE, "version": 2, "hashes": list(hashes)}


def signed_requests(hashes: Sequence[str], key: NodeKey, now_ms: int) -> list[Envelope]:
    """Signed requests for all these hashes; each is signed once, whoever gets it."""
    return [
        seal(request_data(hashes[start : start + HASHES_PER_REQUEST]), key, now_ms)
        for start in range(0, len(hashes), HASHES_PER_REQUEST)
    ]


class Asked:
    """What was asked over each link lately.

    A node drops unread what has the content of a message that it has seen within the last minutes (wire.md
    §9.3): asking it for the same list again in that time would only lose the round. Who comes back over a
    new link may have been started anew, and never got what was on the way: it is asked again.
    """

    def __init__(self, peers: Peers, remembered_s: float) -> None:
        self._peers = peers
        self._remembered_s = remembered_s
        self._lists: WeakKeyDictionary[Peer, ExpiringMap[str, bool]] = WeakKeyDictionary()

    def takes(self, peer: Peer, requests: Iterable[Envelope]) -> bool:
        """Whether this peer would read one of these."""
        asked, now_s = self._lists.get(peer), trio.current_time()
        return asked is None or any(asked.get(request.data_hash, now_s) is None for request in requests)

    def ask(self, peer: Peer, requests: Iterable[Envelope]) -> None:
        """Send a peer those of the requests that it would read."""
        asked, now_s = self._lists.get(peer), trio.current_time()
        if asked is None:
            asked = self._lists[peer] = ExpiringMap(REMEMBERED_REQUESTS, self._remembered_s)
        for request in requests:
            if asked.get(request.data_hash, now_s) is None:
                asked.put(request.data_hash, True, now_s)
                self._peers.send_text(peer, request.text)


def untried(peers: Iterable[Peer], tried: set[str], count: int, rng: random.Random) -> list[Peer]:
    """Up to `count` random peers that were not asked yet.

    Those that the deterministic selection chose are the same for a whole region of the network; who was
    found by chance is likelier to know something else.
    """
    fit = [
        peer
        for peer in peers
        if peer.source != "deterministic" and not peer.closing and peer.key not in tried
    ]
    return rng.sample(fit, min(count, len(fit)))


class Responses:
    """Waits for requested messages. `arrived` is told of every message that a payment waited for."""

    def __init__(self, settings: HashSyncSettings, store: RegistryStore) -> None:
        self._settings = settings
        self._store = store
        self._requested: frozenset[str] = frozenset()
        self._here: dict[str, None] = {}
        self._news = trio.Event()
        self._scope: trio.CancelScope | None = None
        self._end_s = 0.0

    def expect(self, hashes: Iterable[str]) -> None:
        """Begin to listen for these; to be called before they are asked for."""
        self._requested = frozenset(hashes)
        self._here.clear()
        self._news = trio.Event()

    def arrived(self, hash_: str) -> None:
        """A message came; whether it was right shows in the store, soon."""
        if hash_ not in self._requested:
            return
        self._here[hash_] = None
        self._news.set()
        if self._scope is not None:
            self._scope.deadline = min(trio.current_time() + self._settings.settle_s, self._end_s)

    async def wait(self) -> None:
        """Return when all are resolved, when none came for the settle time, or when time is up."""
        settings, count = self._settings, len(self._requested)
        limit_s = (count * settings.response_per_hash_ms + settings.response_extra_ms) / 1000
        now_s = trio.current_time()
        self._end_s = now_s + limit_s
        try:
            with trio.CancelScope(deadline=min(now_s + settings.settle_s, self._end_s)) as self._scope:
                await self._until_resolved(set(self._requested))
        finally:
            self._scope = None
            self._requested = frozenset()

    async def _until_resolved(self, missing: set[str]) -> None:
        while missing:
            if not self._here:
                await self._news.wait()
            elif not await self._look(missing):
                # what came is still being judged, or was refused: look once more, then at the next news
                with trio.move_on_after(PROMOTION_S):
                    await self._news.wait()
                await self._look(missing)
                if not self._news.is_set():
                    self._here.clear()
            self._news = trio.Event()

    async def _look(self, missing: set[str]) -> bool:
        """Take out what is resolved; whether that was all that came."""
        for hash_ in self._here.keys() - missing:
            del self._here[hash_]
        here = list(self._here)
        rows = await self._store.hash_rows(here)
        resolved = {hash_ for hash_ in here if hash_ not in rows or rows[hash_].message}
        missing -= resolved
        for hash_ in resolved:
            self._here.pop(hash_, None)
        return len(resolved) == len(here)
