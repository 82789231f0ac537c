"""Stops that are meant to last: kept over a restart, forgotten with the app, never half changed."""

from __future__ import annotations

import pytest
import trio
from appworld import app, part
from hostworld import HostWorld

from trionode.containers.health.operatorstops import META, OperatorStops
from trionode.errors import StoreError
from trionode.hosting.port import APP_REMOVED
from trionode.runtime.bus import EventBus
from trionode.store.localapps import MemoryLocalApps


@pytest.mark.trio
async def test_they_outlive_the_process() -> None:
    store = MemoryLocalApps()
    stops = OperatorStops(store, EventBus())
    await stops.add(["web_shop", "db_shop"])
    await stops.drop(["db_shop"])
    later = OperatorStops(store, EventBus())
    async with trio.open_nursery() as nursery:
        await nursery.start(later.run)
        assert later.names == {"web_shop"}
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_an_app_that_is_removed_takes_its_stops_along(autojump_clock: object) -> None:
    bus, store = EventBus(), MemoryLocalApps()
    stops = OperatorStops(store, bus)
    async with trio.open_nursery() as nursery:
        await nursery.start(stops.run)
        await stops.add(["web_shop", "old", "web_myshop"])
        bus.publish(APP_REMOVED, {"name": "shop"})
        bus.publish(APP_REMOVED, {"name": "old"})
        await trio.sleep(1)
        assert stops.names == {"web_myshop"}
        assert await store.get_meta(META) == '["web_myshop"]'
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_what_cannot_be_written_has_not_changed() -> None:
    store = MemoryLocalApps()
    stops = OperatorStops(store, EventBus())
    store.failing.add("put_meta")
    with pytest.raises(StoreError):
        await stops.add(["shop"])
    assert stops.names == frozenset()


@pytest.mark.trio
async def test_a_stop_is_forgotten_though_the_store_fails_for_a_while(autojump_clock: object) -> None:
    """An app that is installed again must start, whatever the store did when it was removed."""
    bus, store = EventBus(), MemoryLocalApps()
    stops = OperatorStops(store, bus)
    async with trio.open_nursery() as nursery:
        await nursery.start(stops.run)
        await stops.add(["web_shop", "web_other", "web_third"])
        store.failing.add("put_meta")
        bus.publish(APP_REMOVED, {"name": "shop"})
        await trio.sleep(1)
        assert stops.names == {"web_other", "web_third"}
        bus.publish(APP_REMOVED, {"name": "other"})
        await trio.sleep(200)
        with pytest.raises(StoreError):
            await stops.add(["web_shop"])
        assert stops.names == {"web_third"}
        store.failing.clear()
        await trio.sleep(61)
        assert await store.get_meta(META) == '["web_third"]'
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_what_is_stopped_anew_is_not_forgotten_with_its_former_app(autojump_clock: object) -> None:
    bus, store = EventBus(), MemoryLocalApps()
    stops = OperatorStops(store, bus)
    async with trio.open_nursery() as nursery:
        await nursery.start(stops.run)
        await stops.add(["web_shop", "db_shop"])
        store.failing.add("put_meta")
        bus.publish(APP_REMOVED, {"name": "shop"})
        await trio.sleep(1)
        store.failing.clear()
        await stops.add(["web_shop"])
        await trio.sleep(100)
        assert stops.names == {"web_shop"}
        assert await store.get_meta(META) == '["web_shop"]'
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_broken_list_says_what_to_do() -> None:
    store = MemoryLocalApps()
    await store.put_meta(META, "{")
    with pytest.raises(StoreError) as caught:
        await OperatorStops(store, EventBus()).load()
    assert "delete" in caught.value.remedy


@pytest.mark.trio
async def test_a_stop_outlasts_what_was_planned_before_it(autojump_clock: object) -> None:
    """Both had ended by themselves: one is being started, the other is next in turn."""
    world = HostWorld()
    async with world.process() as node:
        keeps = app("keeps", part("col", image="library/worker:1"), part("db"))
        assert (await node.life.actions.install(keeps, reason="the test")).ok
        world.engine.takes_s["start"] = 20.0
        world.engine.crash("fluxcol_keeps")
        world.engine.crash("fluxdb_keeps")
        await trio.sleep(5)
        assert [world.state("fluxcol_keeps"), world.state("fluxdb_keeps")] == ["exited", "exited"]
        # as the API does it
        await node.stops.add(["col_keeps", "db_keeps"])
        for container in ("fluxdb_keeps", "fluxcol_keeps"):
            await node.host.stop(container, 9)
        await trio.sleep(3 * 3600)
        assert [world.state("fluxcol_keeps"), world.state("fluxdb_keeps")] == ["exited", "exited"]
        assert world.news.removals == []
        # and back
        await node.stops.drop(["db_keeps"])
        await node.host.start("db_keeps")
        assert world.state("fluxdb_keeps") == "running"


@pytest.mark.trio
async def test_nobody_starts_what_was_stopped_on_purpose(autojump_clock: object) -> None:
    """A change of address restarts all apps, say."""
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(app("keeps", part("db")), reason="the test")).ok
        await node.stops.add(["db_keeps"])
        await node.host.stop("fluxdb_keeps", 9)
        await node.host.start("db_keeps")
        assert world.state("fluxdb_keeps") == "exited"
