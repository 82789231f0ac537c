"""PeerTable: the live regular peers by key, in both directions, and their history (wire.md §2, §3).

One live connection per key across both directions. Published on the bus: `peers:added` and
`peers:removed` for each change, `peers:thresholdReached` and `peers:belowThreshold` once each time
the total climbs to the upper or falls under the lower mark.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec
import trio

from trionode.config.tree import PeerSettings
from trionode.peers.closecodes import DUPLICATE, Direction
from trionode.peers.peer import Peer
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock

HISTORY_RECORDS = 1000
UNSTABLE_DISCONNECTS = 5
UNSTABLE_WINDOW_MS = 2 * 3600 * 1000
UNSTABLE_KEYS = 4096

ChangeListener = Callable[[Literal["added", "removed"], Peer], None]


class HistoryRecord(msgspec.Struct, frozen=True):
    """One connect or disconnect; `code` and `reason` belong to disconnects."""

    at_ms: int
    event: Literal["connect", "disconnect"]
    ip: str
    port: str
    direction: Direction
    source: str
    code: int | None = None
    reason: str = ""


class Unstable(msgspec.Struct, frozen=True):
    """Disconnects of one key counted from `first_ms` on."""

    disconnects: int
    first_ms: int


class PeerTable:
    """Who is connected. Only the peer service adds and removes."""

    def __init__(self, settings: PeerSettings, bus: EventBus, clock: WallClock) -> None:
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._peers: dict[str, Peer] = {}
        self._counts: Counter[str] = Counter()
        self._ips: dict[Direction, Counter[str]] = {"inbound": Counter(), "outbound": Counter()}
        self._listeners: list[ChangeListener] = []
        self._drops: OrderedDict[str, Unstable] = OrderedDict()
        self._above = False
        self.history: deque[HistoryRecord] = deque(maxlen=HISTORY_RECORDS)

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        """The peers in the order they were added; safe while peers come and go."""
        return iter(list(self._peers.values()))

    def __contains__(self, key: str) -> bool:
        return key in self._peers

    def get(self, key: str) -> Peer | None:
        return self._peers.get(key)

    def peers(self, direction: Direction | None = None) -> list[Peer]:
        """The peers of one direction, or all."""
        return [peer for peer in self._peers.values() if direction is None or peer.direction == direction]

    @property
    def outbound(self) -> int:
        return self._counts["outbound"]

    @property
    def inbound(self) -> int:
        return self._counts["inbound"]

    def distinct_ips(self, direction: Direction) -> int:
        """How many different addresses the peers of one direction have."""
        return len(self._ips[direction])

    @property
    def threshold_reached(self) -> bool:
        """Between `peers:thresholdReached` and the next `peers:belowThreshold`."""
        return self._above

    @property
    def well_connected(self) -> bool:
        """ "Communication established" (wire.md §3): enough peers and addresses both ways."""
        settings = self._settings
        return (
            self.outbound >= settings.min_outbound
            and self.inbound >= settings.min_inbound
            and self.distinct_ips("outbound") >= settings.min_unique_outbound_ips
            and self.distinct_ips("inbound") >= settings.min_unique_inbound_ips
        )

    def on_change(self, listener: ChangeListener) -> None:
        """Call `listener(event, peer)` synchronously after each change."""
        self._listeners.append(listener)

    def add(self, peer: Peer) -> Peer | None:
        """Insert a peer; the one that held its key before is removed and returned."""
        replaced = self._peers.get(peer.key)
        if replaced is not None:
            self.remove(replaced, DUPLICATE, "replaced")
        self._peers[peer.key] = peer
        self._counts[peer.direction] += 1
        self._ips[peer.direction][peer.ip] += 1
        self._record(peer, "connect")
        self._publish("peers:added", peer)
        for listener in self._listeners:
            listener("added", peer)
        if not self._above and len(self._peers) >= self._settings.threshold_reached:
            self._above = True
            self._publish_mark("peers:thresholdReached", self._settings.threshold_reached)
        return replaced

    def remove(self, peer: Peer, code: int | None, reason: str) -> bool:
        """Take a peer out; False if it was not in (any more), e.g. because it was replaced."""
        if self._peers.get(peer.key) is not peer:
            return False
        del self._peers[peer.key]
        self._counts[peer.direction] -= 1
        ips = self._ips[peer.direction]
        ips[peer.ip] -= 1
        if not ips[peer.ip]:
            del ips[peer.ip]
        self._record(peer, "disconnect", code, reason)
        self._count_drop(peer.key)
        self._publish("peers:removed", peer, closeCode=code)
        for listener in self._listeners:
            listener("removed", peer)
        if self._above and len(self._peers) < self._settings.threshold_below:
            self._above = False
            self._publish_mark("peers:belowThreshold", self._settings.threshold_below)
        return True

    def is_unstable(self, key: str) -> bool:
        """At least 5 disconnects within 2 h of the first counted one."""
        drops = self._drops.get(key)
        return (
            drops is not None
            and drops.disconnects >= UNSTABLE_DISCONNECTS
            and self._clock.now_ms() - drops.first_ms < UNSTABLE_WINDOW_MS
        )

    def unstable(self) -> list[dict[str, Any]]:
        """The unstable keys as /flux/unstablenodes shows them."""
        rows = []
        for key, drops in self._drops.items():
            if self.is_unstable(key):
                ip, _, port = key.rpartition(":")
                rows.append(
                    {
                        "ip": ip,
                        "port": port,
                        "disconnects": drops.disconnects,
                        "firstDisconnect": drops.first_ms,
                    }
                )
        return rows

    def rows(self, direction: Direction | None = None, key: str | None = None) -> list[dict[str, Any]]:
        """The peers as /flux/peers shows them, all or one direction or one `ip:port`."""
        now_ms, now_s = self._clock.now_ms(), trio.current_time()
        wanted = self.peers(direction) if key is None else [p for p in self._peers.values() if p.key == key]
        return [msgspec.to_builtins(peer.stats(now_ms, now_s)) for peer in wanted]

    def _record(
        self,
        peer: Peer,
        event: Literal["connect", "disconnect"],
        code: int | None = None,
        reason: str = "",
    ) -> None:
        at_ms = self._clock.now_ms()
        self.history.append(
            HistoryRecord(at_ms, event, peer.ip, str(peer.port), peer.direction, peer.source, code, reason)
        )

    def _count_drop(self, key: str) -> None:
        now_ms = self._clock.now_ms()
        drops = self._drops.get(key)
        if drops is None or now_ms - drops.first_ms >= UNSTABLE_WINDOW_MS:
            drops = Unstable(0, now_ms)
        self._drops[key] = Unstable(drops.disconnects + 1, drops.first_ms)
        self._drops.move_to_end(key)
        while len(self._drops) > UNSTABLE_KEYS:
            self._drops.popitem(last=False)

    def _publish(self, name: str, peer: Peer, **more: Any) -> None:
        self._bus.publish(
            name,
            {
                "ip": peer.ip,
                "port": str(peer.port),
                "direction": peer.direction,
                **more,
                "outbound": self.outbound,
                "inbound": self.inbound,
                "total": len(self._peers),
            },
        )

    def _publish_mark(self, name: str, threshold: int) -> None:
        self._bus.publish(name, {"count": len(self._peers), "threshold": threshold})
