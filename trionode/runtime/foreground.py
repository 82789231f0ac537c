"""A process in the foreground: its supervisor runs until a signal, or a failure, ends it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from trionode.errors import TrionodeError
from trionode.runtime.signals import HardExit, watch_signals
from trionode.runtime.supervisor import Supervisor


async def run_until_signalled(
    supervisor: Supervisor, hard_exit: HardExit, grace_s: float, on_ready: Callable[[], None]
) -> None:
    """Run the supervisor under the signal watch; its own error, not a group, comes out."""
    failure: TrionodeError | None = None
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(watch_signals, supervisor, grace_s=grace_s, hard_exit=hard_exit))
            try:
                await supervisor.run(task_status=_CallWhenStarted(on_ready))
            except TrionodeError as error:
                failure = error
            nursery.cancel_scope.cancel(reason="the supervisor has stopped")
    finally:
        hard_exit.disarm()
    if failure is not None:
        raise failure


class _CallWhenStarted:
    """A task status that calls a function instead of waking a starter."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def started(self, value: None = None) -> None:
        self._call()
