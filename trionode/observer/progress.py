"""What an observer tells on its terminal while it works: one line whenever something has changed."""

from __future__ import annotations

from collections.abc import Callable

import trio

from trionode.observer.report import ObserverReport
from trionode.runtime.bus import EventBus
from trionode.runtime.logs import get_logger

NEWS = (
    "chain:nodes",
    "observer:disagreement",
    "observer:locations",
    "observer:settled",
    "peers:added",
    "peers:removed",
)
QUIET_S = 5.0
"""Lines are at least this far apart."""

log = get_logger("observer")


class Progress:
    """Service "progress"."""

    name = "progress"

    def __init__(self, report: ObserverReport, bus: EventBus, locations: Callable[[], int]) -> None:
        self._report = report
        self._bus = bus
        self._locations = locations

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell until cancelled."""
        told: dict[str, int] = {}
        with self._bus.subscribe(*NEWS, buffer=1) as news:
            task_status.started()
            while True:
                await news.receive()
                now = self._numbers()
                if now != told:
                    told = now
                    log.info("following", **now)
                await trio.sleep(QUIET_S)

    def _numbers(self) -> dict[str, int]:
        found = self._report.document()
        return {
            "links": found["links"]["open"],
            "nodes": found["nodes"]["count"],
            "locations": self._locations(),
            "unverified": found["locations"]["unverified"],
            "disagreements": len(found["disagreements"]),
        }
