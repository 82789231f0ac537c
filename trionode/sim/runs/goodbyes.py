"""After a goodbye of a node its apps vanish everywhere at exactly the end of their grace (events.md §6).

Each listener's own clock tells when that is. A millisecond before, its list is still what its log says,
and a millisecond after, nothing from before the goodbye is listed any more.
"""

from __future__ import annotations

import trio

from trionode.sim.invariants import actual_locations, expected_locations
from trionode.sim.node import SimNode
from trionode.sim.world import World

HEARD_S = 5.0


class Goodbyes:
    """Watches what becomes of nodes that said goodbye. `count`: lists that were seen to lose them."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self._world = world
        self._nursery = nursery
        self.count = 0

    def clocks(self) -> dict[int, int]:
        """How wrong each clock is now: one that jumps after a goodbye makes its end late or early."""
        return {node.number: node.clock.skew_ms for node in self._world.nodes}

    async def watch(self, gone: SimNode, clocks: dict[int, int] | None = None) -> None:
        """A node has said goodbye: see how everybody takes it. `clocks`: how they were when it did."""
        skews_ms = self.clocks() if clocks is None else clocks
        await trio.sleep(HEARD_S)
        for node in self._world.up():
            if node is not gone:
                self._nursery.start_soon(self._watch, node, node.starts, gone.address, skews_ms[node.number])

    async def _watch(self, node: SimNode, life: int, address: str, skew_ms: int) -> None:
        log = node.running.log
        said_ms = log.state.event_time((address, "sigterm", "sigterm"))
        listed = bool(log.index.locations(ip=address))
        if said_ms is None:
            return
        end_ms = said_ms + log.windows.sigterm_grace_ms
        before_s = (end_ms - 1 - node.clock.now_ms()) / 1000
        if before_s > 0:
            await trio.sleep(before_s)
            if self._is_same(node, life, skew_ms):
                self._compare(node, address)
            await trio.sleep(0.002)
        if not self._is_same(node, life, skew_ms):
            return
        self._compare(node, address)
        old = [row.name for row in log.index.locations(ip=address) if row.broadcasted_at_ms < said_ms]
        if old:
            what = f"still lists {old} of {address}, whose grace ended {node.clock.now_ms() - end_ms} ms ago"
            self._world.violate(node.name, what)
        self.count += listed

    def _is_same(self, node: SimNode, life: int, skew_ms: int) -> bool:
        is_there = node.is_running and not node.is_leaving
        return is_there and node.starts == life and node.clock.skew_ms == skew_ms

    def _compare(self, node: SimNode, address: str) -> None:
        log = node.running.log
        rows = node.store.event_rows(address)
        expected = expected_locations(rows, node.clock.now_ms(), address, log.windows.sigterm_grace_ms)
        actual = actual_locations(log.index.locations(ip=address))
        if actual != expected:
            what = f"at the end of a grace lists {actual} of {address}, its log gives {expected}"
            self._world.violate(node.name, what)
