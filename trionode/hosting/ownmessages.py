"""Sending what this node says of itself: signed, to all peers, and into the own event log.

Facts: docs/spec/events.md §9, wire.md §10. What the network is told is applied here with its signature too.
"""

from __future__ import annotations

from typing import Any, Protocol

from trionode.appstate.decision import Decision
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.wire.envelope import Envelope


class Broadcaster(Protocol):
    """Signs data with the node's key and sends it to every peer."""

    def broadcast_own(self, data: dict[str, Any]) -> Envelope:
        """Hands the message to the peers and returns its signed envelope."""
        ...


class OwnLog(Protocol):
    """The part of the event log that takes the node's own messages."""

    async def apply_local(self, envelope: Envelope) -> Decision:
        """Store and fold an own signed message as if it had been accepted from a peer."""
        ...


class OwnMessages:
    """Stamps, sends and stores. `teller`: whose messages they are, for log and counters."""

    def __init__(
        self,
        teller: str,
        broadcaster: Broadcaster,
        own_log: OwnLog,
        counters: Counters,
        clock: WallClock,
        *,
        max_future_ms: int,
    ) -> None:
        self._teller = teller
        self._broadcaster = broadcaster
        self._own_log = own_log
        self._counters = counters
        self._clock = clock
        self._max_future_ms = max_future_ms
        self._last_stamp_ms = 0

    def stamp_ms(self) -> int:
        """The time of the next message.

        Peers keep the strictly newer of two messages, so two of ours never share a millisecond. What a
        clock stamped that was far ahead they have refused: once it is right again, that is not followed.
        """
        now_ms = self._clock.now_ms()
        next_ms = self._last_stamp_ms + 1
        self._last_stamp_ms = now_ms if next_ms > now_ms + self._max_future_ms else max(now_ms, next_ms)
        return self._last_stamp_ms

    async def send(self, data: dict[str, Any]) -> None:
        """Raises PeerError without a key, StoreError when it cannot be stored."""
        decision = await self._own_log.apply_local(self._broadcaster.broadcast_own(data))
        if not decision.accepted:
            # The network has it, our own log refused it: worth a line, since peers may well do the same.
            self._counters.add(f"{self._teller}.not_applied.{decision.reason}")
            log = get_logger(f"hosting.{self._teller}")
            log.warning("own message refused by the own log", type=data["type"], reason=decision.reason)
