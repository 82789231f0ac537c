"""Turns: whoever changes current specifications does so alone, on memory that agrees with the store.

A commit that raised may have landed all the same: its answer was lost, or a journal carried it out later.
Nobody can tell which at that moment. So after a turn that did not come to its end the next one first reads
the store again, and what turns out to be stored has its consequences then (docs/spec/registry.md §8, §10).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from trionode.registry.rows import CurrentSpec
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.store.appregistry_current import CurrentSpecs
from trionode.store.registry_port import RegistryStore

log = get_logger("registry")


class Turns:
    """One turn at a time. `stored` and `gone` are told what memory did not know of."""

    def __init__(
        self,
        store: RegistryStore,
        current: CurrentSpecs,
        counters: Counters,
        *,
        stored: Callable[[CurrentSpec], Awaitable[None]],
        gone: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._current = current
        self._counters = counters
        self._stored = stored
        self._gone = gone
        self._lock = trio.Lock()
        self._is_in_doubt = False

    @asynccontextmanager
    async def mine(self) -> AsyncIterator[None]:
        """Nobody else changes current specifications inside the block. Raises StoreError."""
        async with self._lock:
            if self._is_in_doubt:
                await self._catch_up()
            self._is_in_doubt = True
            yield
            # Only here it is certain that memory has followed: not after an error, nor when cancelled.
            self._is_in_doubt = False

    async def load(self) -> None:
        """Memory becomes what is stored, at a start of the service. Raises StoreError."""
        async with self._lock:
            if self._is_in_doubt:
                await self._catch_up()
            else:
                await self.reread()

    async def reread(self) -> None:
        """The same within a turn, without any news. Raises StoreError."""
        self._current.replace([row async for row in self._store.stream_current()])

    async def _catch_up(self) -> None:
        before = dict(self._current.by_name)
        await self.reread()
        after = dict(self._current.by_name)
        new = [row for name, row in after.items() if before.get(name) != row]
        over = [name for name in before if name not in after]
        if new or over:
            self._counters.add("registry.caught_up", len(new) + len(over))
            log.warning("memory follows what is stored", specifications=len(new), ended=len(over))
        for row in new:
            await self._stored(row)
        for name in over:
            await self._gone(name)
        self._is_in_doubt = False
