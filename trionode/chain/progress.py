"""Progress of long work: done, total, rate and time left, as the API and the terminal show it.

The rate is that of the last `window_s` seconds, so that it follows a change of pace (skipped blocks,
another phase) instead of averaging it away.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

WINDOW_S = 10.0


class Progress(msgspec.Struct, frozen=True):
    """One moment of some long work. `left_s` is None while no rate is known."""

    phase: str
    done: int
    total: int
    per_second: float
    left_s: float | None

    def event(self) -> dict[str, Any]:
        """The form of the bus event `explorer:progress`."""
        return {
            "phase": self.phase,
            "done": self.done,
            "total": self.total,
            "perSecond": round(self.per_second, 1),
            "leftS": None if self.left_s is None else round(self.left_s, 1),
        }


class ProgressMeter:
    """Turns counts at moments into `Progress`. Time is handed in, in seconds of any steady clock."""

    def __init__(self, phase: str, total: int, now_s: float, done: int = 0) -> None:
        self.phase = phase
        self.total = total
        self._marks: deque[tuple[float, int]] = deque([(now_s, done)])

    def at(self, done: int, now_s: float) -> Progress:
        """Where the work stands with `done` finished at `now_s`."""
        self._marks.append((now_s, done))
        while len(self._marks) > 2 and self._marks[1][0] <= now_s - WINDOW_S:
            self._marks.popleft()
        since_s, since = self._marks[0]
        passed_s = now_s - since_s
        rate = (done - since) / passed_s if passed_s > 0 else 0.0
        left = max(0, self.total - done)
        left_s = left / rate if rate > 0 else (0.0 if left == 0 else None)
        return Progress(self.phase, done, self.total, max(0.0, rate), left_s)
