"""An event log on a slow or lost MongoDB: late, and visibly so, but nothing that was acknowledged is gone.

The times are a twentieth of the real ones (more on a busy machine): a server that takes 5 s per call takes a
quarter of a second here, and the default waits of the settings are as much shorter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import faultproxy
import pytest
import trio
from faultproxy import FaultProxy
from mongohaste import without_answers
from mongorows import impatience_s
from mongoserver import Databases
from rig import Rig, running_log

from trionode.appstate.documents import EventRow
from trionode.config.tree import StoreSettings
from trionode.runtime.counters import Counters
from trionode.store.mongo.connection import MongoServer, open_mongo
from trionode.store.mongo.events import MongoStore

pytestmark = [pytest.mark.trio, pytest.mark.process]

LEAST_SCALE = 0.05
PATIENT = 3.0
"""For a test in which no time is measured."""
SLOW_S = 5.0
DEFAULTS = StoreSettings()


@pytest.fixture
async def scale(mongo: Databases) -> float:
    """What times are multiplied with: a call that is not slowed down must be short against them."""
    return max(LEAST_SCALE, await impatience_s(mongo) / DEFAULTS.mongo_call_s)


@pytest.fixture
def proxy(mongo: Databases) -> Iterator[FaultProxy]:
    with faultproxy.fault_proxy(mongo.server.host, mongo.server.port) as made:
        yield made


@asynccontextmanager
async def log_on(mongo: Databases, proxy: FaultProxy, scale: float) -> AsyncIterator[tuple[Rig, MongoServer]]:
    settings = StoreSettings(
        url=mongo.server.url_at(proxy.host, proxy.port),
        mongo_prefix=mongo.prefix,
        mongo_call_s=DEFAULTS.mongo_call_s * scale,
        mongo_connect_s=DEFAULTS.mongo_connect_s * scale,
        mongo_retry_s=DEFAULTS.mongo_retry_s * scale,
    )
    counters = Counters()
    async with open_mongo(settings, counters) as server:
        store = MongoStore(server)
        await store.open()
        async with running_log(store) as rig:
            yield rig, server


async def send(rig: Rig, ips: range, acknowledged: list[str]) -> None:
    """Messages of these addresses, all at once."""

    async def one(ip: str) -> None:
        if (await rig.log.ingest(rig.running("AppA", "AppB", ip=ip))).accepted:
            acknowledged.append(ip)

    async with trio.open_nursery() as nursery:
        for number in ips:
            nursery.start_soon(one, f"10.1.{number // 250}.{number % 250}")


async def stored_events(mongo: Databases) -> set[str]:
    settings = StoreSettings(url=mongo.url, mongo_prefix=mongo.prefix, mongo_call_s=300.0)
    async with open_mongo(settings) as server:
        store = MongoStore(server)
        await store.open()
        return {row.ip async for row in store.load() if isinstance(row, EventRow)}


def in_the_future(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server deletes the rows while the test looks at them."""
    monkeypatch.setattr(rig.clock, "now_ms", lambda: 4_000_000_000_000)


async def test_five_seconds_per_call(
    mongo: Databases, proxy: FaultProxy, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged: list[str] = []
    async with log_on(mongo, proxy, scale) as (rig, server):
        in_the_future(rig, monkeypatch)
        await send(rig, range(2), acknowledged)
        proxy.delay_s = SLOW_S * scale
        # New connections have to be made over the slow way too.
        proxy.cut()
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await trio.sleep(0.01)
                ticks += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            with trio.fail_after(250):
                await send(rig, range(2, 10), acknowledged)
            nursery.cancel_scope.cancel()
        assert ticks > 5, "the node goes on with other work"
        assert len(acknowledged) == 10
        assert server.is_connected, "slow is not lost"
        proxy.delay_s = 0.0
    assert await stored_events(mongo) == set(acknowledged)


@pytest.mark.parametrize("loss", ["cut", "stalled"])
async def test_lost_and_regained_while_messages_come(
    mongo: Databases, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    acknowledged: list[str] = []
    async with log_on(mongo, proxy, PATIENT) as (rig, server):
        in_the_future(rig, monkeypatch)
        await send(rig, range(3), acknowledged)
        seen: list[bool] = []
        lost, back = trio.Event(), trio.Event()

        def watch(is_connected: bool) -> None:
            seen.append(is_connected)
            (back if is_connected else lost).set()

        server.watch(watch)
        if loss == "cut":
            proxy.down()
        else:
            proxy.stall()
        async with trio.open_nursery() as nursery:
            with without_answers(server):
                nursery.start_soon(send, rig, range(3, 13), acknowledged)
                with trio.fail_after(250):
                    await lost.wait()
                assert not server.is_connected
                assert len(acknowledged) == 3, "nothing is acknowledged that is not stored"
            if loss == "cut":
                proxy.up()
            else:
                proxy.flow()
            with trio.fail_after(250):
                await back.wait()
        assert seen == [False, True]
        assert len(acknowledged) == 13
        assert server.counters.snapshot()["store.mongo.losses"] == 1
    assert await stored_events(mongo) == set(acknowledged)
