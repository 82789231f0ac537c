"""The store that fails on demand: only the look for missing messages, only as often as asked."""

from __future__ import annotations

import pytest

from trionode.errors import StoreError
from trionode.registry.rows import HashRow
from trionode.store.faults import FaultyRegistryStore
from trionode.store.registry_memory import MemoryRegistryStore


@pytest.mark.trio
async def test_the_next_looks_fail_and_nothing_else_does() -> None:
    store = FaultyRegistryStore(MemoryRegistryStore())
    row = HashRow.found("00" * 32, 5, "ab" * 32, 1)
    await store.add_hashes([row])
    store.fail_next(1)
    assert await store.hashes(due_at=5) == [row]
    assert (await store.hash_counts()).missing == 1
    with pytest.raises(StoreError):
        await store.hashes(missing=True)
    assert await store.hashes(missing=True) == [row]
