"""The memory store of a simulated node, watched: every commit is checked before it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trionode.appstate.changes import Change
from trionode.appstate.documents import EventRow
from trionode.store.memory import MemoryStore

if TYPE_CHECKING:
    from trionode.node import NodeCore
    from trionode.sim.checks import Checks


class WatchedStore(MemoryStore):
    """Outlives the node's process, as a disk does; closing it only ends one life."""

    def __init__(self, node: str, checks: Checks | None) -> None:
        super().__init__()
        self.node = node
        self.core: NodeCore | None = None
        """The running process, from the moment its event log is loaded."""
        self._checks = checks

    def commit_now(self, changes: Sequence[Change]) -> None:
        checks = self._checks
        if checks is not None:
            checks.committing(self, changes)
        super().commit_now(changes)
        if checks is not None:
            checks.committed(self, changes)

    def erase(self) -> None:
        """The disk is replaced by an empty one."""
        super().__init__()

    async def aclose(self) -> None:
        """The disk stays; a killed process does not even get here."""

    def event_rows(self, ip: str | None = None) -> list[EventRow]:
        """The stored events, of one address or all."""
        return [row for row in self._events.values() if ip is None or row.ip == ip]
