"""Temporary messages as a node keeps them: rows in the store, hashes and deadlines in memory.

They live an hour from their reception (docs/spec/registry.md §1, §2) and expire at the exact moment.
"""

from __future__ import annotations

import heapq

import trio

from trionode.registry.changes import DeleteTemporaries, PutTemporary, RegistryChange
from trionode.registry.rows import TemporaryRow
from trionode.registry.temporary import Candidate
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.store.registry_port import RegistryStore

MOST_MESSAGES = 100_000
"""Ours: beyond it new ones are refused, so that nobody can fill our disk with unpaid messages."""


class Temporaries:
    """The unpaid messages. `run` lets them expire."""

    def __init__(self, store: RegistryStore, clock: WallClock, counters: Counters, lifetime_s: float) -> None:
        self._store = store
        self._clock = clock
        self._counters = counters
        self._lifetime_ms = round(lifetime_s * 1000)
        self._expire_at_ms: dict[str, int] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._moved = trio.Event()

    def __len__(self) -> int:
        return len(self._expire_at_ms)

    def knows(self, hash_: str) -> bool:
        """Whether the message of this hash is here and alive."""
        return self._expire_at_ms.get(hash_, 0) > self._clock.now_ms()

    async def row(self, hash_: str) -> TemporaryRow | None:
        """The message of this hash, if it is here and alive."""
        return await self._store.temporary(hash_) if self.knows(hash_) else None

    async def put(self, candidate: Candidate) -> bool:
        """Keep a message from now on; False when it is here already, or when there are too many."""
        hash_ = candidate.message.hash
        if self.knows(hash_):
            return False
        if len(self._expire_at_ms) >= MOST_MESSAGES:
            self._counters.add("registry.temporary.too_many")
            return False
        now_ms = self._clock.now_ms()
        row = candidate.temporary_row(now_ms, now_ms + self._lifetime_ms)
        # known from this moment on: a copy that comes while it is written must not come through too
        self._add(row)
        stored = False
        try:
            await self._store.commit([PutTemporary(row)])
            stored = True
        finally:
            if not stored:
                self._expire_at_ms.pop(hash_, None)
        return True

    def _add(self, row: TemporaryRow) -> None:
        self._expire_at_ms[row.hash] = row.expire_at_ms
        heapq.heappush(self._deadlines, (row.expire_at_ms, row.hash))
        if self._deadlines[0][1] == row.hash:
            self._moved.set()

    async def load(self) -> None:
        """Take over what is stored; what expired meanwhile goes."""
        self._expire_at_ms.clear()
        self._deadlines.clear()
        for row in await self._store.temporaries():
            self._add(row)
        await self._expire()

    async def run(self) -> None:
        """Let messages expire until cancelled. Raises StoreError."""
        while True:
            self._moved = trio.Event()
            if not self._deadlines:
                await self._moved.wait()
                continue
            with trio.move_on_after(max(0.0, (self._deadlines[0][0] - self._clock.now_ms()) / 1000)):
                await self._moved.wait()
            await self._expire()

    async def _expire(self) -> None:
        now_ms = self._clock.now_ms()
        gone: list[str] = []
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            expire_at_ms, hash_ = heapq.heappop(self._deadlines)
            # Not in memory: it could not be written, or so it seemed; then it may be stored all the same.
            if self._expire_at_ms.get(hash_, expire_at_ms) == expire_at_ms:
                self._expire_at_ms.pop(hash_, None)
                gone.append(hash_)
        if gone:
            changes: list[RegistryChange] = [DeleteTemporaries(tuple(gone))]
            await self._store.commit(changes)
            self._counters.add("registry.temporary.expired", len(gone))
