"""What apps have on this machine, noted and kept (trionode/containers/records.py)."""

from __future__ import annotations

import pytest
import trio

from trionode.containers.install.records import KEY, AppRecord, InstallRecords, PartRecord
from trionode.errors import StoreError
from trionode.store.localapps import MemoryLocalApps

pytestmark = pytest.mark.trio

WEB = PartRecord("web_shop", "library/web:1", (31000,))


class SlowStore(MemoryLocalApps):
    """A store that takes its time to write."""

    async def put_meta(self, key: str, value: str) -> None:
        await trio.sleep(1)
        await super().put_meta(key, value)


async def test_they_outlive_the_process() -> None:
    store = MemoryLocalApps()
    records = InstallRecords(store)
    await records.put(AppRecord("shop", "installing", (WEB,)))
    await records.put(AppRecord("base", "installed"))
    await records.enter("shop", "removing")
    await records.enter("nobody", "removing")
    later = InstallRecords(store)
    await later.load()
    assert later.get("shop") == AppRecord("shop", "removing", (WEB,))
    assert [record.app for record in later.unfinished()] == ["shop"]
    await later.forget("shop")
    await later.forget("shop")
    assert [record.app for record in later.all()] == ["base"]


async def test_what_cannot_be_stored_did_not_happen() -> None:
    store = MemoryLocalApps()
    records = InstallRecords(store)
    store.failing.add("put_meta")
    with pytest.raises(StoreError):
        await records.put(AppRecord("shop", "installing"))
    assert records.all() == ()


async def test_changes_side_by_side_do_not_undo_each_other(autojump_clock: trio.abc.Clock) -> None:
    store = SlowStore()
    records = InstallRecords(store)
    async with trio.open_nursery() as nursery:
        for name in ("a", "b", "c"):
            nursery.start_soon(records.put, AppRecord(name, "installing"))
    later = InstallRecords(store)
    await later.load()
    assert {record.app for record in later.all()} == {record.app for record in records.all()} == {*"abc"}


async def test_damaged_records_are_begun_anew() -> None:
    store = MemoryLocalApps()
    await store.put_meta(KEY, "{nonsense")
    records = InstallRecords(store)
    await records.load()
    assert records.all() == ()
