"""The outbound queue of one peer: bounded by bytes in two tiers, one writer task.

Over the gossip limit the oldest announcements and relays are dropped, replies stay; over the hard
limit the link is closed with 1013. A send that takes too long aborts the link: after a cancelled
send the stream is broken. Both limits count payload bytes before compression. The original has no
such bound (wire.md §9), so a slow reader costs it memory without end.

A peer silently drops what comes faster than its rate limit allows (wire.md §5, §14), so a burst goes out
no faster than that: what is over waits here, and is not lost.
"""

from __future__ import annotations

import enum
from collections import deque

import trio

from trionode.config.tree import PeerSettings
from trionode.peers import closecodes
from trionode.peers.link import Link, LinkClosed, PreparedMessage
from trionode.runtime.counters import Counters

BURST_FRAMES = 110
BURST_S = 1.1
"""At most so many frames in any so long time: a peer takes 120 in its second, which need not be ours."""


class Tier(enum.IntEnum):
    """GOSSIP may be dropped when the peer is slow, a REPLY may not."""

    GOSSIP = 0
    REPLY = 1


class Outbox:
    """Messages waiting for one link; `run` is its only sender, `put` never waits."""

    def __init__(self, settings: PeerSettings, counters: Counters) -> None:
        self._gossip_limit_bytes = settings.outbox_gossip_limit_bytes
        self._limit_bytes = settings.outbox_limit_bytes
        self._send_timeout_s = settings.send_timeout_s
        self._counters = counters
        self._gossip: deque[tuple[int, PreparedMessage]] = deque()
        self._replies: deque[tuple[int, PreparedMessage]] = deque()
        self._sequence = 0
        self._bytes = 0
        self._gossip_bytes = 0
        self._news = trio.Event()
        self._idle = False
        self._drained = trio.Event()
        self._closing: tuple[int, str] | None = None
        self._finished = False
        # When the last frames were sent, oldest first: the one that drops out says when the next may go.
        self._sent_s: deque[float] = deque(maxlen=BURST_FRAMES)
        self.sent_messages = 0
        self.dropped_messages = 0

    @property
    def size_bytes(self) -> int:
        """Bytes waiting, not counting the message that is being sent."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._gossip) + len(self._replies)

    @property
    def closing(self) -> tuple[int, str] | None:
        """Code and reason of the close that was asked for, None while the link is in use."""
        return self._closing

    def put(self, message: PreparedMessage, tier: Tier) -> None:
        """Queue a message; what does not fit is dropped or ends the link, as the tiers say."""
        if self._closing is not None or self._finished:
            return
        size = message.size_bytes
        self._sequence += 1
        self._bytes += size
        if tier is Tier.GOSSIP:
            self._gossip.append((self._sequence, message))
            self._gossip_bytes += size
        else:
            self._replies.append((self._sequence, message))
        if self._bytes > self._gossip_limit_bytes:
            self._shed()
        if self._idle:
            self._idle = False
            self._news.set()

    def close(self, code: int, reason: str) -> None:
        """Drop what waits and close the link once the message on its way is out; idempotent."""
        if self._closing is not None or self._finished:
            return
        self._closing = (code, reason)
        self._clear()
        self._news.set()

    async def drained(self) -> None:
        """Wait until everything queued has been handed to the socket: back-pressure for bulk.

        Raises LinkClosed when the link ends first.
        """
        await trio.lowlevel.checkpoint()
        while not self._finished and self._closing is None:
            if self._idle and not self:
                return
            self._drained = self._drained if not self._drained.is_set() else trio.Event()
            await self._drained.wait()
        raise LinkClosed(*(self._closing or (closecodes.LOST, "")), by_us=self._closing is not None)

    async def run(self, link: Link) -> None:
        """Send until the link is gone or `close` was asked for. Raises LinkClosed at its end."""
        try:
            with trio.CancelScope() as patience:
                await self._send_all(link, patience)
        finally:
            self._finished = True
            self._clear()
            self._drained.set()
        # Only the patience scope leads here: the send hung, and its stream is beyond use.
        self._counters.add("peers.outbox.send_timeout")
        link.terminate()
        raise LinkClosed(closecodes.LOST, "send timed out", by_us=True)

    async def _send_all(self, link: Link, patience: trio.CancelScope) -> None:
        while True:
            while self._closing is None and self:
                now_s = trio.current_time()
                sent_s = self._sent_s
                if len(sent_s) == BURST_FRAMES and now_s < (free_s := sent_s[0] + BURST_S):
                    patience.deadline = float("inf")
                    await self._hold_back(free_s)
                    continue
                message = self._pop()
                patience.deadline = now_s + self._send_timeout_s
                sent_s.append(now_s)
                await link.send(message)
                self.sent_messages += 1
            patience.deadline = float("inf")
            if self._closing is not None:
                code, reason = self._closing
                await link.close(code, reason)
                raise LinkClosed(code, reason, by_us=True)
            self._idle = True
            self._news = trio.Event()
            self._drained.set()
            await self._news.wait()
            self._idle = False

    async def _hold_back(self, until_s: float) -> None:
        """Wait until the peer takes more; a close that is asked for does not wait."""
        self._counters.add("peers.outbox.held_back")
        self._news = trio.Event()
        with trio.move_on_at(until_s):
            await self._news.wait()

    def _pop(self) -> PreparedMessage:
        """The oldest message that waits; there is one."""
        gossip, replies = self._gossip, self._replies
        if gossip and (not replies or gossip[0][0] < replies[0][0]):
            message = gossip.popleft()[1]
            self._gossip_bytes -= message.size_bytes
        else:
            message = replies.popleft()[1]
        self._bytes -= message.size_bytes
        return message

    def _shed(self) -> None:
        while self._gossip and self._bytes > self._gossip_limit_bytes:
            size = self._gossip.popleft()[1].size_bytes
            self._bytes -= size
            self._gossip_bytes -= size
            self.dropped_messages += 1
            self._counters.add("peers.outbox.gossip_dropped")
        if self._bytes > self._limit_bytes:
            self._counters.add("peers.outbox.overflow_closed")
            self.close(closecodes.TRY_LATER, "outbound queue full")

    def _clear(self) -> None:
        self._gossip.clear()
        self._replies.clear()
        self._bytes = self._gossip_bytes = 0
