"""The machine under the node: which boot this is, and whether it is going down (lifecycle.md §4, §5).

`hosting.machine.SystemMachine` reads files and asks commands; `MemoryMachine` is its twin.
"""

from __future__ import annotations

from typing import Protocol

import trio


class Machine(Protocol):
    """What the node asks its machine."""

    def boot_id(self) -> str | None:
        """Changes with every boot of the machine; None when it cannot be read."""
        ...

    async def is_going_down(self) -> bool:
        """Whether the machine, and not only this process, is being stopped."""
        ...


class MemoryMachine:
    """A machine of a simulated node; outlives its processes. `reboot` gives it another boot id."""

    def __init__(self, name: str = "machine") -> None:
        self._name = name
        self._boots = 1
        self.going_down = False

    def boot_id(self) -> str | None:
        """See `Machine.boot_id`."""
        return f"{self._name}-boot-{self._boots}"

    async def is_going_down(self) -> bool:
        """See `Machine.is_going_down`."""
        await trio.lowlevel.checkpoint()
        return self.going_down

    def reboot(self) -> None:
        """The machine comes up again."""
        self._boots += 1
        self.going_down = False
