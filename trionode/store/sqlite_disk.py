"""SqliteDisk: the disk under the SQLite files of a node, and what is done while it cannot be written.

A write that found no space, no right or no lock was taken back whole, so it is simply tried again, with
growing pauses. No event of the system tells that there is room again: that is why there is a pause at all.
Nothing is acknowledged meanwhile; reading does not come here and goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from trionode.errors import StoreAway
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.store.availability import Availability

_T = TypeVar("_T")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


class SqliteDisk:
    """One for all files of a node; it is the `StoreServer` of SQLite.

    `patience_s`: how long a write is tried again before it fails with StoreAway.
    """

    def __init__(self, folder: str, *, patience_s: float = 0.0) -> None:
        self.patience_s = patience_s
        self.availability = Availability("SQLite", folder)
        self._trying: Counter[str] = Counter()

    @property
    def is_connected(self) -> bool:
        return self.availability.is_connected

    @property
    def is_readable(self) -> bool:
        return self.availability.is_readable

    def document(self) -> dict[str, Any]:
        return self.availability.document()

    def report_to(self, counters: Counters, bus: EventBus) -> None:
        self.availability.report_to(counters, bus)

    async def retried(self, file: str, attempt: Callable[[], Awaitable[_T]], *, give_up_s: float) -> _T:
        """`attempt` until it succeeds, until the moment `give_up_s`. Raises StoreError.

        `file`: whose trouble it is. Only StoreAway is tried again.
        """
        pause_s = _FIRST_PAUSE_S
        self._trying[file] += 1
        try:
            while True:
                try:
                    result = await attempt()
                except StoreAway as problem:
                    self.availability.count("failed_writes")
                    self.availability.is_lost(file, problem)
                    if trio.current_time() + pause_s > give_up_s:
                        raise
                else:
                    # What nobody tries to write may be well too: whoever tries next will find out.
                    idle = (part for part in self.availability.lost if not self._trying[part])
                    self.availability.answered(file, *idle)
                    return result
                self.availability.count("repeated_writes")
                await trio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            self._trying[file] -= 1
