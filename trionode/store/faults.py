"""Store failures on demand, for test networks only (docs/spec/testnet.md §5, the fail point; suite 14).

Composed around the registry's store when `api.test_controls` is on, and never otherwise. It touches one kind
of read: the look for payments without their message, with which every hash sync run begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from trionode.errors import StoreError
from trionode.registry.rows import HashRow
from trionode.store.registry_port import RegistryStore


class FaultyRegistryStore:
    """A store of which a test may make the next looks for missing messages fail."""

    def __init__(self, inner: RegistryStore) -> None:
        self._inner = inner
        self._failing = 0

    def fail_next(self, count: int) -> None:
        """The next `count` looks fail; 0 ends it."""
        self._failing = count

    async def hashes(self, *, missing: bool | None = None, due_at: int | None = None) -> Sequence[HashRow]:
        """See `RegistryStore.hashes`."""
        if self._failing and missing and due_at is None:
            self._failing -= 1
            raise StoreError("a test wanted this read to fail", remedy="nothing to do: it works again")
        return await self._inner.hashes(missing=missing, due_at=due_at)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def with_faults(inner: RegistryStore) -> RegistryStore:
    """`inner`, able to fail."""
    return cast("RegistryStore", FaultyRegistryStore(inner))
