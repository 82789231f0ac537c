"""The last stops of gossip: who takes a verified message, and whether it goes on (wire.md §9.8, §10).

App-state messages go to the event log, other types to the room that registered for them, unknown
ones nowhere. Messages of one kind of taker are begun strictly in the order of their verification; a
fixed number of them may wait for the taker (a durable commit) at the same time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import trio

from trionode.appstate.decision import Decision
from trionode.errors import StoreError
from trionode.peers.broadcast import Broadcaster
from trionode.peers.facts import NetworkFacts
from trionode.peers.peer import Peer
from trionode.peers.relay import goes_by_hash
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.wire.envelope import Envelope
from trionode.wire.origin import BY_IP_TYPES

log = get_logger("peers.gossip")

APP_STATE_TYPES = BY_IP_TYPES | {"fluxipchanged"}
QUESTION_TYPES = frozenset({"fluxapprequest"})
"""Answered to whoever brings them, and never relayed."""

LOG_WORKERS = 32
HANDLER_WORKERS = 8
MAX_WAITING = 256
"""Verified messages one lane may hold; the intake waits while that of the event log is full."""


class Ledger(Protocol):
    """What gossip needs of `store.eventlog.EventLog`."""

    async def ingest(self, envelope: Envelope, *, received_at_ms: int | None = None) -> Decision:
        """Judge a verified envelope; returns when its changes are durable."""
        ...


MessageHandler = Callable[[Envelope, Peer], Awaitable[bool]]
"""Takes a verified, fresh envelope of one type; True means: relay it."""


class Verified(msgspec.Struct, frozen=True):
    """An envelope that passed every check of the pipeline, and who brought it."""

    envelope: Envelope
    peer: Peer


class Lane:
    """A bounded queue with its workers. A worker takes the oldest message in the step in which it
    begins with it, so that the order of beginning is the order of the queue.
    """

    def __init__(self, workers: int, take: Callable[[Verified], Awaitable[None]]) -> None:
        self._workers = workers
        self._take = take
        self._queue: deque[Verified] = deque()
        self._idle = trio.lowlevel.ParkingLot()
        self._busy = 0
        self.on_room: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._queue) + self._busy

    @property
    def full(self) -> bool:
        return len(self) >= MAX_WAITING

    def put(self, message: Verified) -> None:
        """Queue a message; the caller has looked at `full`."""
        self._queue.append(message)
        self._idle.unpark()

    async def run(self) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._workers):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            while not self._queue:
                await self._idle.park()
            message = self._queue.popleft()
            self._busy += 1
            try:
                await self._take(message)
            finally:
                self._busy -= 1
            if len(self) == MAX_WAITING - 1:
                self.on_room()


class Dispatcher:
    """Takes verified envelopes; the relay of what their takers found worth it."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        facts: NetworkFacts,
        broadcaster: Broadcaster,
        counters: Counters,
        clock: WallClock,
        hash_relay_height: int,
    ) -> None:
        self._ledger = ledger
        self._facts = facts
        self._broadcaster = broadcaster
        self._counters = counters
        self._clock = clock
        self._hash_relay_height = hash_relay_height
        self._handlers: dict[str, MessageHandler] = {}
        self._log_lane = Lane(LOG_WORKERS, self._ingest)
        self._handler_lane = Lane(HANDLER_WORKERS, self._handle)

    def register_handler(self, message_type: str, handler: MessageHandler) -> None:
        """Let another room take the envelopes of one type (e.g. fluxappregister).

        The handler may wait, but all rooms share a few workers: a long job belongs to a service of
        its own. Raises ValueError for a type that is taken.
        """
        if message_type in APP_STATE_TYPES or message_type in self._handlers:
            raise ValueError(f"gossip type {message_type!r} already has a handler")
        self._handlers[message_type] = handler

    @property
    def full(self) -> bool:
        """Whether the event log has more than enough to do: nothing should be put for now."""
        return self._log_lane.full

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call back when `full` may have become false."""
        self._log_lane.on_room = callback

    def __len__(self) -> int:
        return len(self._log_lane) + len(self._handler_lane)

    def put(self, envelope: Envelope, peer: Peer) -> None:
        """Pass a verified envelope to its taker, soon.

        A slow room does not hold back the event log: what it cannot take is dropped and counted.
        """
        kind = envelope.type
        if kind in APP_STATE_TYPES:
            self._log_lane.put(Verified(envelope, peer))
        elif kind not in self._handlers:
            self._counters.add("gossip.dispatch.unknown_type")
        elif self._handler_lane.full:
            self._counters.add("gossip.dispatch.handlers_busy")
        else:
            self._handler_lane.put(Verified(envelope, peer))

    async def run(self) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._log_lane.run)
            nursery.start_soon(self._handler_lane.run)

    async def _ingest(self, message: Verified) -> None:
        try:
            decision = await self._ledger.ingest(message.envelope, received_at_ms=self._clock.now_ms())
        except Exception as error:  # noqa: BLE001 - one message must not end the node
            self._crashed(message, error)
            return
        if decision.accepted:
            self._counters.add("gossip.accepted")
        else:
            stop, reason = decision.stop or "dispatch", decision.reason or "refused"
            self._counters.add(f"gossip.{stop}.{reason}")
        if decision.relay:
            self._relay(message)

    async def _handle(self, message: Verified) -> None:
        try:
            relay = await self._handlers[message.envelope.type](message.envelope, message.peer)
        except Exception as error:  # noqa: BLE001 - one message must not end the node
            self._crashed(message, error)
            return
        self._counters.add("gossip.handled")
        if relay:
            self._relay(message)

    def _crashed(self, message: Verified, error: Exception) -> None:
        self._counters.add("gossip.dispatch.crashed")
        kind = message.envelope.type
        if isinstance(error, StoreError):
            # Its owner, the event log, logs it whole and once; here it only costs this message.
            log.error("message could not be stored", type=kind, error=error.message)
        else:
            log.error("message could not be applied", type=kind, exc_info=error)

    def _relay(self, message: Verified) -> None:
        self._counters.add("gossip.relayed")
        if goes_by_hash(self._facts.height, self._hash_relay_height):
            self._broadcaster.announce(message.envelope.data_hash, message.peer)
        else:
            self._broadcaster.paced(message.envelope.text, message.peer)
