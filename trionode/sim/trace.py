"""The trace of a run: one line per delivery and decision, folded into a hash.

Two runs of the same scenario with the same seed must give the same hash; a failure report shows the
last lines.
"""

from __future__ import annotations

import hashlib
from collections import deque


class Trace:
    """Running SHA-256 over the lines of a run, and the last `keep` of them in clear."""

    def __init__(self, keep: int = 200) -> None:
        self._hash = hashlib.sha256()
        self._last: deque[str] = deque(maxlen=keep)
        self._lines = 0
        self._ended = False

    def add(self, line: str) -> None:
        """Append one line (no line break in it)."""
        if self._ended:
            return
        self._lines += 1
        self._last.append(line)
        self._hash.update(line.encode("utf-8", "surrogatepass"))
        self._hash.update(b"\n")

    def end(self) -> None:
        """What comes from now on is only tidying up."""
        self._ended = True

    @property
    def lines(self) -> int:
        return self._lines

    @property
    def digest(self) -> str:
        """64 hex digits over every line so far."""
        return self._hash.hexdigest()

    def last(self) -> list[str]:
        """The most recent lines, oldest first."""
        return list(self._last)
