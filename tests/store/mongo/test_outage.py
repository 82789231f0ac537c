"""What the event log makes of a database that goes away, comes back, or is slow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from faultproxy import FaultProxy, fault_proxy
from mongohaste import without_a_server
from mongorows import AT_MS, quick
from mongoserver import Databases
from rig import running_log

from trionode.appstate.documents import EventRow
from trionode.errors import StoreError
from trionode.runtime.clock import VirtualClock
from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.events import MongoStore

pytestmark = [pytest.mark.trio, pytest.mark.process]


@pytest.fixture(autouse=True)
def ahead_of_every_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has expired the server itself deletes, once a minute."""
    monkeypatch.setattr(VirtualClock, "now_ms", lambda self: AT_MS)


@pytest.fixture
def proxy(mongo: Databases) -> Iterator[FaultProxy]:
    with fault_proxy(mongo.server.host, mongo.server.port) as made:
        yield made


async def test_messages_of_an_outage_are_told_when_they_are_stored(
    mongo: Databases, proxy: FaultProxy
) -> None:
    settings = quick(mongo.server.url_at(proxy.host, proxy.port), mongo.prefix, mongo_retry_s=120.0)
    async with open_mongo(settings) as server:
        store = MongoStore(server)
        await store.open()
        lost = trio.Event()
        server.watch(lambda is_connected: None if is_connected else lost.set())
        async with running_log(store) as rig:
            await rig.log.ingest(rig.running("AppA"))
            proxy.down()
            async with trio.open_nursery() as nursery:
                with without_a_server(server):
                    for number in range(3):
                        nursery.start_soon(rig.log.ingest, rig.running("AppB", ip=f"2.2.2.{number}"))
                    await lost.wait()
                    # Known here, but nothing is passed on that a crash could lose.
                    assert "AppB@2.2.2.0" in rig.places()
                    assert rig.told() == ["network:apprunning"]
                proxy.up()
            assert len(rig.told()) == 4
            rows = [row async for row in store.load() if isinstance(row, EventRow)]
            assert {row.ip for row in rows} == {"1.1.1.1", "2.2.2.0", "2.2.2.1", "2.2.2.2"}


async def test_a_log_that_gave_up_starts_again_from_what_is_stored(
    mongo: Databases, proxy: FaultProxy
) -> None:
    settings = quick(mongo.server.url_at(proxy.host, proxy.port), mongo.prefix, mongo_retry_s=0.3)
    async with open_mongo(settings) as server:
        store = MongoStore(server)
        await store.open()
        with pytest.RaisesGroup(StoreError, flatten_subgroups=True):
            async with running_log(store) as rig:
                await rig.log.ingest(rig.running("AppA"))
                proxy.down()
                with without_a_server(server), pytest.raises(StoreError):
                    await rig.log.ingest(rig.running("AppB", ip="2.2.2.2"))
        assert not server.is_connected
        proxy.up()
        async with running_log(store) as rig:
            assert server.is_connected
            assert rig.places() == ["AppA@1.1.1.1"]
            await rig.log.ingest(rig.running("AppB", ip="2.2.2.2"))
            assert rig.places() == ["AppA@1.1.1.1", "AppB@2.2.2.2"]


async def test_a_slow_server_is_waited_for(mongo: Databases, proxy: FaultProxy) -> None:
    settings = quick(mongo.server.url_at(proxy.host, proxy.port), mongo.prefix)
    async with open_mongo(settings) as server:
        store = MongoStore(server)
        await store.open()
        async with running_log(store) as rig:
            proxy.delay_s = 0.1
            calls = proxy.count()
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(rig.log.ingest, rig.running("AppA", ip=f"2.2.2.{number}"))
            assert len(rig.told()) == 20
            # What came in meanwhile shares the next commits.
            assert proxy.count() - calls <= 30
            proxy.delay_s = 0.0
        assert server.counters["store.mongo.losses"] == 0
