"""The clock of a simulated world: Trio's MockClock that also knows when the next parcel is due.

When every task is blocked, time jumps to the next deadline or to the next delivery, whichever is
earlier, and due parcels are handed out on the spot. A courier task that slept until each delivery would
do the same for a third more work: every sleep costs a cancel scope and two scheduling rounds. A plain
MockClock works too (`VirtualNetwork.run` then sleeps); this one is for speed.

MockClock cannot be subclassed, so two of its methods are replaced on the instance; the Trio versions
allowed in pyproject.toml are the ones this is tested with.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
import trio.testing
from trio._core import _run as trio_run

NEVER = float("inf")


class IdleHook:
    """What to do when nothing can run: asked for the next delivery, told to deliver."""

    def __init__(self) -> None:
        self.next_due_s: Callable[[], float] | None = None
        self.deliver: Callable[[], None] | None = None


IDLE_HOOK: trio.lowlevel.RunVar[IdleHook | None] = trio.lowlevel.RunVar("trionode.sim idle hook", None)
"""Set inside a run whose clock is a `sim_clock`."""


def sim_clock(hook: IdleHook) -> trio.testing.MockClock:
    """An autojumping clock that serves `hook`."""
    clock = trio.testing.MockClock(autojump_threshold=0)

    def current_time() -> float:
        # The rate is zero, so the base is the time.
        return clock._virtual_base

    def autojump() -> None:
        deadline_s: float = trio_run.GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline()
        due_s = hook.next_due_s() if hook.next_due_s is not None else NEVER
        target_s = min(deadline_s, due_s)
        if target_s == NEVER:
            raise RuntimeError("the simulated world is dead: every task waits and nothing is due")
        if target_s > clock._virtual_base:
            clock._virtual_base = target_s
        if due_s <= target_s and hook.deliver is not None:
            hook.deliver()

    clock.current_time = current_time  # type: ignore[method-assign]
    clock._autojump = autojump  # type: ignore[method-assign]
    return clock
