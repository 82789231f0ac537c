"""Copying between stores: whole, cut off and started again, and never over somebody else's data."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from nodedata import NOW_MS, fill, side

from trionode.appstate.changes import Change, DeleteLocation, PutLocation
from trionode.appstate.documents import LocationRow
from trionode.errors import StoreError
from trionode.hosting import addresswatch, heartbeat
from trionode.registry.rows import HashRow
from trionode.store import copying
from trionode.store.copying import compare, copy
from trionode.store.memory import MemoryStore
from trionode.sync import hashsync

pytestmark = pytest.mark.trio


def silent(kind: str, done: int, total: int) -> None:
    assert done <= total


class ClosingStore(MemoryStore):
    """A store that dies at its nth commit."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    async def commit(self, changes: Sequence[Change]) -> None:
        self.left -= 1
        if self.left < 0:
            raise StoreError("the power went out")
        await super().commit(changes)


async def test_all_of_it_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PAGE", 7)
    source, target = side("source"), side("target")
    await fill(source)
    told: list[tuple[str, int, int]] = []
    compared = await copy(source, target, now_ms=NOW_MS, progress=lambda *said: told.append(said))
    assert all(kind.is_equal for kind in compared), compared
    assert {kind.kind: kind.source for kind in compared} == {
        "events": 41,
        "locations": 40,
        "installing": 3,
        "install_errors": 2,
        "signed_copies": 5,
        "hashes": 50,
        "permanents": 40,
        "temporaries": 3,
        "current": 10,
        "chain_messages": 2,
        "block_hashes": 5,
        "values": 4,
        "local_apps": 2,
    }
    assert told[-1] == ("specifications", 10, 10)
    assert await target.log.get_meta(copying.MARKER) == "finished"


@pytest.mark.parametrize("step", range(1, 14, 3))
async def test_cut_off_and_started_again(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PAGE", 7)
    source = side("source")
    await fill(source)
    store = ClosingStore(step)
    target = msgspec.structs.replace(side("target"), log=store)
    with pytest.raises(StoreError, match="power"):
        await copy(source, target, now_ms=NOW_MS, progress=silent)
    store.left = 100
    before = await store.counts()
    compared = await copy(source, target, now_ms=NOW_MS, progress=silent)
    assert all(kind.is_equal for kind in compared), compared
    assert sum(before.values()) == 7 * step
    assert store.left >= 100 - 14 + step - 1, "what arrived is not written again"


async def test_what_changed_at_the_source_meanwhile_is_right_in_the_end() -> None:
    source, target = side("source"), side("target")
    await fill(source)
    await target.log.put_meta(copying.MARKER, "unfinished")
    row = LocationRow(99, "Old", "h", "9.9.9.9", 1, NOW_MS * 2, None, None, None)
    await target.log.commit([PutLocation(row)])
    first = (await source.registry.hashes())[0]
    await target.registry.add_hashes([msgspec.structs.replace(first, sync_attempts=7)])
    compared = await copy(source, target, now_ms=NOW_MS, progress=silent)
    assert all(kind.is_equal for kind in compared), compared


async def test_a_database_with_a_life_of_its_own_is_left_alone() -> None:
    source, target = side("source"), side("target")
    await target.registry.add_hashes([HashRow.found("tx", 1, "ab" * 32, 5)])
    with pytest.raises(StoreError, match="target is not empty: it holds 1 hashes"):
        await copy(source, target, now_ms=NOW_MS, progress=silent)
    # Also one that a finished copy filled.
    await fill(source)
    other = side("other")
    await copy(source, other, now_ms=NOW_MS, progress=silent)
    with pytest.raises(StoreError, match="not empty"):
        await copy(source, other, now_ms=NOW_MS, progress=silent)


async def test_a_difference_is_found() -> None:
    source, target = side("source"), side("target")
    await fill(source)
    await copy(source, target, now_ms=NOW_MS, progress=silent)
    (row, *_) = [row async for row in target.log.load() if isinstance(row, LocationRow)]
    await target.log.commit(
        [
            DeleteLocation(row.row_id, row.name, row.ip),
            PutLocation(msgspec.structs.replace(row, os_uptime=float(row.os_uptime or 0))),
        ]
    )
    different = [kind.kind for kind in await compare(source, target, now_ms=NOW_MS) if not kind.is_equal]
    assert different == ["locations"]


async def test_the_named_values_are_those_that_exist() -> None:
    assert set(copying.EVENT_META) == {heartbeat.META_KEY, addresswatch.META_KEY}
    assert set(copying.REGISTRY_META) == {hashsync.VERSION_MARKER}
