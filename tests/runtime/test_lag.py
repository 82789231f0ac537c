"""Loop lag: statistics, and a canary on a clock that the test moves."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trionode.config.tree import SystemSettings
from trionode.runtime.counters import Counters
from trionode.runtime.lag import LagCanary, LagStats


def test_no_sample_is_all_zero() -> None:
    snapshot = LagStats().snapshot()
    assert (snapshot.last_ms, snapshot.p99_ms, snapshot.max_ms, snapshot.max_ever_ms, snapshot.samples) == (
        *(0.0, 0.0, 0.0, 0.0),
        0,
    )


def test_p99_is_the_nearest_rank() -> None:
    stats = LagStats()
    for number in range(1, 101):
        stats.record(float(number))
    snapshot = stats.snapshot()
    assert (snapshot.p99_ms, snapshot.max_ms, snapshot.last_ms, snapshot.samples) == (99.0, 100.0, 100.0, 100)
    one = LagStats()
    one.record(3.0)
    assert one.snapshot().p99_ms == 3.0


def test_old_samples_are_forgotten_but_not_the_worst() -> None:
    stats = LagStats(keep=10)
    stats.record(500.0)
    for _ in range(10):
        stats.record(1.0)
    snapshot = stats.snapshot()
    assert (snapshot.max_ms, snapshot.max_ever_ms, snapshot.samples) == (1.0, 500.0, 10)


def test_early_wake_counts_as_none() -> None:
    stats = LagStats()
    stats.record(-0.5)
    assert stats.snapshot().last_ms == 0.0


@pytest.mark.trio
async def test_canary_measures_how_late_it_was_woken(mock_clock: MockClock) -> None:
    counters = Counters()
    canary = LagCanary(SystemSettings(lag_interval_s=0.05, lag_slow_ms=100, lag_window_s=1), counters)
    async with trio.open_nursery() as nursery:
        await nursery.start(canary.run)
        await wait_all_tasks_blocked()
        mock_clock.jump(0.05)
        await wait_all_tasks_blocked()
        assert canary.stats.snapshot().last_ms == pytest.approx(0, abs=1e-6)
        # The loop was busy for 300 ms past the moment the canary wanted to wake.
        mock_clock.jump(0.05 + 0.3)
        await wait_all_tasks_blocked()
        snapshot = canary.stats.snapshot()
        assert snapshot.last_ms == pytest.approx(300)
        assert snapshot.samples == 2
        assert counters["loop.slow"] == 1
        nursery.cancel_scope.cancel()
