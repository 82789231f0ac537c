"""WallClock: the virtual one follows Trio's clock, the real one counts milliseconds since 1970."""

from __future__ import annotations

import pytest
import trio

from trionode.runtime.clock import SystemClock, VirtualClock, WallClock


@pytest.mark.trio
async def test_virtual_clock_follows_trio(autojump_clock: trio.testing.MockClock) -> None:
    clock: WallClock = VirtualClock(epoch_ms=1_000_000)
    start = clock.now_ms()
    await trio.sleep(90)
    assert clock.now_ms() - start == 90_000


@pytest.mark.trio
async def test_skew_moves_one_clock_only(autojump_clock: trio.testing.MockClock) -> None:
    right, wrong = VirtualClock(epoch_ms=5_000), VirtualClock(epoch_ms=5_000, skew_ms=-1_500)
    assert right.now_ms() - wrong.now_ms() == 1_500
    wrong.skew_ms = 60_000
    assert wrong.now_ms() - right.now_ms() == 60_000


def test_system_clock_counts_milliseconds() -> None:
    clock = SystemClock()
    first = clock.now_ms()
    # Between 2025 and 2100: neither seconds nor nanoseconds.
    assert 1_735_000_000_000 < first < 4_102_000_000_000
    assert clock.now_ms() >= first
