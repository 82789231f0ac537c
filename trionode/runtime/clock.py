"""Wall-clock time as a value that is handed in.

Deadlines and sleeps use Trio's own clock; `WallClock` is for what is written into messages and
compared with other machines: milliseconds since the Unix epoch.
"""

from __future__ import annotations

import time
from typing import Protocol

import trio


class WallClock(Protocol):
    """Milliseconds since the Unix epoch, as this node believes them to be."""

    def now_ms(self) -> int:
        """Return the present wall-clock time in milliseconds."""
        ...


class SystemClock:
    """The machine's clock; the only reader of the system time in the whole project."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class VirtualClock:
    """A wall clock that follows Trio's clock, so that MockClock owns it (simulator, tests).

    `skew_ms` may be changed at any time to let one node's clock drift or jump.
    """

    def __init__(self, epoch_ms: int = 1_760_000_000_000, skew_ms: int = 0) -> None:
        self.epoch_ms = epoch_ms
        self.skew_ms = skew_ms

    def now_ms(self) -> int:
        return self.epoch_ms + self.skew_ms + round(trio.current_time() * 1000)
