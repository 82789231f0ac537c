"""Waits until something has come to rest, by many looks in a row and not by one span of time.

A machine that stands still for a while takes one look only, so a number that could have grown meanwhile
is not taken for one that has stopped.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

LOOKS = 20
PAUSE_S = 0.05


async def standstill(number: Callable[[], int], *, least: int = 0, within_s: float = 120.0) -> None:
    """Return when `number()` is at least `least` and was the same in all of the last looks."""
    looks, last = 0, number()
    with trio.fail_after(within_s):
        while looks < LOOKS:
            await trio.sleep(PAUSE_S)
            now = number()
            looks = looks + 1 if now == last and now >= least else 0
            last = now
