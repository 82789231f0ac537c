"""SIGTERM and SIGINT: the first asks for an orderly stop, the second cuts it short.

The original ignores SIGINT and exits at once on a SIGTERM outside a machine shutdown
(docs/spec/lifecycle.md §5); ours always stops in order. Because a task that shields itself, or a
thread that hangs, could keep the loop alive for ever, a plain timer thread ends the process hard
some time after the grace: a service manager must never have to.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, Protocol

import trio

from trionode.runtime.logs import get_logger

EXIT_CUT_SHORT = 130
"""Exit code of a process whose orderly stop did not come to its end."""

HARD_EXIT_S = 1.0
"""How long after the grace the process may still take to come to its end by itself."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stoppable(Protocol):
    """What the signals act on; `Supervisor` is one."""

    def stop(self, reason: str) -> None: ...
    def cut_short(self, reason: str) -> None: ...


class HardExit:
    """Ends the process, without asking anyone, when an orderly stop takes far too long."""

    def __init__(self, end_process: Callable[[int], NoReturn] = os._exit) -> None:
        self._end_process = end_process
        self._timer: threading.Timer | None = None

    def arm(self, after_s: float, why: str) -> None:
        """End the process `after_s` from now, whatever was asked for before."""
        self.disarm()
        self._timer = threading.Timer(after_s, self._end, (why,))
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        """Call the timer off."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, why: str) -> None:
        sys.stderr.write(f"trionode: {why} - stored data is safe; please report what the log shows\n")
        sys.stderr.flush()
        self._end_process(EXIT_CUT_SHORT)


async def watch_signals(
    target: Stoppable,
    *,
    grace_s: float,
    hard_exit: HardExit | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Turn signals into `target.stop` (first) and `target.cut_short` (every later one).

    Runs until cancelled. `hard_exit`, when given, is armed to end the process HARD_EXIT_S after the
    grace, and as long after a second signal. Only the main thread may run this.
    """
    log = get_logger("signals")
    with trio.open_signal_receiver(*_SIGNALS) as received:
        task_status.started()
        first = True
        async for number in received:
            name = signal.Signals(number).name
            if first:
                first = False
                log.info("signal received, stopping in order", signal=name, grace_s=grace_s)
                if hard_exit is not None:
                    limit_s = grace_s + HARD_EXIT_S
                    hard_exit.arm(limit_s, f"still running {limit_s:g} s after {name}")
                target.stop(name)
            else:
                log.warning("second signal, stopping at once", signal=name)
                if hard_exit is not None:
                    hard_exit.arm(HARD_EXIT_S, f"still running {HARD_EXIT_S:g} s after a second {name}")
                target.cut_short(f"second {name}")
