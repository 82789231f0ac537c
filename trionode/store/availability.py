"""Availability: whether the store of a node can be read and written, since when not, why, and what to do.

What is lost is kept part by part (a file; connecting, reading, writing), so that a success elsewhere does
not hide a trouble that goes on. An operator reads it in `trionode status` (docs/storage.md, "When the disk
is full").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import trio

from trionode.errors import StoreError
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

Kind = Literal["SQLite", "MongoDB"]
Listener = Callable[[bool], None]

log = get_logger("store")


class _Loss(msgspec.Struct, frozen=True):
    since_s: float
    problem: StoreError
    reads_too: bool


class Availability:
    """What is known of one store. `label`: where it is, for messages; without user and password."""

    def __init__(self, kind: Kind, label: str, counters: Counters | None = None) -> None:
        self.kind = kind
        self.label = label
        self.counters = counters if counters is not None else Counters()
        self._prefix = f"store.{'mongo' if kind == 'MongoDB' else 'sqlite'}"
        self._losses: dict[str, _Loss] = {}
        self._has_answered = False
        self._told_well = False
        self._listeners: list[Listener] = []

    @property
    def is_connected(self) -> bool:
        """Whether everything works, as far as was tried."""
        return self._has_answered and not self._losses

    @property
    def is_readable(self) -> bool:
        """Whether it makes sense to ask it something."""
        return self._has_answered and not any(loss.reads_too for loss in self._losses.values())

    @property
    def lost(self) -> tuple[str, ...]:
        """The parts that are lost."""
        return tuple(self._losses)

    def count(self, what: str) -> None:
        self.counters.add(f"{self._prefix}.{what}")

    def is_lost(self, part: str, problem: StoreError, *, reads_too: bool = False) -> None:
        """`part` does not work now; since when is kept from the first time."""
        was_well = not self._losses
        known = self._losses.get(part)
        since_s = trio.current_time() if known is None else known.since_s
        self._losses[part] = _Loss(since_s, problem, reads_too)
        if was_well:
            self.count("losses")
            log.error("the store is away", store=self._name, problem=problem.message, remedy=problem.remedy)
            self._tell(False)

    def answered(self, *parts: str) -> None:
        """These parts work."""
        for part in parts:
            self._losses.pop(part, None)
        if self._losses or self._told_well:
            return
        self._has_answered = True
        log.info("the store answers", store=self._name)
        self._tell(True)

    def watch(self, listener: Listener) -> None:
        """Tell `listener` (in the node's own thread) when the store is lost (False) and back (True)."""
        self._listeners.append(listener)

    def report_to(self, counters: Counters, bus: EventBus) -> None:
        """From now on count there, and publish `store:connection` {connected, server, problem}."""
        for name, amount in self.counters.snapshot().items():
            counters.add(name, amount)
        self.counters = counters

        def publish(is_connected: bool) -> None:
            worst = self._worst
            problem = None if worst is None else worst.problem.message
            bus.publish(
                "store:connection", {"connected": is_connected, "server": self.label, "problem": problem}
            )

        self.watch(publish)

    def document(self) -> dict[str, Any]:
        """For the status of the node."""
        worst = self._worst
        return {
            "kind": self.kind,
            "server": self.label,
            "connected": self.is_connected,
            "readable": self.is_readable,
            "lostForS": None if worst is None else round(trio.current_time() - worst.since_s, 1),
            "problem": None if worst is None else worst.problem.message,
            "remedy": None if worst is None else worst.problem.remedy,
        }

    @property
    def _name(self) -> str:
        return f"{self.kind} {'in' if self.kind == 'SQLite' else 'at'} {self.label}"

    @property
    def _worst(self) -> _Loss | None:
        """What has been lost for the longest time."""
        return min(self._losses.values(), key=lambda loss: loss.since_s, default=None)

    def _tell(self, is_connected: bool) -> None:
        self._told_well = is_connected
        for listener in self._listeners:
            listener(is_connected)
