"""Stops that are meant to last: kept over a restart, forgotten with the app, never half changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from trionode.containers.operatorstops import MemoryStops, OperatorStops, StopsOnDisk
from trionode.errors import HostError
from trionode.hosting.port import APP_REMOVED
from trionode.runtime.bus import EventBus


@pytest.mark.trio
async def test_they_outlive_the_process(tmp_path: Path) -> None:
    file = StopsOnDisk(tmp_path / "stops.json")
    stops = OperatorStops(file, EventBus())
    await stops.add(["web_shop", "db_shop"])
    await stops.drop(["db_shop"])
    later = OperatorStops(file, EventBus())
    async with trio.open_nursery() as nursery:
        await nursery.start(later.run)
        assert later.names == {"web_shop"}
        nursery.cancel_scope.cancel()
    assert await trio.to_thread.run_sync(os.listdir, tmp_path) == ["stops.json"]


@pytest.mark.trio
async def test_an_app_that_is_removed_takes_its_stops_along(autojump_clock: object) -> None:
    bus, file = EventBus(), MemoryStops()
    stops = OperatorStops(file, bus)
    async with trio.open_nursery() as nursery:
        await nursery.start(stops.run)
        await stops.add(["web_shop", "old", "web_myshop"])
        bus.publish(APP_REMOVED, {"name": "shop"})
        bus.publish(APP_REMOVED, {"name": "old"})
        await trio.sleep(1)
        assert stops.names == {"web_myshop"}
        assert file.names == ("web_myshop",)
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_what_cannot_be_written_has_not_changed(tmp_path: Path) -> None:
    stops = OperatorStops(StopsOnDisk(tmp_path / "no" / "stops.json"), EventBus())
    with pytest.raises(HostError):
        await stops.add(["shop"])
    assert stops.names == frozenset()


@pytest.mark.trio
async def test_a_broken_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "stops.json"
    path.write_text("{")
    with pytest.raises(HostError) as caught:
        await StopsOnDisk(path).read()
    assert "delete it" in caught.value.remedy
