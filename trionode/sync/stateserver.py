"""StateServer: answers peers that ask for the app state (docs/spec/wire.md §11, events.md §10.2).

Requests are judged and served one by one for each peer, a few peers side by side, straight from the store
in answers of bounded size; the next is made when the one before has left for the socket, so that a slow
reader costs time and no memory. What is not answered is answered with silence, as everywhere.

If the store fails before the first answer left, there is silence and the peer may ask again; if it fails
later, the stream ends with what was read, `done` true, because a peer cannot be told otherwise that no
more will come. A request that comes before our first node list waits for it: in a network that starts as a
whole everybody asks at once, and whoever is met with silence asks again after five minutes only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Literal, cast

import msgspec
import trio

from trionode.appstate.documents import CopyKind, EventRow, SignedCopy
from trionode.config.tree import Settings
from trionode.errors import StoreError
from trionode.peers.cache import ExpiringMap
from trionode.peers.facts import NetworkFacts
from trionode.peers.link import LinkClosed
from trionode.peers.peer import Peer
from trionode.peers.service import PeerService
from trionode.registry.rows import TemporaryRow
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.store.eventlog import EventLog
from trionode.store.registry_port import RegistryStore
from trionode.wire.envelope import envelope_text, sealed_text
from trionode.wire.frames import SYNC_INSTALLING, SYNC_RUNNING, SYNC_TEMP, SyncRequest
from trionode.wire.jsjson import quote, stringify
from trionode.wire.keys import NodeKey
from trionode.wire.syncmsg import CHUNK_RECORDS, chunk_data_text, event_item_text, signed_copy_item_text

log = get_logger("stateserver")

CHUNK_CHARS = 1024 * 1024
"""An answer ends at 2,000 records or at this length: a pong behind a long one would wait for all of it."""

SLICE_RECORDS = 50
"""Records printed before other tasks run: about a millisecond."""

STREAMS_AT_ONCE = 8
MAX_SKEW_MS = 120_000
STREAMS_PER_ADDRESS = 3
"""Streams of one kind that one address gets per `serve_interval_s`, however often it connects anew."""
REMEMBERED_ADDRESSES = 2048


class _Asked(msgspec.Struct, frozen=True):
    """A request and when it came."""

    request: SyncRequest
    at_ms: int
    at_s: float


class StateServer:
    """Service "stateserver"."""

    name = "stateserver"

    def __init__(
        self,
        *,
        settings: Settings,
        peers: PeerService,
        facts: NetworkFacts,
        log: EventLog,
        registry_store: RegistryStore,
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
        key: NodeKey,
    ) -> None:
        self._interval_s = settings.state_sync.serve_interval_s
        self._patience_s = settings.state_sync.response_timeout_s
        self._peers = peers
        self._facts = facts
        self._log = log
        self._registry_store = registry_store
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._key = key
        self._running = False
        # Bounded by the links: a peer stands in the line once, with one request of each kind.
        self._line: deque[Peer] = deque()
        self._asked: dict[Peer, dict[int, _Asked]] = {}
        self._idle = trio.lowlevel.ParkingLot()
        self._served_s: dict[Peer, dict[int, float]] = {}
        self._streams: ExpiringMap[tuple[str, int], int] = ExpiringMap(
            REMEMBERED_ADDRESSES, max(self._interval_s, 0.001)
        )
        peers.receiver.on_sync_request = self._take
        peers.table.on_change(self._on_change)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        self._running = True
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(STREAMS_AT_ONCE):
                    nursery.start_soon(self._serve_peers)
                task_status.started()
        finally:
            self._running = False
            self._line.clear()
            self._asked.clear()

    # The way in

    def _take(self, peer: Peer, request: SyncRequest) -> None:
        """Queue a request; what is cheap to refuse is refused here."""
        if not self._running or peer.ephemeral or peer.closing:
            self._refused("not_serving")
        elif self._is_throttled(peer, request.kind):
            self._refused("throttled")
        elif request.kind in self._asked.get(peer, ()):
            self._refused("waiting")
        else:
            asked = _Asked(request, self._clock.now_ms(), trio.current_time())
            if peer in self._asked:
                self._asked[peer][request.kind] = asked
                return
            self._asked[peer] = {request.kind: asked}
            self._line.append(peer)
            self._idle.unpark()

    def _is_throttled(self, peer: Peer, kind: int) -> bool:
        now_s = trio.current_time()
        served_s = self._served_s.get(peer, {}).get(kind)
        if served_s is not None and now_s - served_s < self._interval_s:
            return True
        return (self._streams.get((peer.key, kind), now_s) or 0) >= STREAMS_PER_ADDRESS

    def _on_change(self, event: Literal["added", "removed"], peer: Peer) -> None:
        if event == "removed":
            self._served_s.pop(peer, None)

    # Serving

    async def _serve_peers(self) -> None:
        """Take the peer at the front, serve one request of it, put it at the end of the line."""
        while True:
            while not self._line:
                await self._idle.park()
            peer = self._line.popleft()
            requests = self._asked[peer]
            kind = next(iter(requests))
            try:
                if not self._facts.nodes:
                    await self._first_node_list(requests[kind])
                await self._serve(peer, requests[kind])
            except Exception as error:
                self._counters.add("stateserver.crashed")
                log.error("sync request could not be answered", peer=peer.key, exc_info=error)
            finally:
                del requests[kind]
                if not requests or peer.gone:
                    self._asked.pop(peer, None)
                else:
                    self._line.append(peer)
                    self._idle.unpark()
            await trio.lowlevel.checkpoint()

    async def _first_node_list(self, asked: _Asked) -> None:
        """Wait until a listed node can be told from a stranger, at the longest while the answer is wanted."""
        with (
            self._bus.subscribe("chain:nodes", buffer=1) as lists,
            trio.move_on_at(asked.at_s + self._patience_s),
        ):
            while not self._facts.nodes:
                await lists.receive()

    async def _serve(self, peer: Peer, asked: _Asked) -> None:
        kind = asked.request.kind
        if not self._is_valid(asked) or peer.closing:
            return
        now_s = trio.current_time()
        self._served_s.setdefault(peer, {})[kind] = now_s
        streams = self._streams.get((peer.key, kind), now_s) or 0
        self._streams.put((peer.key, kind), streams + 1, now_s)
        stream = _Stream(self._peers, peer, kind, self._key, self._clock)
        with trio.move_on_at(asked.at_s + self._patience_s) as patience:
            try:
                await self._stream(stream, asked.request)
            except LinkClosed:
                self._counters.add("stateserver.link_lost")
                return
            except StoreError as error:
                self._counters.add("stateserver.store_failed")
                log.error("app state could not be read", peer=peer.key, error=error.message)
                if not stream.answers:
                    self._served_s.get(peer, {}).pop(kind, None)
                    return
                stream.end_now()
            except Exception:
                if stream.answers:
                    stream.end_now()
                raise
        if patience.cancelled_caught:
            self._counters.add("stateserver.too_slow")
            if stream.answers:
                stream.end_now()
            return
        self._counters.add("stateserver.served")
        self._counters.add("stateserver.records", stream.records)

    def _is_valid(self, asked: _Asked) -> bool:
        """Whether a request is fresh and signed by a listed node; silence otherwise (wire.md §11)."""
        request = asked.request
        if abs(asked.at_ms - request.request_ms) > MAX_SKEW_MS:
            self._refused("skewed")
        elif trio.current_time() - asked.at_s >= self._patience_s:
            self._refused("too_late")
        elif not self._facts.nodes.has_pubkey(request.public_key):
            self._refused("node_not_found")
        elif not request.is_signed():
            self._refused("bad_signature")
        else:
            return True
        return False

    async def _stream(self, stream: _Stream, request: SyncRequest) -> None:
        rows, print_row = self._rows(stream.peer, request)
        async with aclosing(rows):
            async for row in rows:
                await stream.put(print_row(row))
        await stream.end()

    def _rows(
        self, peer: Peer, request: SyncRequest
    ) -> tuple[AsyncGenerator[Any, None], Callable[[Any], str]]:
        """The records that a request asks for, in order, and how one is printed."""
        store, windows = self._log.store, self._log.windows
        if request.kind == SYNC_TEMP:
            return self._temporaries(request.since_ms), _temporary_item
        rows: AsyncIterator[Any]
        if request.kind == SYNC_RUNNING:
            rows = store.stream_events(self._after_ms(peer, request, windows.running_ms))
            return cast("AsyncGenerator[Any, None]", rows), _event_item
        copies: CopyKind = "installing" if request.kind == SYNC_INSTALLING else "error"
        window_ms = windows.installing_ms if copies == "installing" else windows.install_error_ms
        rows = store.stream_copies(copies, self._after_ms(peer, request, window_ms))
        return cast("AsyncGenerator[Any, None]", rows), _copy_item

    def _after_ms(self, peer: Peer, request: SyncRequest, window_ms: int) -> int:
        """Records must be newer than this; `since` is by the peer's clock, and may be any number."""
        now_ms = self._clock.now_ms()
        oldest_ms = now_ms - window_ms
        if request.since_ms <= 0:
            return oldest_ms
        since_ms = request.since_ms - (peer.hello.clock_offset_ms or 0)
        return min(max(oldest_ms, since_ms), now_ms + window_ms)

    async def _temporaries(self, since_ms: int) -> AsyncGenerator[TemporaryRow, None]:
        now_ms = self._clock.now_ms()
        for row in await self._registry_store.temporaries():
            if row.expire_at_ms > now_ms and (since_ms <= 0 or row.received_at_ms > since_ms):
                yield row

    def _refused(self, reason: str) -> None:
        self._counters.add(f"stateserver.refused.{reason}")


