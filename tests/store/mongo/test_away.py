"""A server that says "not now" for long, or has no space: told, waited for, at last an error that passes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from faultproxy import DISK_FULL, NOT_PRIMARY, Fault, FaultProxy, fault_proxy
from mongohaste import without_answers
from mongorows import location, put, quick, running
from mongoserver import Databases

from trionode.appstate.changes import Change, PutLocation
from trionode.errors import StoreAway
from trionode.store.mongo.connection import MongoServer, open_mongo
from trionode.store.mongo.events import MongoStore

pytestmark = [pytest.mark.trio, pytest.mark.process]

FOREVER = 1_000_000
FIRST: list[Change] = [put(running("1.1.1.1")), PutLocation(location(1))]
SECOND: list[Change] = [put(running("2.2.2.2")), PutLocation(location(2))]
AFTER = {"events": 2, "locations": 2, "installing": 0, "install_errors": 0, "signed_copies": 0}


@pytest.fixture(params=["transaction", "journal"])
def way(request: pytest.FixtureRequest) -> str:
    way: str = request.param
    return way


@pytest.fixture
def proxy(mongo: Databases) -> Iterator[FaultProxy]:
    with fault_proxy(mongo.server.host, mongo.server.port) as made:
        yield made


@asynccontextmanager
async def opened(
    mongo: Databases, door: FaultProxy, way: str, **values: float
) -> AsyncIterator[tuple[MongoServer, MongoStore]]:
    url = mongo.server.url_at(door.host, door.port)
    async with open_mongo(quick(url, mongo.prefix, **values)) as server:
        server.has_transactions = server.has_transactions and way == "transaction"
        store = MongoStore(server)
        await store.open()
        yield server, store


async def test_a_step_down_that_lasts_is_told(mongo: Databases, proxy: FaultProxy, way: str) -> None:
    async with opened(mongo, proxy, way, mongo_retry_s=600.0) as (server, store):
        await store.commit(FIRST)
        lost = trio.Event()
        server.watch(lambda is_connected: None if is_connected else lost.set())
        proxy.spoil(Fault(answer=NOT_PRIMARY), nth=1, times=FOREVER)
        async with trio.open_nursery() as nursery:
            with without_answers(server):
                nursery.start_soon(store.commit, SECOND)
                await lost.wait()
                assert "cannot write" in server.document()["problem"]
            proxy.judge = None
        assert server.is_connected
        assert await store.counts() == AFTER


async def test_a_full_disk_is_told_at_once_and_waited_for(
    mongo: Databases, proxy: FaultProxy, way: str
) -> None:
    async with opened(mongo, proxy, way, mongo_retry_s=60.0) as (server, store):
        await store.commit(FIRST)
        lost = trio.Event()
        server.watch(lambda is_connected: None if is_connected else lost.set())
        proxy.spoil(Fault(answer=DISK_FULL), nth=1, times=FOREVER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.commit, SECOND)
            await lost.wait()
            found = server.document()
            assert "no space" in found["problem"]
            assert "free some space" in found["remedy"]
            assert not found["connected"]
            proxy.judge = None
        assert server.is_connected
        assert await store.counts() == AFTER


async def test_a_full_disk_is_an_error_after_a_while_and_leaves_what_was(
    mongo: Databases, proxy: FaultProxy, way: str
) -> None:
    async with opened(mongo, proxy, way) as (server, store):
        await store.commit(FIRST)
        before = await store.counts()
        proxy.spoil(Fault(answer=DISK_FULL), nth=1, times=FOREVER)
        with pytest.raises(StoreAway, match="no space"):
            await store.commit(SECOND)
        proxy.judge = None
        assert await store.counts() == before
        # That it can be read does not make room; finishing the journal, which reading needs, has shown some.
        assert server.is_connected == (way == "journal")
        await store.commit(SECOND)
        assert server.is_connected
