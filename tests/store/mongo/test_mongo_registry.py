"""The registry on MongoDB: databases taken over, round trips, both kinds of server (registry.md §2)."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from appmessages import owner, paid, served, signed
from bson import Int64
from mongoserver import Databases, TestServer, databases
from pymongo.client_session import ClientSession
from pymongo.errors import AutoReconnect
from roundtrips import commands

from trionode.config.tree import StoreSettings
from trionode.errors import StoreError
from trionode.registry.changes import (
    AddHashes,
    AddPermanents,
    ClearCurrent,
    PutBlockHash,
    PutCurrent,
    ResolveHashes,
    SetScannedHeight,
)
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.store.appregistry import AppRegistry
from trionode.store.mongo import connection
from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.registry import MongoRegistryStore
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.wire.jsjson import stringify

pytestmark = pytest.mark.trio

T = 1_750_000_000_000
HEIGHT = 2_200_000


@asynccontextmanager
async def opened(server: TestServer, prefix: str) -> AsyncIterator[MongoRegistryStore]:
    async with open_mongo(StoreSettings(url=server.url, mongo_prefix=prefix)) as connected:
        store = MongoRegistryStore(connected)
        await store.open()
        yield store


def spec_document(name: str = "App", **more: Any) -> dict[str, Any]:
    return {"version": 1, "name": name, "description": "d", "owner": "me", "cpu": 0.5, "ram": 500.0, **more}


def left_behind(number: int, **more: Any) -> dict[str, Any]:
    """A paid message as the other node stores it."""
    return {
        "type": "fluxappregister",
        "version": 1,
        "appSpecifications": spec_document(f"App{number}"),
        "hash": f"h{number}",
        "timestamp": float(T + number),
        "signature": "sig",
        "txid": f"t{number}",
        "height": 900_000 + number,
        "valueSat": 5,
        **more,
    }


def paid_before(number: int) -> dict[str, Any]:
    return {
        "txid": f"t{number}",
        "height": 900_000 + number,
        "hash": f"h{number}",
        "value": 7_000_000_000.0,
        "message": True,
    }


async def test_a_database_of_another_node_is_taken_over(mongo: Databases) -> None:
    with mongo.server.client() as client:
        chain = client[f"{mongo.prefix}zelcashdata"]
        apps = client[f"{mongo.prefix}globalzelapps"]
        chain.scannedheight.insert_many([{"generalScannedHeight": height} for height in (5, 900_100, 7)])
        chain.zelappshashes.insert_many([paid_before(number) for number in (1, 2, 3, 2)])
        chain.zelappshashes.create_index("hash", name="query for getting by hash")
        old = left_behind(2)
        old["zelAppSpecifications"] = old.pop("appSpecifications")
        apps.zelappsmessages.insert_many(
            [
                left_behind(1, valueSat=math.nan),
                old,
                left_behind(3, timestamp=Int64(T)),
                left_behind(4, valueSat=math.nan),
                left_behind(1, txid="again"),
            ]
        )
        apps.zelappsmessages.create_index("zelAppSpecifications.name")
        apps.zelappsinformation.insert_many(
            [spec_document("App1") | {"hash": hash_, "height": at} for hash_, at in (("x", 5), ("h1", 9))]
        )
        for _ in range(2):
            async with opened(mongo.server, mongo.prefix) as store:
                assert await store.scanned_height() == 900_100
                rows = [row async for row in store.stream_permanents()]
                assert [(row.hash, row.txid) for row in rows] == [(f"h{n}", f"t{n}") for n in (1, 2, 3, 4)]
                assert [row.value_sat for row in rows] == [7_000_000_000, 5, 5, 0]
                assert [row.timestamp_ms for row in rows] == [T + 1, T + 2, T, T + 4]
                assert rows[1].name == "App2"
                assert await store.permanents_of("App2") == [rows[1]]
                assert rows[0].spec_text == stringify(spec_document("App1"))
                assert [row.hash async for row in store.stream_hashes()] == ["h1", "h2", "h3"]
                current = await store.current("App1")
                assert current == CurrentSpec("App1", stringify(spec_document("App1")), "h1", 9)
        assert chain.scannedheight.count_documents({}) == 1
        assert apps.zelappsmessages.index_information()["hash_1"]["unique"]
        names = {name for name in apps.zelappsmessages.index_information() if name.startswith("zel")}
        assert not names
        assert apps.zelappsmessages.count_documents({"zelAppSpecifications": {"$exists": True}}) == 0


async def test_what_is_written_is_what_the_other_node_would_have_written(mongo: Databases) -> None:
    original = left_behind(1, appSpecifications=spec_document("App1", expire=3_000_000_000.0))
    text = stringify(original["appSpecifications"])
    row = PermanentRow("h1", "fluxappregister", 1, text, "App1", "me", T + 1, "sig", "t1", 900_001, 5)
    async with opened(mongo.server, mongo.prefix) as store:
        await store.commit(
            [
                AddHashes((HashRow.found("t1", 900_001, "h1", 5),)),
                AddPermanents((row,)),
                ResolveHashes(("h1",)),
                PutCurrent(CurrentSpec.of(row)),
                SetScannedHeight(900_001),
            ]
        )
        await store.put_meta("hashSyncVersion", "8.13.0")
    with mongo.server.client() as client:
        chain = client[f"{mongo.prefix}zelcashdata"]
        apps = client[f"{mongo.prefix}globalzelapps"]
        hidden = {"_id": 0}
        (message,) = apps.zelappsmessages.find({}, hidden)
        assert _typed(message) == _typed(original)
        (current,) = apps.zelappsinformation.find({}, hidden)
        assert _typed(current) == _typed(original["appSpecifications"] | {"hash": "h1", "height": 900_001})
        (payment,) = chain.zelappshashes.find({}, hidden)
        assert list(payment) == [
            "txid",
            "height",
            "hash",
            "value",
            "message",
            "syncAttempts",
            "nextRetryHeight",
            "retryFromHeight",
            "messageNotFound",
        ]
        assert payment["message"] is True
        assert payment["messageNotFound"] is False
        (scanned,) = chain.scannedheight.find({}, hidden)
        assert scanned == {"generalScannedHeight": 900_001}
        (marker,) = client[f"{mongo.prefix}zelfluxlocal"].nodestartuptracker.find({})
        assert marker == {"_id": "hashSyncVersion", "version": "8.13.0"}
        ours = [name for name in chain.list_collection_names() if name.startswith("trionode")]
        assert ours == []


def _typed(value: Any) -> Any:
    """With the order of members, and whole numbers apart from doubles."""
    if isinstance(value, dict):
        return [(name, _typed(item)) for name, item in value.items()]
    as_double = isinstance(value, float) and not (value.is_integer() and abs(value) < 2**31)
    return (float if as_double else int if isinstance(value, float) else type(value), value)


def chunk(first: int, count: int) -> tuple[tuple[HashRow, ...], tuple[PermanentRow, ...]]:
    payments = tuple(HashRow.found(f"t{n}", 900_000 + n, f"{n:064x}", 5) for n in range(first, first + count))
    messages = tuple(
        PermanentRow(
            row.hash,
            "fluxappregister",
            1,
            f'{{"name":"App{row.height}","owner":"me"}}',
            f"App{row.height}",
            "me",
            T,
            "sig",
            row.txid,
            row.height,
            5,
        )
        for row in payments
    )
    return payments, messages


async def test_round_trips_of_a_chunk(any_mongo_server: TestServer) -> None:
    """What the batch processor does with one chunk: ask, ask, look at names, commit (registry.md §12)."""
    with databases(any_mongo_server) as mongo:
        async with opened(any_mongo_server, mongo.prefix) as store:
            payments, messages = chunk(0, 60)
            hashes = tuple(row.hash for row in payments)
            await store.add_hashes(payments)
            with commands() as sent:
                assert len(await store.hash_rows(hashes)) == 60
                assert await store.known_permanents(hashes) == set()
                assert await store.permanents_of_names({row.name for row in messages}) == {}
                report = await store.commit([AddPermanents(messages), ResolveHashes(hashes)])
            assert report.duplicate_permanents == ()
            transaction = ["insert", "update", "commitTransaction"]
            # The end of the journal is not waited for.
            journal = ["update", "insert", "update"]
            writes = transaction if "commitTransaction" in sent else journal
            assert sent == ["find", "find", "find", *writes]
            assert len(sent) <= 6
            with commands() as sent:
                await store.commit(
                    [PutBlockHash(1, "b"), PutBlockHash(2, "c"), SetScannedHeight(1), SetScannedHeight(2)]
                )
            assert len(sent) <= 6
            # what was asked for before is not believed a second time
            report = await store.commit([AddPermanents(messages)])
            assert report.duplicate_permanents == hashes


async def test_block_hashes_are_forgotten_when_another_node_read_on(mongo: Databases) -> None:
    async with opened(mongo.server, mongo.prefix) as store:
        await store.commit([PutBlockHash(9, "a"), PutBlockHash(10, "b"), SetScannedHeight(10)])
        await store.set_scanned_height(12)
        assert await store.block_hashes() == {9: "a", 10: "b"}
        with mongo.server.client() as client:
            scanned = client[f"{mongo.prefix}zelcashdata"].scannedheight
            scanned.update_one({}, {"$set": {"generalScannedHeight": 500}})
        assert await store.scanned_height() == 500
        assert await store.block_hashes() == {}
        await store.commit([PutBlockHash(501, "c"), SetScannedHeight(501)])
        assert await store.block_hashes() == {501: "c"}
        await store.rewind(400)
        assert await store.block_hashes() == {}
        assert await store.scanned_height() == 400


async def test_another_writer_is_noticed(mongo: Databases) -> None:
    payments, messages = chunk(0, 3)
    hashes = [row.hash for row in payments]
    async with opened(mongo.server, mongo.prefix) as store, opened(mongo.server, mongo.prefix) as other:
        assert await store.known_permanents(hashes) == set()
        await other.add_permanents(messages[1:2])
        with pytest.raises(StoreError, match="11000"):
            await store.add_permanents(messages)
        assert await store.permanent_counts() == 1
        assert await store.add_permanents(messages) == (hashes[1],)


async def test_without_transactions_what_another_writer_put_stays(mongo_standalone: TestServer) -> None:
    payments, messages = chunk(0, 4)
    hashes = [row.hash for row in payments]
    with databases(mongo_standalone) as mongo:
        async with opened(mongo.server, mongo.prefix) as store, opened(mongo.server, mongo.prefix) as other:
            await store.add_hashes(payments)
            assert await store.known_permanents(hashes) == set()
            await other.add_permanents([messages[2], messages[0]])
            await store.commit([AddPermanents(messages), ResolveHashes(tuple(hashes))])
            rows = [row.hash async for row in store.stream_permanents()]
            assert sorted(rows) == sorted(hashes)
            assert rows[:2] == [hashes[2], hashes[0]]
            assert (await store.hash_counts()).missing == 0
            await store.commit([AddPermanents(messages), SetScannedHeight(5)])


async def test_an_answer_from_before_a_commit_is_not_remembered(mongo: Databases) -> None:
    payments, messages = chunk(0, 40)
    hashes = [row.hash for row in payments]
    async with opened(mongo.server, mongo.prefix) as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.add_permanents, messages[:20])
            nursery.start_soon(store.known_permanents, hashes)
            nursery.start_soon(store.add_permanents, messages[20:])
        assert await store.add_permanents(messages) == tuple(hashes)


async def test_reindexing_leaves_no_trace_of_the_former(any_mongo_server: TestServer) -> None:
    with databases(any_mongo_server) as mongo:
        async with opened(any_mongo_server, mongo.prefix) as store:
            await store.commit(
                [PutCurrent(CurrentSpec(name, f'{{"name":"{name}"}}', "h", 1)) for name in "abc"]
            )
            with commands() as sent:
                await store.commit(
                    [
                        ClearCurrent(),
                        *(PutCurrent(CurrentSpec(name, f'{{"name":"{name}"}}', "h", 2)) for name in "cde"),
                    ]
                )
            assert len(sent) <= 4
            assert [(row.name, row.height) async for row in store.stream_current()] == [
                ("c", 2),
                ("d", 2),
                ("e", 2),
            ]


async def test_the_batch_processor_on_mongo_does_as_in_memory(mongo: Databases) -> None:
    made = [(signed(name=f"app{number}", by=owner(0), at_ms=T), HEIGHT + number) for number in range(3)]
    made += [
        (
            signed(
                name=f"app{number}",
                registers=False,
                by=owner(signer),
                for_owner=owner(number % 2),
                at_ms=T + 1 + signer,
            ),
            HEIGHT + 10 + number + signer,
        )
        for number in range(3)
        for signer in (0, 1)
    ]
    payments = tuple(paid(document, height) for document, height in made)

    async def run(store: Any) -> dict[str, Any]:
        await store.commit([AddHashes(payments)])
        registry = AppRegistry(
            store, VirtualClock(), EventBus(), Counters(), daemon_height=lambda: HEIGHT + 50
        )
        await registry.load()
        for chunk_messages in (4, 2_000):
            await registry.process_messages(
                [served(*message) for message in made], chunk_messages=chunk_messages
            )
        await registry.reindex()
        return {
            "verdict": sorted(row.hash for row in await store.hashes(missing=True)),
            "permanents": [row async for row in store.stream_permanents(order="height")],
            "current": [row async for row in store.stream_current()],
            "counts": await store.counts(),
        }

    async with opened(mongo.server, mongo.prefix) as store:
        on_mongo = await run(store)
    in_memory = await run(MemoryRegistryStore())
    assert on_mongo == in_memory
    assert on_mongo["counts"]["permanents"] > 3
    assert [row.name for row in on_mongo["current"]] == ["app0", "app1", "app2"]


async def test_rows_of_a_commit_whose_answer_was_lost_are_not_called_known(
    mongo: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit has landed, the repeated one finds its own rows."""
    commit_transaction = connection.commit_transaction
    answers = [AutoReconnect("the answer is lost")]

    def lose_one_answer(session: ClientSession) -> None:
        commit_transaction(session)
        if answers:
            raise answers.pop()

    async with opened(mongo.server, mongo.prefix) as store:
        await store.add_hashes([HashRow.found("tx-old", HEIGHT, "old", 5)])
        monkeypatch.setattr(connection, "commit_transaction", lose_one_answer)
        rows = [HashRow.found(f"tx-{hash_}", HEIGHT, hash_, 5) for hash_ in ("old", "a", "b")]
        assert await store.add_hashes(rows) == ("old",)
        assert not answers
        assert [row.hash for row in await store.hashes()] == ["old", "a", "b"]
