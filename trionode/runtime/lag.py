"""Loop lag: how late Trio wakes a task that asked to be woken at a given moment.

A lagging loop misses pongs and loses peers, so its lag is the first number to look at when a node
behaves badly. The canary sleeps to a moment and measures by how much it was missed, on Trio's own
clock; `trionode status` and the benches read `LagStats`.
"""

from __future__ import annotations

from collections import deque

import msgspec
import trio

from trionode.config.tree import SystemSettings
from trionode.runtime.counters import Counters


class LagSnapshot(msgspec.Struct, frozen=True):
    """Lag in milliseconds: of the last sample, the 99th percentile and maximum of recent ones."""

    last_ms: float
    p99_ms: float
    max_ms: float
    max_ever_ms: float
    samples: int


class LagStats:
    """The last `keep` samples; percentiles are computed when asked for."""

    def __init__(self, keep: int = 1200) -> None:
        self._recent: deque[float] = deque(maxlen=keep)
        self._max_ever_ms = 0.0

    def record(self, lag_ms: float) -> None:
        """Take in one sample; a negative one (clock granularity) counts as none."""
        lag_ms = max(0.0, lag_ms)
        self._recent.append(lag_ms)
        self._max_ever_ms = max(self._max_ever_ms, lag_ms)

    def snapshot(self) -> LagSnapshot:
        """The present figures; all zero before the first sample."""
        if not self._recent:
            return LagSnapshot(0.0, 0.0, 0.0, 0.0, 0)
        ordered = sorted(self._recent)
        # Nearest-rank percentile: the smallest sample that at least 99 % of the samples do not exceed.
        rank = -(-99 * len(ordered) // 100)
        return LagSnapshot(self._recent[-1], ordered[rank - 1], ordered[-1], self._max_ever_ms, len(ordered))


class LagCanary:
    """The service that takes the samples. Not for simulated nodes: virtual time has no lag."""

    name = "lag canary"

    def __init__(self, settings: SystemSettings, counters: Counters) -> None:
        self._interval_s = settings.lag_interval_s
        self._slow_ms = settings.lag_slow_ms
        self._counters = counters
        self.stats = LagStats(max(1, round(settings.lag_window_s / settings.lag_interval_s)))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sample until cancelled. Samples slower than `system.lag_slow_ms` are counted."""
        task_status.started()
        while True:
            due = trio.current_time() + self._interval_s
            await trio.sleep_until(due)
            lag_ms = (trio.current_time() - due) * 1000.0
            self.stats.record(lag_ms)
            if lag_ms > self._slow_ms:
                self._counters.add("loop.slow")
