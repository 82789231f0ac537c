"""Guards of the stores while many write at once: the newest event stays, of two of one moment the first.

The other suites write one after the other, so that no guard ever has to decide between two tasks.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from mongoserver import Databases

from trionode.appstate.changes import PutEvent
from trionode.appstate.documents import EventRow
from trionode.appstate.facts import fact_of
from trionode.config.tree import StoreSettings
from trionode.registry.changes import AddHashes, AddPermanents
from trionode.registry.rows import HashRow, PermanentRow
from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.events import MongoStore
from trionode.store.mongo.registry import MongoRegistryStore
from trionode.store.open import Stores, open_stores

pytestmark = pytest.mark.trio

FAR_MS = 4_100_000_000_000
"""Expiries lie far ahead: what has expired a MongoDB deletes by itself, once a minute."""
KEY = ("1.1.1.1", "apprunning", "v2")


@pytest.fixture(params=["sqlite", "mongo", "mongo-journal"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def stores(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    async with AsyncExitStack() as stack:
        if kind == "sqlite":
            yield await stack.enter_async_context(open_stores(StoreSettings(), tmp_path))
            return
        mongo: Databases = request.getfixturevalue("mongo")
        settings = StoreSettings(url=mongo.url, mongo_prefix=mongo.prefix, mongo_call_s=300.0)
        server = await stack.enter_async_context(open_mongo(settings))
        server.has_transactions = server.has_transactions and kind == "mongo"
        events, registry = MongoStore(server), MongoRegistryStore(server)
        await events.open()
        await registry.open()
        async with open_stores(StoreSettings(url="memory:"), tmp_path) as memory:
            yield Stores(events, registry, memory.local, server)


def event(at_ms: int, writer: str) -> PutEvent:
    text = f'{{"apps":[{{"name":"{writer}","hash":"h"}}]}}'
    row = EventRow(*KEY, FAR_MS + at_ms, broadcasted_at_ms=FAR_MS + at_ms, received_at_ms=1, data_text=text)
    return PutEvent(row, fact_of(row))


def writers(kind: str) -> int:
    return 12 if kind == "sqlite" else 3


async def test_events_of_one_key_from_many_tasks(kind: str, stores: Stores) -> None:
    """What is stored never gets older, and what was first of its moment is never replaced."""
    rng = random.Random(5)
    store, newest = stores.events, 0
    first_of: dict[int, str] = {}

    async def write(writer: int) -> None:
        nonlocal newest
        for number in range(8):
            at_ms = rng.randrange(1, 12)
            text = f"w{writer}n{number}"
            await store.commit([event(at_ms, text)])
            newest = max(newest, at_ms)
            found = await store.event(*KEY)
            assert found is not None
            assert found.broadcasted_at_ms is not None
            stored_ms = found.broadcasted_at_ms - FAR_MS
            assert stored_ms >= at_ms, "an acknowledged event was undone"
            seen = first_of.setdefault(stored_ms, str(found.data_text))
            assert seen == found.data_text, "two events of one moment took turns"
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for writer in range(writers(kind)):
            nursery.start_soon(write, writer)
    found = await store.event(*KEY)
    assert found is not None
    assert found.broadcasted_at_ms == FAR_MS + newest
    assert (await store.counts())["events"] == 1


async def test_one_payment_and_one_message_from_many_tasks(kind: str, stores: Stores) -> None:
    """Whoever comes first stays, whole; exactly one is told that its message is new."""
    store = stores.registry
    told: list[int] = []

    async def write(writer: int) -> None:
        paid = HashRow(f"tx{writer}", 100 + writer, "ab" * 32, writer, False)
        message = PermanentRow(
            "ab" * 32, "fluxappregister", 1, '{"name":"A"}', "A", f"o{writer}", 1, "s", f"tx{writer}", 100, 5
        )
        report = await store.commit([AddHashes((paid,)), AddPermanents((message,))])
        if not report.duplicate_permanents:
            told.append(writer)

    async with trio.open_nursery() as nursery:
        for writer in range(writers(kind)):
            nursery.start_soon(write, writer)
    (payment,) = [row async for row in store.stream_hashes()]
    (message,) = [row async for row in store.stream_permanents()]
    assert payment.value_sat + 100 == payment.height
    assert (payment.txid, message.txid) == (f"tx{payment.value_sat}", f"tx{message.owner[1:]}")
    assert told == [int(message.owner[1:])]
