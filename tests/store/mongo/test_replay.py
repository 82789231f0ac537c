"""Another node worked with the database after a commit was cut short, or the end of a journal got lost.

Whatever it was: the node starts, and nothing newer and nothing acknowledged is gone.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from bson import ObjectId
from faultproxy import Call, Fault, FaultProxy
from mongolone import (
    FIRST_WRITE,
    LATER_SPEC,
    MESSAGE,
    Opened,
    commit_of_the_log,
    commit_of_the_registry,
    cut_short,
    findings,
    left_in,
    of,
    opened,
)
from mongorows import AT_MS, location, put, quick, running
from mongoserver import Databases

from trionode.appstate.changes import DeleteEvent, DeleteLocation, PutLocation
from trionode.registry.rows import CurrentSpec
from trionode.store.mongo import connection, journal
from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.events_plan import plan as events_plan
from trionode.store.mongo.journal import Journal
from trionode.store.mongo.values import date

pytestmark = [pytest.mark.trio, pytest.mark.process]


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


async def test_nothing_of_another_node_is_replaced(lone: Databases, lone_door: FaultProxy) -> None:
    async def before(stores: Opened) -> None:
        await stores.events.commit([put(running("1.1.1.1")), put(running("3.3.3.3"))])
        await stores.events.commit([PutLocation(location(1)), PutLocation(location(2))])

    changes = [
        *commit_of_the_log(),
        DeleteEvent(running("3.3.3.3").key),
        DeleteLocation(2, "AppA", "1.2.3.4"),
    ]
    await cut_short(lone, lone_door, changes, before=before)
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
    lone: Databases, lone_door: FaultProxy, step: int
) -> None:
    async def before(stores: Opened) -> None:
        await stores.registry.set_scanned_height(999)

    await cut_short(lone, lone_door, registry=commit_of_the_registry(), before=before, step=step)
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
async def test_each_sign_of_another_node_is_enough(lone: Databases, lone_door: FaultProxy, sign: str) -> None:
    await cut_short(lone, lone_door, registry=commit_of_the_registry(), step=FIRST_WRITE)
    another_node(lone, sign)
    async with opened(lone) as stores:
        assert await stores.registry.scanned_height() == (900 if sign == "blocks" else 0)
        assert stores.counters["store.mongo.dropped_writes"] > 0


async def test_a_heartbeat_of_our_own_is_no_sign(lone: Databases, lone_door: FaultProxy) -> None:
    async def before(stores: Opened) -> None:
        await stores.events.put_meta("heartbeat", f'{{"lastAlive":{AT_MS},"machineBootId":"b"}}')

    await cut_short(lone, lone_door, registry=commit_of_the_registry(), before=before, step=FIRST_WRITE)
    async with opened(lone) as stores:
        assert await stores.registry.scanned_height() == 1002
        assert await stores.registry.current("App") == CurrentSpec.of(MESSAGE)
        assert stores.counters["store.mongo.dropped_writes"] == 0
        # The next life has seen that heartbeat, and writes others.
        await stores.events.put_meta("heartbeat", f'{{"lastAlive":{AT_MS + 9},"machineBootId":"b"}}')
        assert (await findings(lone, journal.COLLECTION)) == []


# A journal that cannot be read


@pytest.mark.parametrize(
    "damage",
    [
        {"$set": {"data": b"\x05\x00\x00"}},
        {"$set": {"data": b"\x05\x00\x00\x00\x00", "size": 5}},
        {"$set": {"since": "noon"}},
        {"$set": {"commit": 1}},
        {"$unset": {"part": 1}},
    ],
)
async def test_a_damaged_journal_is_told_with_the_way_out(
    lone: Databases, lone_door: FaultProxy, damage: dict[str, Any]
) -> None:
    async with opened(lone) as stores:
        await stores.events.commit([put(running("9.9.9.9"))])
    await cut_short(lone, lone_door)
    with lone.server.client() as client:
        kept = of(client, lone, journal.DATABASE, journal.COLLECTION)
        assert kept.update_many({}, damage).modified_count
        (found,) = await findings(lone, journal.COLLECTION)
        assert (found.severity, found.count) == ("problem", 1)
        with pytest.raises(journal.DamagedJournalError, match="journal of a commit of events") as caught:
            async with opened(lone):
                pass
        way_out = (
            f'db.getSiblingDB("{lone.prefix}zelfluxlocal").trionodejournal.deleteMany({{scope: "events"}})'
        )
        assert caught.value.remedy.endswith(way_out)
        assert way_out in found.examples[0]
        assert kept.delete_many({"scope": "events"}).deleted_count == 1
    async with opened(lone) as stores:
        assert list(await stores.rows()) == ["9.9.9.9"]


# The end of the journal is not waited for


def losing_the_end(call: Call) -> Fault | None:
    is_end = call.document.get("delete") == journal.COLLECTION
    return (
        Fault(answer={"ok": 1.0}) if is_end and call.document.get("writeConcern", {}).get("w") == 0 else None
    )


async def test_a_commit_whose_journal_lingers_is_not_carried_out_over_later_ones(
    lone: Databases, lone_door: FaultProxy
) -> None:
    async with opened(lone, lone_door) as stores:
        lone_door.judge = losing_the_end
        await stores.events.commit(commit_of_the_log())
        assert len(left_in(lone, journal.COLLECTION)) == 1
        # One single write needs no journal, but the former must be gone before it.
        await stores.events.commit([DeleteEvent(running("2.2.2.2").key)])
        lone_door.down()
    lone_door.up()
    async with opened(lone) as stores:
        assert set(await stores.rows()) == {"1.1.1.1"}


async def test_a_lingering_journal_is_replaced_or_emptied(
    lone: Databases, lone_door: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_SETTLE_S", 60.0)
    async with opened(lone, lone_door) as stores:
        lone_door.judge = losing_the_end
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