class _Stream:
    """The answers of one kind to one peer."""

    def __init__(self, peers: PeerService, peer: Peer, kind: int, key: NodeKey, clock: WallClock) -> None:
        self._peers = peers
        self.peer = peer
        self._kind = kind
        self._key = key
        self._clock = clock
        self._items: list[str] = []
        self._chars = 0
        self.answers = 0
        self.records = 0

    async def put(self, item: str) -> None:
        """Add a record; waits whenever an answer is full. Raises LinkClosed."""
        self._items.append(item)
        self._chars += len(item)
        self.records += 1
        if len(self._items) == CHUNK_RECORDS or self._chars >= CHUNK_CHARS:
            await self._send(done=False)
        elif self.records % SLICE_RECORDS == 0:
            await trio.lowlevel.checkpoint()

    async def end(self) -> None:
        """Send the last answer. Raises LinkClosed."""
        await self._send(done=True)

    def end_now(self) -> None:
        """End a stream that cannot go on with what there is of it, without waiting."""
        if not self.peer.closing:
            self._queue(done=True)

    async def _send(self, *, done: bool) -> None:
        # an empty outbox first: a long answer in it would push out waiting gossip
        await self.peer.outbox.drained()
        self._queue(done=done)
        await self.peer.outbox.drained()

    def _queue(self, *, done: bool) -> None:
        data_text = chunk_data_text(self._kind, self._items, done=done)
        self._items = []
        self._chars = 0
        self.answers += 1
        self._peers.send_text(self.peer, sealed_text(data_text, self._key, self._clock.now_ms()))


