"""What the spawner remembers between rounds: apps tried, apps that failed, apps put off.

Facts: docs/spec/lifecycle.md §2, §11. Bounded and forgetful; times are Unix milliseconds handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import msgspec

TRIED_MOST = 250
FAILED_MOST = 250
DEFERRED_MOST = 1_000


class Cache:
    """Hashes remembered for a time of their own; when full the one put in first makes room."""

    def __init__(self, most: int, now_ms: Callable[[], int]) -> None:
        self._most, self._now_ms = most, now_ms
        self._until_ms: dict[str, int] = {}

    def put(self, hash: str, ttl_s: float) -> None:
        self._until_ms.pop(hash, None)
        while len(self._until_ms) >= self._most:
            del self._until_ms[next(iter(self._until_ms))]
        self._until_ms[hash] = self._now_ms() + round(ttl_s * 1000)

    def drop(self, hash: str) -> None:
        self._until_ms.pop(hash, None)

    def __contains__(self, hash: object) -> bool:
        return isinstance(hash, str) and self._until_ms.get(hash, 0) > self._now_ms()

    def hashes(self) -> Collection[str]:
        """Those still remembered."""
        now_ms = self._now_ms()
        return {hash for hash, until_ms in self._until_ms.items() if until_ms > now_ms}


class Deferred(msgspec.Struct, frozen=True):
    """An app put off. What it was chosen with is kept with it."""

    app: str
    hash: str
    required: int
    due_ms: int
    reason: str = ""


class SpawnMemory:
    """One node's memory of its rounds."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.now_ms = now_ms
        self.tried = Cache(TRIED_MOST, now_ms)
        self.failed = Cache(FAILED_MOST, now_ms)
        self.deferred: list[Deferred] = []
        self.deferred_for_peers: list[Deferred] = []
        self.was_unconfirmed = False
        self.first_round = True

    def put_off(self, entries: list[Deferred], entry: Deferred) -> None:
        """Put an app off and allow it to be tried again then."""
        entries[:] = [other for other in entries if other.app != entry.app][-DEFERRED_MOST + 1 :]
        entries.append(entry)
        self.tried.drop(entry.hash)

    def first_due(self) -> Deferred | None:
        """The entry that is due first; those put off for their peers come last."""
        now_ms = self.now_ms()
        due = (entry for entry in (*self.deferred, *self.deferred_for_peers) if entry.due_ms <= now_ms)
        return next(due, None)

    def take_due(self) -> Deferred | None:
        """The same, and forget it."""
        entry = self.first_due()
        if entry is not None:
            entries = self.deferred if entry in self.deferred else self.deferred_for_peers
            entries.remove(entry)
        return entry

    def skipped(self) -> frozenset[str]:
        """Hashes that are not to be chosen now."""
        waiting: Iterable[Deferred] = (*self.deferred, *self.deferred_for_peers)
        return frozenset({*self.tried.hashes(), *self.failed.hashes(), *(entry.hash for entry in waiting)})
