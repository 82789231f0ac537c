"""The heartbeat on MongoDB, where it is a document every node knows: a node recognises its own."""

from __future__ import annotations

import pytest
import trio
from mongorows import quick
from mongoserver import Databases

from trionode.config.tree import SystemSettings
from trionode.hosting.heartbeat import Heartbeat
from trionode.runtime.clock import SystemClock
from trionode.runtime.counters import Counters
from trionode.runtime.machine import MemoryMachine
from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.events import MongoStore


@pytest.mark.trio
@pytest.mark.process
@pytest.mark.parametrize("way", ["transaction", "journal"])
async def test_a_second_node_is_told_from_oneself(way: str, mongo: Databases) -> None:
    async with open_mongo(quick(mongo.url, mongo.prefix)) as server:
        server.has_transactions = server.has_transactions and way == "transaction"
        store = MongoStore(server)
        await store.open()
        hearts = [
            Heartbeat(SystemSettings(), store, MemoryMachine(), SystemClock(), Counters()) for _ in range(2)
        ]
        async with trio.open_nursery() as nursery:
            await nursery.start(hearts[0].run)
            for _ in range(3):
                await trio.sleep(0.01)
                await hearts[0].settled()
            assert hearts[0]._counters["heartbeat.another_node"] == 0
            await nursery.start(hearts[1].run)
            await trio.sleep(0.01)
            await hearts[0].settled()
            assert hearts[0]._counters["heartbeat.another_node"] == 1
            nursery.cancel_scope.cancel(reason="end of the test")