# ---- records as they are sent -----------------------------------------------------------------------


def _event_item(row: EventRow) -> str:
    signed = row.signed
    envelope = None
    if signed is not None:
        envelope = (
            f'{{"version":{stringify(signed.version)},"timestamp":{stringify(signed.timestamp)},'
            f'"pubKey":{quote(signed.pub_key)},"signature":{quote(signed.signature)}}}'
        )
    return event_item_text(
        row.ip,
        row.type,
        row.dedup_key,
        broadcasted_at_ms=row.broadcasted_at_ms,
        data_text=row.data_text,
        envelope_text=envelope,
        created_at_ms=row.created_at_ms,
        received_at_ms=row.received_at_ms,
    )


def _copy_item(copy: SignedCopy) -> str:
    signed = copy.signed
    return signed_copy_item_text(
        envelope_text(signed.version, signed.timestamp, signed.pub_key, signed.signature, copy.data_text),
        broadcasted_at_ms=copy.broadcasted_at_ms,
        received_at_ms=copy.received_at_ms,
        expire_at_ms=copy.expire_at_ms if copy.kind == "error" else None,
    )


def _temporary_item(row: TemporaryRow) -> str:
    """As `temp_item_text` has it, around the specification's own text."""
    sender = (
        "" if row.arcane_sender is None else f',"arcaneSender":{"true" if row.arcane_sender else "false"}'
    )
    return (
        f'{{"type":{quote(row.type)},"version":{stringify(row.version)},'
        f'"appSpecifications":{row.spec_text},"hash":{quote(row.hash)},'
        f'"timestamp":{stringify(row.timestamp_ms)},"signature":{quote(row.signature)}{sender}}}'
    )
