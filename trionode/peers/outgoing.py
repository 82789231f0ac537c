"""Outgoing messages in the forms that peers take, each encoded at most once (wire.md §5, §6).

A frame travels as binary to peers with `binaryMessages` and as JSON text to others; a text travels
with the `T<ms>|` prefix to peers with `transmissionTimestamps` and bare to others. A fan-out to 40
peers at one moment thus prepares at most three messages; a paced one is stamped anew for each send,
because peers take the prefix for the time of sending.
"""

from __future__ import annotations

from trionode.peers.link import PeerTransport, PreparedMessage
from trionode.peers.outbox import Tier
from trionode.peers.peer import Peer
from trionode.peers.role import MEMBER, Role
from trionode.runtime.clock import WallClock
from trionode.wire.frames import Frame, SyncRequest, encode_frame
from trionode.wire.textframe import frame_text, with_timestamp

STAMP_REUSE_MS = 20
"""How old the prefix of a text may be when it is queued for one more peer."""


class Outgoing:
    """One message for any number of peers, at one moment or spread over time."""

    def __init__(
        self,
        transport: PeerTransport,
        clock: WallClock,
        *,
        text: str | None = None,
        frame: Frame | None = None,
        silent: bool = False,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._frame = frame
        self._text = text
        self._silent = silent
        self._binary: PreparedMessage | None = None
        self._stamped: PreparedMessage | None = None
        self._stamped_ms = 0
        self._plain: PreparedMessage | None = None

    def form_for(self, peer: Peer) -> PreparedMessage:
        """The form this peer understands. Raises WireError if the frame has none for it."""
        if self._frame is not None and (peer.takes_binary or isinstance(self._frame, SyncRequest)):
            if self._binary is None:
                self._binary = self._transport.prepare(encode_frame(self._frame))
            return self._binary
        if peer.takes_timestamps:
            now_ms = self._clock.now_ms()
            if self._stamped is None or abs(now_ms - self._stamped_ms) > STAMP_REUSE_MS:
                self._stamped_ms = now_ms
                self._stamped = self._transport.prepare(with_timestamp(self._body(), now_ms))
            return self._stamped
        if self._plain is None:
            self._plain = self._transport.prepare(self._body())
        return self._plain

    def send(self, peer: Peer, tier: Tier) -> None:
        """Queue the message for a peer; never waits. What the role forbids is not sent."""
        if not self._silent:
            peer.outbox.put(self.form_for(peer), tier)

    def _body(self) -> str:
        if self._text is None:
            if self._frame is None:
                raise ValueError("an Outgoing needs a text or a frame")
            self._text = frame_text(self._frame)
        return self._text


class Forms:
    """Makes Outgoing values for one node."""

    def __init__(self, transport: PeerTransport, clock: WallClock, role: Role = MEMBER) -> None:
        self._transport = transport
        self._clock = clock
        self._role = role

    def text(self, text: str) -> Outgoing:
        """A gossip or sync message (the text of an envelope)."""
        return Outgoing(self._transport, self._clock, text=text, silent=not self._role.may_send(None))

    def frame(self, frame: Frame) -> Outgoing:
        """A peer-level message."""
        return Outgoing(self._transport, self._clock, frame=frame, silent=not self._role.may_send(frame))
