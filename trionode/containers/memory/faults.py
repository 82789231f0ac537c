"""What can go wrong with the engine twin, by order of a test or the simulator.

An error is raised before the operation took effect, or after it (`after`: the answer is lost).
"""

from __future__ import annotations

import math
from collections import Counter, deque

import msgspec
import trio

from trionode.containers.engine import EngineError, EngineFull, EngineUnreachable
from trionode.containers.memory.events import EventHub

ACTIONS_KEPT = 10_000
"""The record of a long run keeps the last ones only."""
READS = frozenset(
    {
        "info",
        "events",
        "containers",
        "inspect",
        "top",
        "changes",
        "logs",
        "stats",
        "networks",
        "network",
        "images",
        "image",
        "volumes",
    }
)
DISK_WRITERS = frozenset({"pull", "create"})


class PlannedFault(msgspec.Struct):
    """The next `times` calls of an operation fail. `target` "" is any."""

    operation: str
    target: str
    error: EngineError
    times: int
    after: bool


class Faults:
    """The faults of one engine, and the record of what was asked of it."""

    def __init__(self, hub: EventHub) -> None:
        self.hub = hub
        self.failing: set[tuple[str, str]] = set()
        """(operation, target) that fail until taken out; "*" stands for any target."""
        self.planned: list[PlannedFault] = []
        self.hanging = False
        """Nothing is answered any more."""
        self.disk_full = False
        """Nothing can be pulled or created."""
        self.takes_s: dict[str, float] = {}
        """How long an operation takes; no time at all by default."""
        self.actions: deque[tuple[str, str]] = deque(maxlen=ACTIONS_KEPT)
        """Calls that change something, the last ones: (operation, target)."""
        self.calls: Counter[str] = Counter()
        """How often each operation was called, reading ones too."""

    @property
    def unreachable(self) -> bool:
        """Nobody listens at the engine's socket; its containers run on. Ended: listeners hear `lost`."""
        return self.hub.away

    @unreachable.setter
    def unreachable(self, value: bool) -> None:
        self.hub.away = value

    def fail_next(
        self,
        operation: str,
        error: EngineError | None = None,
        *,
        times: int = 1,
        target: str = "",
        after: bool = False,
    ) -> None:
        """Have the next calls fail; `after`: what they ask for happens, and its answer is lost."""
        self.planned.append(PlannedFault(operation, target, error or refusal(operation), times, after))

    async def before(self, operation: str, target: str = "", *, at_most_s: float = math.inf) -> None:
        """A call has arrived: note it, take the time it takes, fail if so ordered."""
        self.calls[operation] += 1
        if operation not in READS:
            self.actions.append((operation, target))
        self._answers()
        takes_s = self.takes_s.get(operation) if self.takes_s else None
        if takes_s:
            await trio.sleep(min(takes_s, at_most_s))
        else:
            await trio.lowlevel.checkpoint()
        if self.hanging:
            await trio.sleep_forever()
        self._answers()
        if self.failing and ((operation, target) in self.failing or (operation, "*") in self.failing):
            raise refusal(operation, target)
        if self.disk_full and operation in DISK_WRITERS:
            raise EngineFull(
                f"cannot {operation} {target}: no space left on device",
                remedy="free disk space",
                status=500,
            )
        self._strike(operation, target, after=False)

    def done(self, operation: str, target: str = "") -> None:
        """The call took effect: fail now if its answer is to be lost."""
        self._strike(operation, target, after=True)

    def _answers(self) -> None:
        if self.hub.away:
            raise EngineUnreachable(
                "the container engine does not answer", remedy="is the engine's service running?"
            )

    def _strike(self, operation: str, target: str, *, after: bool) -> None:
        for fault in self.planned:
            if fault.operation == operation and fault.after == after and fault.target in ("", target):
                fault.times -= 1
                if fault.times <= 0:
                    self.planned.remove(fault)
                raise fault.error


def refusal(operation: str, target: str = "") -> EngineError:
    """The error of an operation that was told to fail."""
    return EngineError(f"cannot {operation} {target}".strip(), remedy="it was told to fail", status=500)
