"""A journal of all events of a world, for stories that wait for what comes after a certain moment.

A wait begins at a mark: what happened before it can never fulfil it (docs/spec/testnet.md §9.1).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import msgspec

from trionode.runtime.bus import Event
from trionode.sim.node import SimNode
from trionode.sim.scenario import ScenarioError
from trionode.sim.world import World


class Entry(msgspec.Struct, frozen=True):
    """One event of one node."""

    at_s: float
    node: int
    name: str
    data: dict[str, Any]


class Journal:
    """Every event of every node from now on, in order."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.entries: list[Entry] = []
        self._places: dict[tuple[int, str], list[int]] = {}
        world.on_event.append(self._write)

    def _write(self, node: SimNode, event: Event) -> None:
        self._places.setdefault((node.number, event.name), []).append(len(self.entries))
        self.entries.append(Entry(self._world.now_s, node.number, event.name, dict(event.data)))

    def mark(self) -> int:
        """The present moment."""
        return len(self.entries)

    def found(self, node: SimNode, name: str, after: int, /, **fields: Any) -> list[int]:
        """Where the events of this kind stand that came after the mark."""
        places = self._places.get((node.number, name), [])
        return [
            place
            for place in places[bisect_left(places, after) :]
            if all(self.entries[place].data.get(field) == value for field, value in fields.items())
        ]

    async def next(self, node: SimNode, name: str, within_s: float, /, *, after: int, **fields: Any) -> int:
        """Wait for the first such event after the mark; where it stands."""
        wanted = " ".join([name, *(f"{field}={value}" for field, value in fields.items())])
        await self._world.until(
            lambda: bool(self.found(node, name, after, **fields)), within_s, f"{node.name}: {wanted}"
        )
        return self.found(node, name, after, **fields)[0]

    async def anywhere(self, name: str, within_s: float, /, *, after: int, **fields: Any) -> SimNode:
        """Wait for the first such event of any node after the mark; that node."""
        world = self._world
        wanted = " ".join([name, *(f"{field}={value}" for field, value in fields.items())])

        def there() -> SimNode | None:
            return next((node for node in world.nodes if self.found(node, name, after, **fields)), None)

        await world.until(lambda: there() is not None, within_s, f"a node tells {wanted}")
        found = there()
        assert found is not None
        return found

    async def phase(self, node: SimNode, phase: str, within_s: float, *, after: int) -> int:
        """Wait until the node enters a phase."""
        return await self.next(node, "orchestrator:stateChanged", within_s, after=after, to=phase)

    def phases(self, node: SimNode, after: int = 0) -> list[tuple[str, str]]:
        """The changes of phase of a node after the mark."""
        return [
            (self.entries[place].data["from"], self.entries[place].data["to"])
            for place in self.found(node, "orchestrator:stateChanged", after)
        ]


def check(holds: bool, otherwise: str) -> None:
    """Raises ScenarioError with what is wrong."""
    if not holds:
        raise ScenarioError(otherwise)
