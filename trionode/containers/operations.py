"""What is being done to apps here, and what has to be let alone meanwhile (lifecycle.md §12, §15, §16).

One operation at a time: an install, a removal, a redeploy. Others refuse, wait or pass by; a removal by
force goes ahead (docs/spec/api.md §8.2). Backups and restores hold apps back.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from trionode.errors import HostError


class Work(enum.Enum):
    """What an operation does."""

    INSTALL = "installation"
    REMOVE = "removal"
    SOFT_REDEPLOY = "soft redeploy"
    HARD_REDEPLOY = "hard redeploy"
    RECREATE = "recreation"


class Operation(msgspec.Struct, frozen=True, eq=False):
    """One under way."""

    work: Work
    app: str


class Busy(HostError):
    """Something else is being done to apps right now."""

    code = "busy"

    def __init__(self, under_way: Operation) -> None:
        super().__init__(
            f"another operation is in progress: {under_way.work.value} of {under_way.app}",
            remedy="try again in some minutes",
        )


class Operations:
    """The operations of one node."""

    def __init__(self) -> None:
        self._under_way: list[Operation] = []
        self._held: dict[str, None] = {}
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever something begins or ends here; it must be quick and must not raise."""
        self._listeners.append(listener)

    @property
    def current(self) -> Operation | None:
        """The one that began last, None when nothing is done."""
        return self._under_way[-1] if self._under_way else None

    @property
    def is_busy(self) -> bool:
        return bool(self._under_way)

    @property
    def under_way(self) -> tuple[Operation, ...]:
        """All of them: more than one while an app is removed by force."""
        return tuple(self._under_way)

    def names(self) -> frozenset[str]:
        """Apps something is being done to: they count as here until it is over."""
        return frozenset(operation.app for operation in self._under_way)

    @contextmanager
    def doing(self, work: Work, app: str, *, beside: bool = False) -> Iterator[None]:
        """Do it within the block. Raises Busy when another is under way and it is not `beside` that one."""
        if self._under_way and not beside:
            raise Busy(self._under_way[-1])
        operation = Operation(work, app)
        self._under_way.append(operation)
        self._tell()
        try:
            yield
        finally:
            self._under_way.remove(operation)
            self._tell()

    @property
    def held(self) -> frozenset[str]:
        """Apps and components (identifiers) a backup or restore works on."""
        return frozenset(self._held)

    @contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """A backup or restore works on an app or a component within the block."""
        self._held[name] = None
        self._tell()
        try:
            yield
        finally:
            self._held.pop(name, None)
            self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
