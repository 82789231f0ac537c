"""StateSync: asking peers for the app state, and taking in what they answer (docs/spec/wire.md §11,
events.md §10, lifecycle.md §8).

Whom to ask and when is the orchestrator's business. Here a peer that was asked is marked, and each marked
peer has a line of its own: its answers are judged strictly in their order, one at a time, beside those of
the other peers. What is not verified is not stored.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import trio

from trionode.appstate.batch import SyncKind
from trionode.config.tree import Settings
from trionode.errors import PeerError, StoreError
from trionode.peers.facts import NetworkFacts
from trionode.peers.peer import Peer
from trionode.peers.service import PeerService
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.store.eventlog import EventLog
from trionode.sync.stateverify import Answer, ChunkRefused, open_answer, plain_items, verify_records_of
from trionode.wire.frames import (
    SYNC_INSTALL_ERRORS,
    SYNC_INSTALLING,
    SYNC_KINDS,
    SYNC_RUNNING,
    sync_request,
)
from trionode.wire.jsjson import JsValue
from trionode.wire.keys import NodeKey

log = get_logger("statesync")

LOG_KINDS: dict[int, SyncKind] = {
    SYNC_RUNNING: "apprunning",
    SYNC_INSTALLING: "appinstalling",
    SYNC_INSTALL_ERRORS: "apperrors",
}
"""The kinds that count for completeness; the fourth, temporary messages, does not."""

MAX_CHUNK_CHARS = 16 * 1024 * 1024
"""No honest answer of 2,000 records is nearly as long; a longer one is not even read."""

MAX_WAITING_CHARS = 4 * 1024 * 1024
"""What of one peer may wait behind the answer in work. Above it nothing more is read from that peer's link
until there is room, which its own TCP connection then feels; nothing is lost."""

MAX_CHUNKS = 200
"""Answers of one kind from one peer: 400,000 records, many times what the network has."""

MAX_REFUSED = 3
"""Refused answers after which a peer is given up: no honest one has any, and reading them costs us."""

CLOCK_TOLERANCE_MS = 120_000
"""A peer whose clock is further off refuses our request, so no answer is signed this long before it."""

STORE_ATTEMPTS = 2
STORE_PAUSE_S = 1.0
"""Lets the failing log go down; the next attempt then waits until it is up again."""

DoneListener = Callable[[SyncKind, str], None]
LostListener = Callable[[str], None]


PONG_GRACE_MS = 5_000
"""A pong that is out for so long is on its way, not missed: pings to all peers leave in one moment."""


def _owes_pong(peer: Peer, now_ms: int) -> bool:
    pinger = peer.pinger
    if pinger.missed == 1 and pinger.last_ping_ms is not None:
        return now_ms - pinger.last_ping_ms > PONG_GRACE_MS
    return pinger.missed > 0


class _Line:
    """One peer that was asked: its answers in order, and what is known of them."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.waiting: deque[str] = deque()
        self.waiting_chars = 0
        self.news = trio.Event()
        self.room = trio.Event()
        self.marked = False
        self.asked_ms = 0
        self.chunks: Counter[int] = Counter()
        self.ended: set[int] = set()
        self.refused = 0
        self.torn = False
        """An answer of this round was refused or could not be stored: what follows is not complete."""

    def mark(self, asked_ms: int) -> None:
        self.marked = self.peer.sync_requested = True
        self.asked_ms = asked_ms
        self.chunks.clear()
        self.ended.clear()
        self.refused = 0
        self.torn = False

    def unmark(self) -> None:
        self.marked = self.peer.sync_requested = False
        self.news.set()

    def drop(self) -> None:
        """Unmark, and forget what waits."""
        self.unmark()
        self.waiting.clear()
        self.waiting_chars = 0
        self.room.set()

    def put(self, text: str) -> trio.Event | None:
        """Queue an answer; when the line is full, what to wait for before reading on."""
        self.waiting.append(text)
        self.waiting_chars += len(text)
        self.news.set()
        if self.waiting_chars <= MAX_WAITING_CHARS:
            return None
        if self.room.is_set():
            self.room = trio.Event()
        return self.room

    def take(self) -> str:
        text = self.waiting.popleft()
        self.waiting_chars -= len(text)
        if self.waiting_chars <= MAX_WAITING_CHARS:
            self.room.set()
        return text


