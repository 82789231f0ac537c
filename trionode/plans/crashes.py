"""When a container that ended by itself is started again (docs/spec/lifecycle.md §9; config `monitors`).

The first time at once, then after ever longer waits; a container that ran well for a while is forgiven.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Crashes(msgspec.Struct, frozen=True):
    """How often in a row a container ended by itself, and when last."""

    count: int
    ended_ms: int


def after_end(before: Crashes | None, *, ran_ms: int, now_ms: int, stable_s: float) -> Crashes:
    """The record after another end; `ran_ms`: how long it ran this time."""
    forgiven = before is None or ran_ms >= stable_s * 1000
    return Crashes(1 if forgiven or before is None else before.count + 1, now_ms)


def start_due_ms(crashes: Crashes, waits_s: Sequence[float]) -> int:
    """When it may be started again."""
    wait_s = waits_s[min(crashes.count, len(waits_s)) - 1]
    return crashes.ended_ms + round(wait_s * 1000)
