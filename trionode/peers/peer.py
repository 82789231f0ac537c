"""One live peer: its link, its outbound queue and what /flux/peers tells about it (api.md §6)."""

from __future__ import annotations

from collections import deque

import msgspec

from trionode.peers.badmessages import BadMessages
from trionode.peers.closecodes import LOST, Direction, invalid_message
from trionode.peers.link import Link
from trionode.peers.outbox import Outbox
from trionode.peers.pinger import Pinger
from trionode.runtime.clock import WallClock
from trionode.wire.address import peer_key

INVALID_MESSAGE_REASON = "Message not valid, disconnect"


class PeerStats(
    msgspec.Struct,
    frozen=True,
    rename={
        "missed_pongs": "missedPongs",
        "last_ping_ms": "lastPingTime",
        "last_pong_ms": "lastPongTime",
        "connected_at_ms": "connectedAt",
        "uptime_ms": "uptime",
        "is_alive": "isAlive",
        "bad_messages": "badMessages",
        "clock_offset_ms": "remoteClockOffsetMs",
        "transmission_delay_ms": "lastTransmissionDelay",
        "messages_received": "messagesReceived",
        "messages_sent": "messagesSent",
        "bytes_received": "bytesReceived",
        "bytes_sent": "bytesSent",
        "version": "remoteVersion",
        "latency_ms": "latency",
        "outbox_bytes": "outboxBytes",
        "outbox_dropped": "outboxDropped",
    },
):
    """One row of /flux/peers; `msgspec.to_builtins` gives the names of the API.

    `latency_ms` is half the round trip; ping values are None before the first ping or pong.
    The last two members are ours: the outbound queue and what it had to drop.
    """

    ip: str
    port: str
    direction: Direction
    latency_ms: int | None
    missed_pongs: int
    last_ping_ms: int | None
    last_pong_ms: int | None
    connected_at_ms: int
    uptime_ms: int
    source: str
    is_alive: bool
    bad_messages: int
    capabilities: list[str]
    clock_offset_ms: int | None
    transmission_delay_ms: int | None
    messages_received: int
    messages_sent: int
    bytes_received: int
    bytes_sent: int
    version: str | None
    reconnects: int
    outbox_bytes: int
    outbox_dropped: int


class Peer:
    """Mutable state of one connection; identity is the object, `key` is its name.

    `source` says how it came: "inbound", "deterministic", "random", "reconnect", "manual" or
    "ephemeral". An ephemeral peer is never in the table.
    """

    def __init__(
        self,
        *,
        ip: str,
        port: int,
        direction: Direction,
        source: str,
        link: Link,
        outbox: Outbox,
        bad: BadMessages,
        max_missed_pongs: int,
        clock: WallClock,
        reconnects: int = 0,
    ) -> None:
        self.ip = ip
        self.port = port
        self.key = peer_key(ip, port)
        self.direction: Direction = direction
        self.source = source
        self.ephemeral = source == "ephemeral"
        self.link = link
        self.outbox = outbox
        self.bad = bad
        self.hello = link.remote_hello
        capabilities = self.hello.capabilities
        self.takes_timestamps = "transmissionTimestamps" in capabilities
        self.takes_exchange = "peerExchange" in capabilities
        self.takes_binary = "binaryMessages" in capabilities
        self.takes_state_sync = "appStateSync" in capabilities
        self.connected_at_ms = clock.now_ms()
        self.reconnects = reconnects
        self.transmission_delay_ms: int | None = None
        self.messages_received = 0
        self.naks: deque[float] = deque(maxlen=10)
        self.nak_warned_s = float("-inf")
        self.sync_requested = False
        """Set by the state-sync room while this peer's sync responses are awaited (wire.md §11)."""
        self.close_code: int | None = None
        self.close_reason = ""
        self.pinger = Pinger(link, clock)
        self.gone = False
        self._max_missed_pongs = max_missed_pongs

    @property
    def closing(self) -> bool:
        """A close has been asked for, or the link is gone."""
        return self.gone or self.outbox.closing is not None

    @property
    def is_alive(self) -> bool:
        """Fewer missed pongs than the limit, and the socket open (wire.md §4)."""
        return not self.closing and self.pinger.missed < self._max_missed_pongs

    @property
    def uptime_s(self) -> int | None:
        """What the remote said about its process uptime when it connected."""
        return self.hello.uptime_s

    def close(self, code: int, reason: str) -> None:
        """Close the link in good order, soon; the peer's own tasks do it. Idempotent."""
        self.outbox.close(code, reason)

    def close_invalid(self) -> None:
        """Close after a malformed message (4016 or 4017)."""
        self.close(invalid_message(self.direction), INVALID_MESSAGE_REASON)

    def ended(self, code: int | None, reason: str) -> None:
        """The link is over; a loss without a close frame has no code."""
        self.gone = True
        self.close_code = None if code == LOST else code
        self.close_reason = reason

    def stats(self, now_ms: int, now_s: float) -> PeerStats:
        """The row of this peer at wall-clock `now_ms`, monotonic `now_s`."""
        return PeerStats(
            ip=self.ip,
            port=str(self.port),
            direction=self.direction,
            latency_ms=self.pinger.latency_ms,
            missed_pongs=self.pinger.missed,
            last_ping_ms=self.pinger.last_ping_ms,
            last_pong_ms=self.pinger.last_pong_ms,
            connected_at_ms=self.connected_at_ms,
            uptime_ms=now_ms - self.connected_at_ms,
            source=self.source,
            is_alive=self.is_alive,
            bad_messages=self.bad.count(now_s),
            capabilities=sorted(self.hello.capabilities),
            clock_offset_ms=self.hello.clock_offset_ms,
            transmission_delay_ms=self.transmission_delay_ms,
            messages_received=self.messages_received,
            messages_sent=self.outbox.sent_messages,
            bytes_received=self.link.bytes_received,
            bytes_sent=self.link.bytes_sent,
            version=self.hello.version,
            reconnects=self.reconnects,
            outbox_bytes=self.outbox.size_bytes,
            outbox_dropped=self.outbox.dropped_messages,
        )

    def __repr__(self) -> str:
        return f"<Peer {self.key} {self.direction}>"
