"""Copying between stores: whole, cut off and started again, and never over somebody else's data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from nodedata import NOW_MS, fill, side

from trionode.appstate.changes import Change, DeleteLocation, PutLocation
from trionode.appstate.documents import LocationRow
from trionode.containers.health import holds, operatorstops, tampering
from trionode.containers.install import records
from trionode.containers.spawning import testedports
from trionode.errors import StartupError, StoreError
from trionode.hosting import addresswatch, heartbeat
from trionode.registry.changes import CommitReport, RegistryChange
from trionode.registry.rows import CurrentSpec, HashRow
from trionode.store import copying
from trionode.store.copying import compare, copy
from trionode.store.copymark import MARKER, refuse_unfinished
from trionode.store.localapps import LOCAL_META, MemoryLocalApps
from trionode.store.memory import MemoryStore
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.sync import hashsync

pytestmark = pytest.mark.trio
SOURCES = Path(copying.__file__).parents[1]


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
    assert await target.log.get_meta(MARKER) == "finished"


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
    await target.log.put_meta(MARKER, "unfinished")
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


class ClosingRegistry(MemoryRegistryStore):
    """A registry that dies at its nth commit."""

    left = 0

    async def commit(self, changes: Sequence[RegistryChange]) -> CommitReport:
        self.left -= 1
        if self.left < 0:
            raise StoreError("the power went out")
        return await super().commit(changes)


async def test_cut_off_at_every_step_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PAGE", 7)
    source = side("source")
    await fill(source)
    step = 0
    while True:
        registry = ClosingRegistry()
        registry.left = step
        target = msgspec.structs.replace(side("target"), registry=registry)
        try:
            compared = await copy(source, target, now_ms=NOW_MS, progress=silent)
        except StoreError:
            registry.left = 1000
            compared = await copy(source, target, now_ms=NOW_MS, progress=silent)
            assert all(kind.is_equal for kind in compared), (step, compared)
            step += 1
            continue
        assert all(kind.is_equal for kind in compared), compared
        break
    assert step > 15


async def test_rows_of_installed_apps_are_copied_to_the_end_after_an_interruption() -> None:
    source, target = side("source"), side("target")
    await fill(source)
    assert isinstance(target.local, MemoryLocalApps)
    for call in ("put", "put_meta"):
        target.local.failing = {call}
        with pytest.raises(StoreError):
            await copy(source, target, now_ms=NOW_MS, progress=silent)
    target.local.failing = set()
    compared = await copy(source, target, now_ms=NOW_MS, progress=silent)
    assert all(kind.is_equal for kind in compared), compared


async def test_apps_removed_at_the_source_between_two_attempts_go() -> None:
    source, target = side("source"), side("target")
    await fill(source)
    assert isinstance(target.local, MemoryLocalApps)
    assert source.local is not None
    target.local.failing = {"put_meta"}
    with pytest.raises(StoreError):
        await copy(source, target, now_ms=NOW_MS, progress=silent)
    target.local.failing = set()
    (row, *_) = await source.local.rows()
    await source.local.delete(row.name)
    compared = await copy(source, target, now_ms=NOW_MS, progress=silent)
    assert all(kind.is_equal for kind in compared), compared


@pytest.mark.parametrize("what", ["row", "value", "heartbeat"])
async def test_an_unfinished_copy_on_which_a_node_ran_is_left_alone(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "PAGE", 7)
    source, target = side("source"), side("target")
    await fill(source)
    store = ClosingStore(4)
    target = msgspec.structs.replace(target, log=store)
    with pytest.raises(StoreError, match="power"):
        await copy(source, target, now_ms=NOW_MS, progress=silent)
    store.left = 100
    assert target.local is not None
    if what == "row":
        await target.local.put(CurrentSpec("Mine", '{"name":"Mine"}', "h", 5))
    elif what == "value":
        await target.local.put_meta("installRecords", '[{"app":"Mine"}]')
    else:
        await source.log.put_meta("heartbeat", f'{{"lastAlive":{NOW_MS}}}')
        await store.put_meta("heartbeat", f'{{"lastAlive":{NOW_MS + 1}}}')
    before = await store.counts(), await target.local.rows()
    told = {"row": "Mine", "value": "installRecords", "heartbeat": "heartbeat"}[what]
    with pytest.raises(StoreError, match=f"a node has run: .*{told}"):
        await copy(source, target, now_ms=NOW_MS, progress=silent)
    assert (await store.counts(), await target.local.rows()) == before


async def test_no_node_starts_on_half_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PAGE", 7)
    source, target = side("source"), side("target")
    await fill(source)
    await refuse_unfinished(target.log)
    store = ClosingStore(2)
    target = msgspec.structs.replace(target, log=store)
    with pytest.raises(StoreError, match="power"):
        await copy(source, target, now_ms=NOW_MS, progress=silent)
    with pytest.raises(StartupError, match="unfinished copy") as caught:
        await refuse_unfinished(store)
    assert "trionode store copy" in caught.value.remedy
    # Also one of an older version, whose mark says no more.
    await store.put_meta(MARKER, "unfinished")
    with pytest.raises(StartupError):
        await refuse_unfinished(store)
    store.left = 100
    await copy(source, target, now_ms=NOW_MS, progress=silent)
    await refuse_unfinished(store)


async def test_the_named_values_are_those_that_exist() -> None:
    assert set(copying.EVENT_META) == {heartbeat.META_KEY, addresswatch.META_KEY}
    assert set(copying.REGISTRY_META) == {hashsync.VERSION_MARKER}
    kept = {records.KEY, holds.META, operatorstops.META, tampering.KEY, testedports.META}
    assert set(LOCAL_META) == kept
    # Whoever begins to keep another value is to say here with what it moves.
    keepers = {
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if ".put_meta(" in path.read_text() and path.parent.name not in ("store", "mongo", "sim")
    }
    modules = (heartbeat, addresswatch, hashsync, records, holds, operatorstops, tampering, testedports)
    assert keepers == {f"{module.__name__.replace('.', '/')}.py".partition("/")[2] for module in modules} | {
        "cli/store.py"
    }
