"""Commits that were cut short on a server without transactions, and what may have happened since.

Another node worked with the database, the database refuses a write for good, or the end of the journal got
lost on the way. Whatever it was: the node starts, and nothing newer and nothing acknowledged is gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from bson import ObjectId
from faultproxy import DISK_FULL, Call, Fault, FaultProxy, fault_proxy
from mongorows import AT_MS, location, put, quick, running
from mongoserver import Databases, TestServer, databases

from trionode.appstate.changes import Change, DeleteEvent, DeleteLocation, PutLocation
from trionode.appstate.documents import EventRow
from trionode.errors import StoreError
from trionode.registry.changes import (
    AddHashes,
    AddPermanents,
    PutCurrent,
    RegistryChange,
    ResolveHashes,
    SetScannedHeight,
)
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow
from trionode.runtime.counters import Counters
from trionode.store.checkup import Finding
from trionode.store.mongo import journal
from trionode.store.mongo.checkup import check_mongo
from trionode.store.mongo.connection import MongoServer, open_mongo
from trionode.store.mongo.events import MongoStore
from trionode.store.mongo.events_plan import plan as events_plan
from trionode.store.mongo.journal import Journal
from trionode.store.mongo.registry import MongoRegistryStore
from trionode.store.mongo.replay import REFUSED
from trionode.store.mongo.values import date

pytestmark = [pytest.mark.trio, pytest.mark.process]

FOREVER = 1_000_000
FIRST_WRITE = 6
"""Step of a commit of the registry: the facts (four reads) and the journal come before it."""
PAID = HashRow.found("t", 1000, "h", 5)
SPEC = '{"name":"App","owner":"me"}'
MESSAGE = PermanentRow("h", "fluxappregister", 1, SPEC, "App", "me", 1, "sig", "t", 1000, 5)
LATER_SPEC = '{"name":"App","owner":"you"}'


@pytest.fixture
def lone(mongo_standalone: TestServer) -> Iterator[Databases]:
    with databases(mongo_standalone) as made:
        yield made


@pytest.fixture
def proxy(lone: Databases) -> Iterator[FaultProxy]:
    with fault_proxy(lone.server.host, lone.server.port) as made:
        yield made


class Opened:
    """Both stores, and what was counted."""

    def __init__(self, server: MongoServer, counters: Counters) -> None:
        self.server = server
        self.counters = counters
        self.events = MongoStore(server)
        self.registry = MongoRegistryStore(server)

    async def rows(self) -> dict[str, EventRow]:
        return {row.ip: row for row in await self.events.events_for()}


@asynccontextmanager
async def opened(lone: Databases, door: FaultProxy | None = None) -> AsyncIterator[Opened]:
    url = lone.url if door is None else lone.server.url_at(door.host, door.port)
    counters = Counters()
    async with open_mongo(quick(url, lone.prefix, mongo_call_s=5.0), counters) as server:
        both = Opened(server, counters)
        await both.events.open()
        await both.registry.open()
        yield both


async def cut_short(
    lone: Databases,
    proxy: FaultProxy,
    changes: Sequence[Change] | None = None,
    *,
    registry: Sequence[RegistryChange] | None = None,
    before: Callable[[Opened], Any] | None = None,
    step: int = 2,
) -> None:
    """A commit of which the journal is written, and nothing after that step gets through."""
    async with opened(lone, proxy) as stores:
        if before is not None:
            await before(stores)
        proxy.spoil(Fault(cut="before"), nth=step, times=FOREVER)
        commit: Any = stores.events.commit if registry is None else stores.registry.commit
        with pytest.raises(StoreError):
            await commit(registry or changes or commit_of_the_log())
    proxy.judge = None


def commit_of_the_log() -> list[Change]:
    return [put(running("1.1.1.1", AT_MS + 1)), put(running("2.2.2.2")), PutLocation(location(1, "moved"))]


def commit_of_the_registry() -> list[RegistryChange]:
    return [
        AddHashes((PAID,)),
        AddPermanents((MESSAGE,)),
        ResolveHashes(("h",)),
        PutCurrent(CurrentSpec.of(MESSAGE)),
        SetScannedHeight(1002),
    ]


def of(client: Any, lone: Databases, database: str, collection: str) -> Any:
    return client[lone.prefix + database][collection]


def another_node(lone: Databases, sign: str) -> None:
    """Leave what a node leaves that runs here."""
    with lone.server.client() as client:
        tracker = of(client, lone, "zelfluxlocal", "nodestartuptracker")
        if sign == "start":
            tracker.update_one({"_id": "lastStartup"}, {"$set": {"at": float(AT_MS)}}, upsert=True)
        elif sign == "heartbeat":
            tracker.update_one({"_id": "heartbeat"}, {"$set": {"lastAlive": float(AT_MS)}}, upsert=True)
        elif sign == "locations":
            # Ids tell whole seconds, and the commit was a moment ago.
            now_s = int(ObjectId().generation_time.timestamp())
            row = {"_id": ObjectId(f"{now_s + 60:08x}" + "0" * 16), "name": "X", "ip": "9.9.9.9"}
            times = {"broadcastedAt": date(AT_MS), "expireAt": date(AT_MS * 2)}
            of(client, lone, "globalzelapps", "zelappslocation").insert_one(row | times)
        elif sign == "blocks":
            of(client, lone, "zelcashdata", "scannedheight").update_one(
                {}, {"$set": {"generalScannedHeight": 900}}, upsert=True
            )


def left_in(lone: Databases, collection: str) -> list[dict[str, Any]]:
    with lone.server.client() as client:
        return list(of(client, lone, journal.DATABASE, collection).find())


async def findings(lone: Databases, where: str) -> list[Finding]:
    report = await check_mongo(quick(lone.url, lone.prefix, mongo_call_s=5.0))
    return [found for found in report.findings if found.where == where]


# Another node ran since


async def test_nothing_of_another_node_is_replaced(lone: Databases, proxy: FaultProxy) -> None:
    async def before(stores: Opened) -> None:
        await stores.events.commit([put(running("1.1.1.1")), put(running("3.3.3.3"))])
        await stores.events.commit([PutLocation(location(1)), PutLocation(location(2))])

    changes = [
        *commit_of_the_log(),
        DeleteEvent(running("3.3.3.3").key),
        DeleteLocation(2, "AppA", "1.2.3.4"),
    ]
    await cut_short(lone, proxy, changes, before=before)
    newer = date(AT_MS + 50)
    with lone.server.client() as client:
        events = of(client, lone, "globalzelapps", "appstateevents")
        locations = of(client, lone, "globalzelapps", "zelappslocation")
        for ip in ("1.1.1.1", "3.3.3.3"):
            assert events.update_one({"ip": ip}, {"$set": {"broadcastedAt": newer}}).matched_count
        locations.update_many({}, {"$set": {"broadcastedAt": newer}})
    another_node(lone, "start")
    (finding,) = await findings(lone, journal.COLLECTION)
    assert "before another node ran" in finding.what
    assert "lastStartup" in finding.examples[0]
    async with opened(lone) as stores:
        rows = await stores.rows()
        assert {ip: row.broadcasted_at_ms for ip, row in rows.items()} == {
            "1.1.1.1": AT_MS + 50,
            "2.2.2.2": AT_MS,
            "3.3.3.3": AT_MS + 50,
        }
    with lone.server.client() as client:
        kept = of(client, lone, "globalzelapps", "zelappslocation").find().sort("_id", 1)
        assert [(row["_id"], row["name"]) for row in kept] == [(1, "AppA"), (2, "AppA")]
    assert left_in(lone, journal.COLLECTION) == []


@pytest.mark.parametrize("step", [FIRST_WRITE, FIRST_WRITE + 1, FIRST_WRITE + 3])
async def test_the_chain_stays_where_another_node_read_it_to(
    lone: Databases, proxy: FaultProxy, step: int
) -> None:
    async def before(stores: Opened) -> None:
        await stores.registry.set_scanned_height(999)

    await cut_short(lone, proxy, registry=commit_of_the_registry(), before=before, step=step)
    with lone.server.client() as client:
        of(client, lone, "zelcashdata", "scannedheight").update_one(
            {}, {"$set": {"generalScannedHeight": 1500}}
        )
        current = of(client, lone, "globalzelapps", "zelappsinformation")
        current.replace_one(
            {"name": "App"}, {"name": "App", "owner": "you", "hash": "h2", "height": 1400}, upsert=True
        )
    another_node(lone, "start")
    async with opened(lone) as stores:
        registry = stores.registry
        assert stores.counters["store.mongo.dropped_writes"] >= 2
        assert await registry.scanned_height() == 1500
        assert await registry.current("App") == CurrentSpec("App", LATER_SPEC, "h2", 1400)
        # What was only to be added is there: the chain is not read a second time.
        assert await registry.permanent("h") == MESSAGE
        assert [row.message for row in await registry.hashes()] == [True]


@pytest.mark.parametrize("sign", ["start", "heartbeat", "locations", "blocks"])
async def test_each_sign_of_another_node_is_enough(lone: Databases, proxy: FaultProxy, sign: str) -> None:
    await cut_short(lone, proxy, registry=commit_of_the_registry(), step=FIRST_WRITE)
    another_node(lone, sign)
    async with opened(lone) as stores:
        assert await stores.registry.scanned_height() == (900 if sign == "blocks" else 0)
        assert stores.counters["store.mongo.dropped_writes"] > 0


async def test_a_heartbeat_of_our_own_is_no_sign(lone: Databases, proxy: FaultProxy) -> None:
    async def before(stores: Opened) -> None:
        await stores.events.put_meta("heartbeat", f'{{"lastAlive":{AT_MS},"machineBootId":"b"}}')

    await cut_short(lone, proxy, registry=commit_of_the_registry(), before=before, step=FIRST_WRITE)
    async with opened(lone) as stores:
        assert await stores.registry.scanned_height() == 1002
        assert await stores.registry.current("App") == CurrentSpec.of(MESSAGE)
        assert stores.counters["store.mongo.dropped_writes"] == 0
        # The next life has seen that heartbeat, and writes others.
        await stores.events.put_meta("heartbeat", f'{{"lastAlive":{AT_MS + 9},"machineBootId":"b"}}')
        assert (await findings(lone, journal.COLLECTION)) == []


# The database refuses


def refusing(collection: str, answer: dict[str, Any], *, kinds: Sequence[str] = ("update", "insert")) -> Any:
    """Every command that writes to that collection gets this answer."""

    def judge(call: Call) -> Fault | None:
        is_meant = call.name in kinds and call.document[call.name] == collection
        return Fault(answer=answer) if is_meant else None

    return judge


INVALID = {
    "ok": 1.0,
    "n": 0,
    "nModified": 0,
    "writeErrors": [{"index": 0, "code": 121, "errmsg": "failed validation"}],
}
NO_COMMAND = {"ok": 0.0, "code": 166, "codeName": "CommandNotSupportedOnView", "errmsg": "it is a view"}


@pytest.mark.parametrize("answer", [INVALID, NO_COMMAND], ids=["one write", "whole command"])
async def test_a_refused_write_is_laid_aside_and_the_node_starts(
    lone: Databases, proxy: FaultProxy, answer: dict[str, Any]
) -> None:
    await cut_short(lone, proxy)
    proxy.judge = refusing("zelappslocation", answer)
    async with opened(lone, proxy) as stores:
        assert set(await stores.rows()) == {"1.1.1.1", "2.2.2.2"}
        assert stores.counters["store.mongo.refused_writes"] == 1
        proxy.judge = None
        await stores.events.commit([put(running("4.4.4.4"))])
    assert left_in(lone, journal.COLLECTION) == []
    (laid,) = left_in(lone, REFUSED)
    assert (laid["collection"], laid["code"]) == ("zelappslocation", answer.get("code", 121))
    (finding,) = await findings(lone, REFUSED)
    assert finding.severity == "problem"
    assert "zelappslocation" in finding.examples[0]
    async with opened(lone) as stores:
        assert set(await stores.rows()) == {"1.1.1.1", "2.2.2.2", "4.4.4.4"}


async def test_a_real_rule_of_the_database_does_not_keep_the_node_from_starting(
    lone: Databases, proxy: FaultProxy
) -> None:
    await cut_short(lone, proxy, registry=commit_of_the_registry(), step=FIRST_WRITE)
    with lone.server.client() as client:
        database = client[f"{lone.prefix}globalzelapps"]
        database.drop_collection("zelappsinformation")
        database.create_collection("zelappsinformation", validator={"owner": {"$type": "int"}})
    async with opened(lone) as stores:
        assert await stores.registry.permanent("h") == MESSAGE
        assert await stores.registry.current("App") is None
        # The block is read again.
        assert await stores.registry.scanned_height() == 0
    (laid,) = left_in(lone, REFUSED)
    assert "validation" in laid["reason"]


async def test_a_full_disk_lays_nothing_aside(lone: Databases, proxy: FaultProxy) -> None:
    await cut_short(lone, proxy)
    proxy.judge = refusing("zelappslocation", DISK_FULL)
    with pytest.raises(StoreError, match="no space") as caught:
        async with opened(lone, proxy):
            pytest.fail("it opened")
    assert "free some space" in caught.value.remedy
    assert left_in(lone, REFUSED) == []
    assert len(left_in(lone, journal.COLLECTION)) == 1
    proxy.judge = None
    async with opened(lone, proxy) as stores:
        assert set(await stores.rows()) == {"1.1.1.1", "2.2.2.2"}


async def test_a_commit_that_is_refused_before_its_first_write_never_was(
    lone: Databases, proxy: FaultProxy
) -> None:
    async with opened(lone, proxy) as stores:
        proxy.judge = refusing("appstateevents", INVALID)
        with pytest.raises(StoreError, match="failed validation"):
            await stores.events.commit(commit_of_the_log())
        proxy.judge = None
        assert left_in(lone, journal.COLLECTION) == []
        assert await stores.rows() == {}
        await stores.events.commit([put(running("4.4.4.4"))])
        assert set(await stores.rows()) == {"4.4.4.4"}
    assert left_in(lone, REFUSED) == []


async def test_a_running_node_goes_on_after_a_refusal_in_the_middle_of_a_commit(
    lone: Databases, proxy: FaultProxy
) -> None:
    async with opened(lone, proxy) as stores:
        proxy.judge = refusing("zelappslocation", INVALID)
        with pytest.raises(StoreError, match="failed validation"):
            await stores.events.commit(commit_of_the_log())
        assert set(await stores.rows()) == {"1.1.1.1", "2.2.2.2"}
        await stores.events.commit([put(running("4.4.4.4")), put(running("5.5.5.5"))])
        assert len(await stores.rows()) == 4
    assert len(left_in(lone, REFUSED)) == 1


async def test_a_document_no_server_takes_stops_nothing(lone: Databases) -> None:
    huge = running("9.9.9.9", data_text=f'{{"a":"{"x" * 17_000_000}"}}')
    async with opened(lone) as stores:
        # The driver sees it only when what comes before is under way.
        changes = [put(running("1.1.1.1")), PutLocation(location(1))]
        with pytest.raises(StoreError, match="cannot write"):
            await stores.events.commit([*changes, put(huge)])
        await stores.events.commit(changes)
        assert set(await stores.rows()) == {"1.1.1.1"}


# The end of the journal is not waited for


def losing_the_end(call: Call) -> Fault | None:
    is_end = call.document.get("delete") == journal.COLLECTION
    return (
        Fault(answer={"ok": 1.0}) if is_end and call.document.get("writeConcern", {}).get("w") == 0 else None
    )


async def test_a_commit_whose_journal_lingers_is_not_carried_out_over_later_ones(
    lone: Databases, proxy: FaultProxy
) -> None:
    async with opened(lone, proxy) as stores:
        proxy.judge = losing_the_end
        await stores.events.commit(commit_of_the_log())
        assert len(left_in(lone, journal.COLLECTION)) == 1
        # One single write needs no journal, but the former must be gone before it.
        await stores.events.commit([DeleteEvent(running("2.2.2.2").key)])
        proxy.down()
    proxy.up()
    async with opened(lone) as stores:
        assert set(await stores.rows()) == {"1.1.1.1"}


async def test_a_lingering_journal_is_replaced_or_emptied(lone: Databases, proxy: FaultProxy) -> None:
    async with opened(lone, proxy) as stores:
        proxy.judge = losing_the_end
        await stores.events.commit(commit_of_the_log())
        await stores.events.commit([put(running("5.5.5.5")), PutLocation(location(7))])
        (kept,) = left_in(lone, journal.COLLECTION)
        assert b"5.5.5.5" in kept["data"]
    # Closing waited for its end.
    assert left_in(lone, journal.COLLECTION) == []


async def test_parts_of_a_former_journal_do_not_mix_with_the_next(
    lone: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_PART_BYTES", 400)
    long = events_plan([put(running(f"1.1.1.{number}")) for number in range(3)], int)
    short = events_plan([DeleteEvent(running("1.1.1.1").key)], int)
    async with open_mongo(quick(lone.url, lone.prefix)) as server:

        def work() -> None:
            kept_by = Journal(server.database, "events")
            former, commit = ObjectId(), ObjectId()
            kept_by.keep(former, long)
            found = kept_by.kept()
            assert found is not None
            assert (found.commit, len(found.plan[0].writes)) == (former, 6)
            kept_by.keep(commit, short)
            found = kept_by.kept()
            assert found is not None
            assert (found.commit, len(found.plan[0].writes)) == (commit, 1)
            kept_by.clear_unanswered(commit)
            assert kept_by.kept() is None

        await trio.to_thread.run_sync(work)