class StateSync:
    """Service "statesync". `temp` takes the temporary app messages of an answer and keeps what is good."""

    name = "statesync"

    def __init__(
        self,
        *,
        settings: Settings,
        peers: PeerService,
        facts: NetworkFacts,
        log: EventLog,
        temp: Callable[[list[JsValue]], Awaitable[int]],
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
        rng: random.Random,
        key: NodeKey,
    ) -> None:
        self._settings = settings.state_sync
        self._max_future_ms = settings.gossip.max_future_ms
        self._peers = peers
        self._facts = facts
        self._log = log
        self._temp = temp
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._rng = rng
        self._key = key
        self._lines: dict[Peer, _Line] = {}
        self._listeners: list[DoneListener] = []
        self._lost_listeners: list[LostListener] = []
        self._nursery: trio.Nursery | None = None
        peers.receiver.on_sync_text = self._take
        peers.table.on_change(self._on_change)

    # What the orchestrator uses

    def eligible(self) -> list[str]:
        """Keys of the peers that may be asked now (lifecycle.md §8), shuffled."""
        now_ms = self._clock.now_ms()
        keys = [peer.key for peer in self._peers.table if self._may_be_asked(peer, now_ms)]
        self._rng.shuffle(keys)
        return keys

    def _may_be_asked(self, peer: Peer, now_ms: int) -> bool:
        if peer.closing or _owes_pong(peer, now_ms) or not peer.takes_state_sync or peer.uptime_s is None:
            return False
        connected_s = (now_ms - peer.connected_at_ms) / 1000
        return peer.uptime_s + connected_s >= self._settings.min_peer_uptime_s

    async def request(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Ask these peers for everything; the keys of those that are still here, which are marked now.

        Raises PeerError or WireError when it cannot be asked; then nobody is marked.
        """
        await trio.lowlevel.checkpoint()
        if self._nursery is None:
            raise PeerError("state sync is not running", remedy="wait until the node has started")
        now_ms = self._clock.now_ms()
        frames = [sync_request(kind, 0, now_ms, self._key) for kind in SYNC_KINDS]
        found = [self._peers.table.get(key) for key in dict.fromkeys(keys)]
        asked = [peer for peer in found if peer is not None and not peer.closing]
        for peer in asked:
            line = self._lines.get(peer)
            if line is None:
                line = self._lines[peer] = _Line(peer)
                self._nursery.start_soon(self._work_off, line, name=f"sync from {peer.key}")
            line.mark(now_ms)
        for frame in frames:
            for peer in asked:
                self._peers.send_frame(peer, frame)
        names = tuple(peer.key for peer in asked)
        if names:
            self._counters.add("statesync.asked", len(names))
            self._bus.publish("ephemeralSync:requested", {"peerCount": len(names), "peers": list(names)})
            log.info("peers asked for app state", peers=", ".join(names))
        return names

    def forget_marks(self) -> None:
        """Take no further answers. What came before is still worked off, and its listeners are called."""
        for line in self._lines.values():
            line.unmark()

    def marked(self) -> tuple[str, ...]:
        """Keys of the peers whose answers are taken."""
        return tuple(line.peer.key for line in self._lines.values() if line.marked)

    def on_done(self, listener: DoneListener) -> None:
        """Call `listener(kind, peer key)` when a peer's answer of one kind is complete and stored."""
        self._listeners.append(listener)

    def on_lost(self, listener: LostListener) -> None:
        """Call `listener(peer key)` when the link of a marked peer is gone."""
        self._lost_listeners.append(listener)

    # The service

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work off answers until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            for line in self._lines.values():
                line.drop()
            self._lines.clear()

    def _on_change(self, event: Literal["added", "removed"], peer: Peer) -> None:
        line = self._lines.get(peer)
        if event == "removed" and line is not None and line.marked:
            line.unmark()
            for listener in self._lost_listeners:
                listener(peer.key)

    def _take(self, peer: Peer, text: str) -> trio.Event | None:
        """Queue an answer of a marked peer; the event to wait for before more is read from it."""
        line = self._lines.get(peer)
        if line is None or not line.marked:
            self._counters.add("statesync.chunks.refused.not_asked")
        elif len(text) > MAX_CHUNK_CHARS:
            self._refuse(line, "too_long")
        else:
            return line.put(text)
        return None

    async def _work_off(self, line: _Line) -> None:
        while line.marked or line.waiting:
            if not line.waiting:
                line.news = trio.Event()
                await line.news.wait()
                continue
            await self._judge(line, line.take())
        if self._lines.get(line.peer) is line:
            del self._lines[line.peer]

    async def _judge(self, line: _Line, text: str) -> None:
        nodes = self._facts.nodes
        try:
            answer = open_answer(
                text,
                nodes,
                self._clock.now_ms(),
                not_before_ms=line.asked_ms - CLOCK_TOLERANCE_MS,
                max_future_ms=self._max_future_ms,
            )
        except ChunkRefused as refusal:
            self._refuse(line, refusal.reason)
            return
        kind = answer.kind
        line.chunks[kind] += 1
        if kind in line.ended:
            self._refuse(line, "after_end")
        elif line.chunks[kind] > MAX_CHUNKS:
            self._refuse(line, "too_many")
            line.drop()
        else:
            self._counters.add("statesync.chunks.accepted")
            await self._apply(line, answer)
            if answer.done:
                self._ended(line, kind)

    async def _apply(self, line: _Line, answer: Answer) -> None:
        kind = LOG_KINDS.get(answer.kind)
        try:
            if kind is None:
                await self._temp(await plain_items(answer))
            else:
                await self._fold_in(kind, answer, line.peer.key)
        except Exception as error:
            # one answer must not end the node
            line.torn |= kind is not None
            self._counters.add("statesync.chunks.crashed")
            if isinstance(error, StoreError):
                log.error("sync answer could not be stored", peer=line.peer.key, error=error.message)
            else:
                log.error("sync answer could not be applied", peer=line.peer.key, exc_info=error)

    async def _fold_in(self, kind: SyncKind, answer: Answer, peer_key: str) -> None:
        verified = await verify_records_of(answer, self._facts.nodes)
        for reason, number in verified.refused.items():
            self._counters.add(f"statesync.records.refused.{reason}", number)
        self._counters.add("statesync.records.verified", len(verified.records))
        for attempt in range(1, STORE_ATTEMPTS + 1):
            try:
                await self._log.ingest_sync(kind, verified.records, peer_key)
                return
            except StoreError:
                # the log reloads itself from the store, and folding in twice changes nothing
                if attempt == STORE_ATTEMPTS:
                    raise
                await trio.sleep(STORE_PAUSE_S)

    def _ended(self, line: _Line, chunk_kind: int) -> None:
        line.ended.add(chunk_kind)
        kind = LOG_KINDS.get(chunk_kind)
        if kind is None:
            return
        if line.torn:
            self._counters.add("statesync.done.incomplete")
            return
        self._counters.add(f"statesync.done.{kind}")
        for listener in self._listeners:
            listener(kind, line.peer.key)

    def _refuse(self, line: _Line, reason: str) -> None:
        """Count an answer that is not taken; a peer that sends more of them is not listened to."""
        self._counters.add(f"statesync.chunks.refused.{reason}")
        log.info("sync answer refused", peer=line.peer.key, reason=reason)
        line.torn = True
        line.refused += 1
        if line.refused == MAX_REFUSED:
            self._counters.add("statesync.given_up")
            line.drop()
