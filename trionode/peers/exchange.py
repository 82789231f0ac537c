"""Peer exchange: who our peers are connected to, and the news we owe them (wire.md §6).

Both halves are pure. `Topology` keeps what others report; it is diagnostic only and never feeds
dialling. `PendingChanges` gathers our own additions and removals between two updates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from trionode.peers.closecodes import Direction
from trionode.wire.frames import PeerExchange, PeerUpdate

MAX_REPORTERS = 100
MAX_LISTED = 60
MAX_PER_REPORTER = 120


class Topology:
    """Reported connections by reporter key. `accepts(key)` says which entries may be kept."""

    def __init__(self, accepts: Callable[[str], bool]) -> None:
        self._accepts = accepts
        # dictionaries keep insertion order, which sets do not
        self._reports: dict[str, tuple[dict[str, None], dict[str, None]]] = {}

    def exchange(self, reporter: str, frame: PeerExchange) -> bool:
        """Replace what `reporter` said; False when there is no room for another reporter."""
        if reporter not in self._reports and len(self._reports) >= MAX_REPORTERS:
            return False
        self._reports[reporter] = (self._kept(frame.outbound), self._kept(frame.inbound))
        return True

    def update(self, reporter: str, frame: PeerUpdate) -> bool:
        """Apply additions, then removals; False (ignored) before the reporter's exchange."""
        report = self._reports.get(reporter)
        if report is None:
            return False
        outbound, inbound = report
        for target, added in ((outbound, frame.add_outbound), (inbound, frame.add_inbound)):
            for key in added:
                if len(outbound) + len(inbound) >= MAX_PER_REPORTER:
                    break
                if self._accepts(key):
                    target[key] = None
        for key in frame.removed:
            outbound.pop(key, None)
            inbound.pop(key, None)
        return True

    def forget(self, reporter: str) -> None:
        """The reporter disconnected."""
        self._reports.pop(reporter, None)

    def snapshot(self) -> dict[str, dict[str, list[str]]]:
        """`{reporter: {outbound: [key], inbound: [key]}}`, as /flux/topology shows it."""
        return {
            reporter: {"outbound": list(outbound), "inbound": list(inbound)}
            for reporter, (outbound, inbound) in self._reports.items()
        }

    def _kept(self, keys: Iterable[str]) -> dict[str, None]:
        listed = list(keys)[:MAX_LISTED]
        return {key: None for key in listed if self._accepts(key)}


class PendingChanges:
    """Net changes of our own peers since the last update."""

    def __init__(self) -> None:
        self._added: dict[str, Direction] = {}
        self._removed: dict[str, Direction] = {}

    def added(self, key: str, direction: Direction) -> None:
        """A peer was added; one that left and came back the same way is no news."""
        if self._removed.pop(key, None) != direction:
            self._added[key] = direction

    def removed(self, key: str, direction: Direction) -> None:
        """A peer left; one that came since the last update was never announced."""
        if self._added.pop(key, None) is None:
            self._removed[key] = direction

    def take(self) -> PeerUpdate | None:
        """The update to send now, None when nothing changed on balance."""
        if not self._added and not self._removed:
            return None
        update = PeerUpdate(
            add_outbound=tuple(key for key, way in self._added.items() if way == "outbound"),
            add_inbound=tuple(key for key, way in self._added.items() if way == "inbound"),
            removed=tuple(self._removed),
        )
        self._added.clear()
        self._removed.clear()
        return update
