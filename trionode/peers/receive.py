"""What happens to a received frame before gossip (wire.md §5): the order of intake.

Rate limit, then binary frames (§6), then the timestamp prefix and peer-level JSON; longer texts and
whatever carries a signature go to the gossip intake unparsed, so that a reader never does more than
cheap work for one frame. Sync answers (megabytes) of peers that were asked go to the hook, unparsed.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from trionode.config.tree import GossipSettings, PeerSettings
from trionode.errors import WireError
from trionode.peers.exchange import Topology
from trionode.peers.gossip import Gossip
from trionode.peers.peer import Peer
from trionode.peers.ratelimit import RateLimiter
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.wire.frames import (
    Frame,
    HashPresent,
    HashRequest,
    Nak,
    PeerExchange,
    PeerUpdate,
    SyncRequest,
    decode_frame,
)
from trionode.wire.textframe import classify, parse_body, split_timestamp

log = get_logger("peers.receive")

PEER_LEVEL_CHARS = 4096
"""Texts up to this length without a signature are looked at in the reader."""

CHECKPOINT_EVERY = 16
PAUSE_AFTER_DROPS = 32
PAUSE_S = 0.05
NAK_WARNING = 10
NAK_WINDOW_S = 300.0

SYNC_TYPES = tuple(
    f'"type":"{name}"'
    for name in (
        "fluxapptempsync",
        "fluxapprunningsync",
        "fluxappinstallingsync",
        "fluxappinstallingerrorssync",
    )
)
SYNC_HEAD_CHARS = 1024

SyncTextHandler = Callable[[Peer, str], trio.Event | None]
"""Takes the unparsed sync answer of a peer that was asked (wire.md §11); must only enqueue. When its queue
for that peer is full it gives an event: nothing more is read from that peer until it is set."""

SyncRequestHandler = Callable[[Peer, SyncRequest], None]
"""Takes a peer's request for state (wire.md §11); must only enqueue."""


class Receiver:
    """The reading side of all peers of a node."""

    def __init__(
        self,
        peers: PeerSettings,
        gossip_settings: GossipSettings,
        *,
        gossip: Gossip,
        topology: Topology,
        counters: Counters,
        clock: WallClock,
        own_clock_offset_ms: Callable[[], int | None],
    ) -> None:
        self._limiter = RateLimiter(
            peers.rate_limit_frames,
            peers.rate_limit_interval_s,
            peers.rate_limit_idle_s,
            peers.rate_limit_keys,
        )
        self._max_text = gossip_settings.max_text_bytes
        self._gossip = gossip
        self._topology = topology
        self._counters = counters
        self._clock = clock
        self._own_offset_ms = own_clock_offset_ms
        self.on_sync_request: SyncRequestHandler | None = None
        self.on_sync_text: SyncTextHandler | None = None
        gossip.on_frame = self.frame

    async def run(self, peer: Peer) -> None:
        """Take frames off the link until it is gone (raises LinkClosed).

        A peer that floods is read more slowly, which its own TCP connection then feels.
        """
        receive, allow, key = peer.link.receive, self._limiter.allow, peer.key
        drops = 0
        while True:
            message = await receive()
            peer.messages_received += 1
            if not allow(key, trio.current_time()):
                self._counters.add("peers.rate_limited")
                drops += 1
                if drops % PAUSE_AFTER_DROPS == 0:
                    await trio.sleep(PAUSE_S)
                continue
            if peer.outbox.closing is not None:
                continue
            if isinstance(message, bytes):
                frame = decode_frame(message)
                if frame is None:
                    self._counters.add("peers.frames.ignored")
                else:
                    self.frame(peer, frame)
            else:
                room = self.text(peer, message)
                if room is not None:
                    self._counters.add("peers.sync_paused")
                    await room.wait()
            if peer.messages_received % CHECKPOINT_EVERY == 0:
                await trio.lowlevel.checkpoint()

    def text(self, peer: Peer, raw: str) -> trio.Event | None:
        """A text message: peer-level ones are handled, the rest is offered to gossip.

        The event, if any, is to be waited for before more is read from this peer.
        """
        sent_ms, body = split_timestamp(raw)
        if sent_ms is not None:
            offset_ms = (self._own_offset_ms() or 0) - (peer.hello.clock_offset_ms or 0)
            peer.transmission_delay_ms = self._clock.now_ms() - sent_ms - offset_ms
        if len(body) > PEER_LEVEL_CHARS or '"signature"' in body:
            if peer.sync_requested and self.on_sync_text is not None and _is_sync_answer(body):
                return self.on_sync_text(peer, body)
            if len(body) > self._max_text:
                self._counters.add("gossip.intake.too_long")
                return None
            self._gossip.offer(peer, body)
            return None
        try:
            message = classify(parse_body(body))
        except WireError:
            self._counters.add("gossip.decode.malformed")
            peer.close_invalid()
            return None
        if isinstance(message, dict):
            self._gossip.offer(peer, body)
            return None
        self.frame(peer, message)
        return None

    def frame(self, peer: Peer, frame: Frame) -> None:
        """A peer-level message, from binary or JSON."""
        if isinstance(frame, HashPresent):
            if not peer.ephemeral:
                self._gossip.present(peer, frame.hash.lower())
        elif isinstance(frame, HashRequest):
            if not peer.ephemeral:
                self._gossip.requested(peer, frame.hash.lower())
        elif isinstance(frame, Nak):
            self._nak(peer, frame)
        elif isinstance(frame, SyncRequest):
            if self.on_sync_request is not None:
                self.on_sync_request(peer, frame)
            else:
                self._counters.add("peers.frames.sync_unserved")
        elif not peer.takes_exchange or peer.ephemeral:
            self._counters.add("peers.frames.exchange_ignored")
        elif isinstance(frame, PeerExchange):
            self._topology.exchange(peer.key, frame)
        elif isinstance(frame, PeerUpdate):
            self._topology.update(peer.key, frame)

    def _nak(self, peer: Peer, nak: Nak) -> None:
        """Naks are only counted; many in a short time hint at a wrong clock on one side."""
        self._counters.add(f"peers.naks.{nak.reason_name.split(' ')[0]}")
        now_s = trio.current_time()
        naks = peer.naks
        naks.append(now_s)
        often = len(naks) == NAK_WARNING and now_s - naks[0] <= NAK_WINDOW_S
        # once per window: a peer that sends naks all day must not fill the log
        if often and now_s - peer.nak_warned_s >= NAK_WINDOW_S:
            peer.nak_warned_s = now_s
            log.warning("peer refuses many of our messages", peer=peer.key, reason=nak.reason_name)


def _is_sync_answer(text: str) -> bool:
    """Whether a text is a sync answer, told by the place where all nodes write its type."""
    head = text[:SYNC_HEAD_CHARS]
    return any(mark in head for mark in SYNC_TYPES)
