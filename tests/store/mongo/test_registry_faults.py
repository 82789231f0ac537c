"""The registry and the installed apps on a database that steps down, is slow, goes away, or loses answers.

test_outage.py and test_connection.py do the same for the event log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from appmessages import paid, signed
from faultproxy import NOT_PRIMARY, Call, Fault, FaultProxy, fault_proxy
from mongohaste import without_a_server, without_answers
from mongorows import AT_MS, put, quick, running
from mongoserver import Databases

from trionode.errors import StoreAway
from trionode.registry.rows import CurrentSpec, HashRow
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.store.appregistry import AppRegistry
from trionode.store.mongo import journal
from trionode.store.mongo.connection import MongoServer, open_mongo
from trionode.store.mongo.events import MongoStore
from trionode.store.mongo.localapps import MongoLocalApps
from trionode.store.mongo.registry import MongoRegistryStore

pytestmark = [pytest.mark.trio, pytest.mark.process]

HEIGHT = 2_200_000
NAME = "SpecApp8"
FOREVER = 1_000_000
DURABLE = {"w": "majority", "j": True}


@pytest.fixture(autouse=True)
def ahead_of_every_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has expired the server itself deletes, once a minute."""
    monkeypatch.setattr(VirtualClock, "now_ms", lambda self: AT_MS)


@pytest.fixture
def door(mongo: Databases) -> Iterator[FaultProxy]:
    with fault_proxy(mongo.server.host, mongo.server.port) as made:
        yield made
    with mongo.server.client() as client:
        client.admin.command("killAllSessions", [])


class House:
    """A registry with its service running, and what it told."""

    def __init__(self, server: MongoServer) -> None:
        self.server = server
        self.store = MongoRegistryStore(server)
        self.bus, self.counters = EventBus(), Counters()
        self.registry = AppRegistry(
            self.store, VirtualClock(), self.bus, self.counters, daemon_height=lambda: HEIGHT
        )

    async def pay(self) -> HashRow:
        """An unpaid message is here, and so is its payment by now."""
        document = signed(name=NAME)
        assert (await self.registry.ingest_temporary(document)).status == "kept"
        row = paid(document, HEIGHT - 1)
        await self.store.add_hashes([row])
        return row

    async def promote(self, row: HashRow) -> bool:
        return await self.registry.promote(row.hash, row.txid, row.height, row.value_sat)

    async def is_in_force(self, row: HashRow) -> bool:
        """In the store with all that belongs to it, in memory, and told once."""
        told = [dict(event.data) for event in self.bus.replay() if event.name == "app:specStored"]
        payment, current = await self.store.hash_row(row.hash), await self.store.current(NAME)
        assert payment is not None
        return (
            payment.message
            and await self.store.known_permanents((row.hash,)) == {row.hash}
            and current is not None
            and self.registry.current.get(NAME) == current
            and told == [{"name": NAME, "hash": row.hash}]
        )


@asynccontextmanager
async def house_at(
    mongo: Databases, door: FaultProxy, *, transactions: bool = True, **values: Any
) -> AsyncIterator[House]:
    url = mongo.server.url_at(door.host, door.port)
    async with open_mongo(quick(url, mongo.prefix, **values)) as server:
        server.has_transactions = server.has_transactions and transactions
        house = House(server)
        await house.store.open()
        async with trio.open_nursery() as nursery:
            await nursery.start(house.registry.run)
            yield house
            nursery.cancel_scope.cancel(reason="end of the test")


