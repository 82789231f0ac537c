"""Counting a peer's bad messages in a rolling window (wire.md §9.6), pure.

Malformed, badly signed and wrongly keyed envelopes count; an unlisted sender never does. A wrong
key can be an effect of node lists that differ for a while (events.md §13.18), so such an entry
remembers what was claimed and is taken back when a newer list agrees with the peer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec


class WrongKey(msgspec.Struct, frozen=True):
    """The claim of a wrongly keyed envelope: this key signs for this address."""

    address: str
    public_key: str


class BadMessages:
    """The bad messages of one peer within the last `window_s` seconds."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._entries: deque[tuple[float, WrongKey | None]] = deque(maxlen=limit)

    def add(self, now_s: float, claim: WrongKey | None = None) -> bool:
        """Count one; True when the limit is reached and the link must be closed."""
        self._forget_old(now_s)
        self._entries.append((now_s, claim))
        return len(self._entries) >= self._limit

    def count(self, now_s: float) -> int:
        """Bad messages in the window that ends now."""
        self._forget_old(now_s)
        return len(self._entries)

    def forgive(self, now_agreed: Callable[[WrongKey], bool]) -> int:
        """Take back the wrong keys that a newer node list agrees with; how many they were."""
        kept = [entry for entry in self._entries if entry[1] is None or not now_agreed(entry[1])]
        forgiven = len(self._entries) - len(kept)
        if forgiven:
            self._entries = deque(kept, maxlen=self._limit)
        return forgiven

    def _forget_old(self, now_s: float) -> None:
        while self._entries and now_s - self._entries[0][0] >= self._window_s:
            self._entries.popleft()
