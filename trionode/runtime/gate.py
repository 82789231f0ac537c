"""Gate: a reusable condition that tasks wait for (docs/spec/lifecycle.md §2 AsyncGate).

Unlike the original, a released waiter checks again: if the gate was closed between its release
and its turn, it goes on waiting.
"""

from __future__ import annotations

import trio


class Gate:
    """Open or closed; `wait` returns only in a moment when the gate is open."""

    def __init__(self, *, is_open: bool = False) -> None:
        self._event = trio.Event()
        if is_open:
            self._event.set()

    @property
    def is_open(self) -> bool:
        return self._event.is_set()

    def open(self) -> None:
        """Release every waiter; idempotent."""
        self._event.set()

    def close(self) -> None:
        """Make later (and not yet resumed) waiters wait for the next `open`; idempotent."""
        if self._event.is_set():
            self._event = trio.Event()

    def set(self, is_open: bool) -> None:
        """Open or close according to `is_open`."""
        if is_open:
            self.open()
        else:
            self.close()

    async def wait(self) -> None:
        """Wait until the gate is open."""
        await trio.lowlevel.checkpoint()
        while not self._event.is_set():
            await self._event.wait()
