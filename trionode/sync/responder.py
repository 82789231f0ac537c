"""Answers the network's requests for app messages (docs/spec/registry.md §11, wire.md §12).

`fluxapprequest` asks for one message (v1) or up to 500 (v2). Each one we have goes out as a message of its
own, signed by us, with a pause after every look-up; what was looked up lately goes out at once. A request
of 500 keeps us busy for 75 s, so requests are worked on side by side, bounded for each peer and in all.
"""

from __future__ import annotations

from collections import Counter

import trio

from trionode.peers.cache import ExpiringMap
from trionode.peers.peer import Peer
from trionode.registry.rows import PermanentRow, TemporaryRow
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.store.registry_port import RegistryStore
from trionode.sync.ports import Peers
from trionode.sync.rounds import HASHES_PER_REQUEST, REQUEST_TYPE
from trionode.wire.envelope import Envelope, seal_text
from trionode.wire.jsjson import JsValue, quote, stringify
from trionode.wire.keys import NodeKey

log = get_logger("hashsync")

PAUSE_S = 0.15
REMEMBERED_ANSWERS = 250
REMEMBERED_S = 20 * 60.0
REQUESTS_AT_ONCE = 64
REQUESTS_WAITING = 512
REQUESTS_PER_PEER = 160
"""A node that misses everything asks us for it in 120 requests."""


def requested_hashes(data: dict[str, JsValue]) -> list[str] | None:
    """The hashes that a request asks for, in order; None when it is none that is answered."""
    version = data.get("version")
    if isinstance(version, bool):
        return None
    if version == 1:
        hash_ = data.get("hash")
        return [hash_] if isinstance(hash_, str) else None
    if version == 2:
        hashes = data.get("hashes")
        if not isinstance(hashes, list) or not 0 < len(hashes) <= HASHES_PER_REQUEST:
            return None
        return list(hashes) if all(isinstance(hash_, str) for hash_ in hashes) else None
    return None


def answer_text(row: PermanentRow | TemporaryRow) -> str:
    """J of the data of an answer. Nodes of old builds ask for `arcaneSender`, so it is always there."""
    arcane_sender = row.arcane_sender if isinstance(row, TemporaryRow) else None
    told = "false" if arcane_sender is False else "true"
    return (
        f'{{"type":{quote(row.type)},"version":{stringify(row.version)},'
        f'"appSpecifications":{row.spec_text},"hash":{quote(row.hash)},'
        f'"timestamp":{stringify(row.timestamp_ms)},"signature":{quote(row.signature)},'
        f'"arcaneSender":{told}}}'
    )


class Responder:
    """Service "apprequests": serves messages of the registry to peers that ask for them."""

    name = "apprequests"

    def __init__(
        self,
        store: RegistryStore,
        peers: Peers,
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
        key: NodeKey,
    ) -> None:
        self._store = store
        self._peers = peers
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._key = key
        self._remembered: ExpiringMap[str, str] = ExpiringMap(REMEMBERED_ANSWERS, REMEMBERED_S)
        self._per_peer: Counter[str] = Counter()
        # Bounded: a request that finds no room is dropped and counted; its sender asks somebody else.
        self._send, self._receive = trio.open_memory_channel[tuple[Peer, list[str]]](REQUESTS_WAITING)
        peers.register_handler(REQUEST_TYPE, self.handle)

    async def handle(self, envelope: Envelope, peer: Peer) -> bool:
        """Take a verified request; it is answered soon. Requests are never relayed."""
        await trio.lowlevel.checkpoint()
        hashes = requested_hashes(envelope.data)
        if hashes is None:
            self._counters.add("apprequests.malformed")
        elif self._per_peer[peer.key] >= REQUESTS_PER_PEER:
            self._counters.add("apprequests.dropped.peer")
        else:
            try:
                self._send.send_nowait((peer, hashes))
            except trio.WouldBlock:
                self._counters.add("apprequests.dropped.busy")
            else:
                self._per_peer[peer.key] += 1
                self._counters.add("apprequests.received")
                self._bus.publish("hashRequest:received", {"peer": peer.key, "count": len(hashes)})
        return False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(REQUESTS_AT_ONCE):
                nursery.start_soon(self._answer_requests)
            task_status.started()

    async def _answer_requests(self) -> None:
        async for peer, hashes in self._receive:
            try:
                found = await self._answer(peer, hashes)
            finally:
                self._per_peer[peer.key] -= 1
                if self._per_peer[peer.key] <= 0:
                    del self._per_peer[peer.key]
            self._counters.add("apprequests.answered", found)
            self._bus.publish(
                "hashRequest:responded", {"peer": peer.key, "requested": len(hashes), "found": found}
            )

    async def _answer(self, peer: Peer, hashes: list[str]) -> int:
        found = 0
        for hash_ in hashes:
            if peer.closing:
                break
            text = self._remembered.get(hash_, trio.current_time())
            if text is not None:
                self._tell(peer, text)
                found += 1
                await trio.lowlevel.checkpoint()
                continue
            text = await self._look_up(hash_)
            if text is not None:
                self._remembered.put(hash_, text, trio.current_time())
                self._tell(peer, text)
                found += 1
            await trio.sleep(PAUSE_S)
        return found

    async def _look_up(self, hash_: str) -> str | None:
        row = await self._store.permanent(hash_) or await self._store.temporary(hash_)
        return None if row is None else answer_text(row)

    def _tell(self, peer: Peer, text: str) -> None:
        """Signed anew each time: what is sent again later must not look old."""
        self._peers.send_text(peer, seal_text(text, self._key, self._clock.now_ms()).text)
