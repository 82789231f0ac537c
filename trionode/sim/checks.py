"""The invariants of one world, checked while it runs: cheap after every commit, whole at intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import trio

from trionode.appstate.changes import Change, DeleteEvent, PutEvent
from trionode.sim.invariants import RelayCount, StoredContent, Violate, actual_locations, expected_locations

if TYPE_CHECKING:
    from trionode.sim.node import SimNode
    from trionode.sim.store import WatchedStore

WHOLE_CHECK_S = 600.0
FORBIDDEN_COUNTERS = ("peers.crashed", "unforeseen.")
"""Counted where the node survives its own defect; in the simulator each of them ends the run. Beginnings."""


class Checks:
    """Hooks for stores and network. `count` is how many single checks were made."""

    def __init__(
        self,
        key_of: Callable[[str], str | None],
        name_of: Callable[[str], str | None],
        violate: Violate,
    ) -> None:
        self._violate = violate
        self._content = StoredContent(key_of, violate)
        self._indexes = 0
        self.relays = RelayCount(name_of, violate)

    @property
    def count(self) -> int:
        return self._content.checked + self._indexes + self.relays.count

    def committing(self, store: WatchedStore, changes: Sequence[Change]) -> None:
        """A node is about to commit: is the content right?"""
        self._content.check(store.node, changes)

    def committed(self, store: WatchedStore, changes: Sequence[Change]) -> None:
        """It has committed, and folded the changes in before: compare the addresses they touch."""
        if store.core is None:
            return
        touched: dict[str, None] = {}
        for change in changes:
            if isinstance(change, PutEvent):
                touched[change.row.ip] = None
            elif isinstance(change, DeleteEvent):
                touched[change.key[0]] = None
        for ip in touched:
            self._compare(store, ip)

    async def run(self, nodes: Iterable[SimNode]) -> None:
        """Compare everything at intervals, until cancelled."""
        while True:
            await trio.sleep(WHOLE_CHECK_S)
            self.whole(nodes)

    def whole(self, nodes: Iterable[SimNode]) -> None:
        """All addresses of all running nodes, and that no node has survived a crash of its own."""
        for node in nodes:
            core = node.core
            if core is None:
                continue
            self._compare(node.store, None)
            for beginning in FORBIDDEN_COUNTERS:
                for name, count in core.counters.snapshot(beginning).items():
                    self._violate(node.name, f"counted {name} = {count}")

    def _compare(self, store: WatchedStore, ip: str | None) -> None:
        core = store.core
        if core is None:
            return
        self._indexes += 1
        log = core.log
        now_ms = log.index.now_ms
        expected = expected_locations(store.event_rows(ip), now_ms, ip, log.windows.sigterm_grace_ms)
        actual = actual_locations(log.index.locations(ip=ip))
        if expected != actual:
            where = ip if ip is not None else "all addresses"
            self._violate(
                store.node,
                f"the index of {where} lists {actual}, a fold of the stored log gives {expected}",
            )