@pytest.mark.parametrize("trouble", ["step-down", "slow", "outage"])
async def test_a_promotion_goes_through_once(trouble: str, mongo: Databases, door: FaultProxy) -> None:
    async with house_at(mongo, door, mongo_retry_s=120.0) as house:
        row = await house.pay()
        lost = trio.Event()
        house.server.watch(lambda is_connected: None if is_connected else lost.set())
        if trouble == "step-down":
            door.spoil(Fault(answer=NOT_PRIMARY), times=3)
        elif trouble == "slow":
            door.delay_s = 0.05
        else:
            door.down()
        promoted: list[bool] = []

        async def promote() -> None:
            promoted.append(await house.promote(row))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(promote)
            if trouble == "outage":
                with without_a_server(house.server):
                    await lost.wait()
                    assert house.registry.current.get(NAME) is None
                    assert [event for event in house.bus.replay() if event.name == "app:specStored"] == []
                door.up()
        door.delay_s = 0.0
        assert promoted == [True]
        assert await house.is_in_force(row)


@pytest.mark.parametrize("transactions", [True, False], ids=["transaction", "journal"])
async def test_a_promotion_whose_answer_never_came_is_in_force_and_told(
    transactions: bool, mongo: Databases, door: FaultProxy
) -> None:
    """With the journal the commit is carried out when the server is back, by whatever call comes first."""
    async with house_at(mongo, door, transactions=transactions, mongo_retry_s=0.2) as house:
        row = await house.pay()

        def judge(call: Call) -> Fault | None:
            is_end = call.name == "commitTransaction" or journal.COLLECTION in call.document.values()
            # A journal that nobody waits for is emptied, of a commit before.
            is_meant = call.number and is_end and not call.is_silent
            return Fault(cut="after", then=door.down) if is_meant else None

        door.judge = judge
        with without_a_server(house.server), pytest.raises(StoreAway):
            await house.promote(row)
        assert house.registry.current.get(NAME) is None
        door.judge = None
        door.up()
        assert await house.promote(row)
        assert await house.is_in_force(row)
        assert house.counters["registry.caught_up"] == 1


async def test_installed_apps_wait_for_a_primary_and_fail_while_there_is_none(
    mongo: Databases, door: FaultProxy
) -> None:
    url = mongo.server.url_at(door.host, door.port)
    async with open_mongo(quick(url, mongo.prefix, mongo_retry_s=0.5)) as server:
        local = MongoLocalApps(server)
        shop, web = (CurrentSpec(name, f'{{"name":"{name}"}}', "h", 5) for name in ("Shop", "Web"))
        await local.put(shop)
        door.spoil(Fault(answer=NOT_PRIMARY), times=2)
        await local.put(web)
        await local.put_meta("installRecords", "[]")
        assert [row.name for row in await local.rows()] == ["Shop", "Web"]
        door.spoil(Fault(answer=NOT_PRIMARY), times=FOREVER)
        with without_answers(server):
            with pytest.raises(StoreAway):
                await local.delete("Shop")
            with pytest.raises(StoreAway):
                await local.put_meta("installRecords", "lost")
        door.judge = None
        assert [row.name for row in await local.rows()] == ["Shop", "Web"]
        assert await local.get_meta("installRecords") == "[]"
        await local.delete("Shop")
        assert [row.name for row in await local.rows()] == ["Web"]


async def test_what_is_acknowledged_a_majority_has_on_its_disk(mongo: Databases, door: FaultProxy) -> None:
    """Each command that ends a write asks for it: transactions, named values, installed apps."""
    url = mongo.server.url_at(door.host, door.port)
    async with open_mongo(quick(url, mongo.prefix)) as server:
        events, local = MongoStore(server), MongoLocalApps(server)
        await events.open()
        before = len(door.calls)
        await events.commit([put(running("1.1.1.1"))])
        await events.put_meta("heartbeat", '{"lastAlive":1}')
        await local.put(CurrentSpec("Shop", "{}", "h", 5))
        asked = [
            (call.name, call.document.get("writeConcern"))
            for call in door.calls[before:]
            if call.name in ("insert", "update", "delete", "commitTransaction")
            and ("autocommit" not in call.document or call.name == "commitTransaction")
        ]
    assert ("commitTransaction", DURABLE) in asked
    assert len(asked) >= 3
    assert [concern for _, concern in asked] == [DURABLE] * len(asked)
