"""A database that another node left behind is checked, repaired by starting, continued, and readable again.

The documents are written by the plain driver in the shapes of docs/spec/events.md §2, §3 and registry.md §2,
with the flaws that such databases have; in the end they are read with the plain driver too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from mongoserver import Databases
from nodedata import message, payment
from rig import running_log

from trionode.appstate.documents import EventRow, LocationRow
from trionode.cli import exitcodes
from trionode.cli.main import call
from trionode.config.tree import StoreSettings
from trionode.registry.changes import AddHashes, AddPermanents, PutCurrent, SetScannedHeight
from trionode.registry.rows import CurrentSpec
from trionode.store.open import Stores, open_stores
from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import parse, stringify

pytestmark = pytest.mark.process

NOW = datetime.now(UTC).replace(microsecond=0)
NOW_MS = int(NOW.timestamp() * 1000)
LATER = NOW + timedelta(hours=2)


def event(ip: str, *names: str) -> dict[str, Any]:
    return {
        "ip": ip,
        "type": "apprunning",
        "dedupKey": "v2",
        "broadcastedAt": NOW,
        "data": {
            "type": "fluxapprunning",
            "version": 2,
            "apps": [{"name": name, "hash": f"hash of {name}", "runningSince": 1.5e12} for name in names],
            "ip": ip,
            "broadcastedAt": float(NOW_MS),
            "osUptime": 1234.5,
            "staticIp": True,
        },
        "envelope": {"version": 1, "timestamp": float(NOW_MS), "pubKey": "04aa", "signature": "c2ln"},
        "expireAt": LATER,
        "receivedAt": NOW,
    }


def location(name: str, ip: str, at: datetime = NOW) -> dict[str, Any]:
    return {
        "name": name,
        "ip": ip,
        "broadcastedAt": at,
        "expireAt": LATER,
        "hash": f"hash of {name}",
        "osUptime": 1234.5,
        "runningSince": at,
        "staticIp": None,
    }


def spec(name: str) -> dict[str, Any]:
    return {
        "version": 3,
        "name": name,
        "description": "$cost",
        "owner": "1Owner",
        "ports": [31000],
        "cpu": 0.5,
    }


def paid(name: str, number: int, member: str = "appSpecifications") -> dict[str, Any]:
    return {
        "type": "fluxappregister",
        "version": 1,
        member: spec(name),
        "hash": f"{number:064x}",
        "timestamp": 1.7e12,
        "signature": "sig",
        "txid": f"tx{number}",
        "height": 1000 + number,
        "valueSat": 100_000_000 * number,
    }


def on_chain(number: int, message: bool) -> dict[str, Any]:
    return {
        "txid": f"tx{number}",
        "height": 1000 + number,
        "hash": f"{number:064x}",
        "value": 5_000_000_000 + number,
        "message": message,
        "messageNotFound": False,
    }


class Left:
    """The databases as the other node left them."""

    def __init__(self, client: Any, prefix: str) -> None:
        self.of = lambda name: client[prefix + name]
        shared, daemon = self.of("globalzelapps"), self.of("zelcashdata")
        shared.appstateevents.insert_many([event("1.1.1.1", "AppA", "AppB"), event("2.2.2.2:16137", "AppA")])
        # Another kind of index than today's, and one of an old version.
        shared.appstateevents.create_index("createdAt", name="other", sparse=True)
        shared.zelappslocation.create_index("broadcastedAt")
        shared.zelappslocation.insert_many(
            [
                location("AppA", "1.1.1.1", NOW - timedelta(minutes=5)),
                location("AppA", "1.1.1.1"),
                location("AppB", "1.1.1.1"),
                location("Orphan", "3.3.3.3"),
            ]
        )
        daemon.scannedheight.insert_many([{"generalScannedHeight": 1003}, {"generalScannedHeight": 1002}])
        daemon.zelappshashes.insert_many(
            [on_chain(1, True), on_chain(2, True), on_chain(3, True), on_chain(4, False)]
        )
        nan = paid("AppB", 2) | {"valueSat": math.nan}
        shared.zelappsmessages.insert_many([paid("AppA", 1), nan, paid("Old", 3, "zelAppSpecifications")])
        shared.zelappsinformation.insert_many(
            [
                spec("AppA") | {"hash": f"{1:064x}", "height": 1001},
                spec("AppB") | {"hash": f"{2:064x}", "height": 1002},
            ]
        )
        self.of("zelfluxlocal").nodestartuptracker.insert_one(
            {"_id": "heartbeat", "lastAlive": float(NOW_MS), "machineBootId": "boot-1"}
        )


@pytest.fixture
def left(mongo: Databases) -> Iterator[Left]:
    with mongo.server.client() as client:
        yield Left(client, mongo.prefix)


def opened(mongo: Databases) -> Any:
    return open_stores(StoreSettings(url=mongo.url, mongo_prefix=mongo.prefix, mongo_call_s=300.0), Path())


def checked(mongo: Databases, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code = call(["store", "check", mongo.url, "--prefix", mongo.prefix, "--json"])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == exitcodes.OK, report
    return report


def told(report: dict[str, Any], severity: str) -> set[tuple[str, str, int]]:
    return {
        (found["where"].rpartition(".")[2], found["what"], found["count"])
        for found in report["findings"]
        if found["severity"] == severity
    }


def snapshot(mongo: Databases) -> dict[str, Any]:
    with mongo.server.client() as client:
        names = [name for name in client.list_database_names() if name.startswith(mongo.prefix)]
        return {
            f"{name}.{collection}": (
                repr(list(client[name][collection].find())),
                repr(client[name][collection].index_information()),
            )
            for name in names
            for collection in client[name].list_collection_names()
        }


def test_the_check_names_every_flaw_and_changes_nothing(
    mongo: Databases, left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(mongo)
    report = checked(mongo, capsys)
    assert snapshot(mongo) == before
    assert dict(report["holds"])["globalzelapps.zelappslocation"] == 4
    assert report["facts"]["read to block"] == "1003"
    repairs, notes = told(report, "repair"), told(report, "note")
    assert {
        ("appstateevents", "missing indexes", 3),
        ("appstateevents", "indexes with other options", 1),
        ("zelappslocation", "indexes of an older version", 1),
        ("scannedheight", "more than one scanned height", 1),
        ("zelappsmessages", "amounts that are no number", 1),
        ("zelappsmessages", "rows of the oldest form", 1),
    } <= repairs
    assert notes == {
        ("locations", "rows of the same app and address", 1),
        ("locations", "locations without an event that says so", 1),
        ("events", "running apps without their location row", 1),
    }


def test_a_copy_refuses_a_database_that_is_in_use_and_changes_nothing(
    mongo: Databases, left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"sqlite:{tmp_path / 'events.sqlite'}"

    async def make_source() -> None:
        async with open_stores(StoreSettings(url=source), tmp_path):
            pass

    trio.run(make_source)
    before = snapshot(mongo)
    code = call(["store", "copy", source, mongo.url, "--to-prefix", mongo.prefix])
    assert code == exitcodes.FAILURE
    assert "is not empty: it holds" in capsys.readouterr().err
    assert snapshot(mongo) == before


def test_starting_repairs_and_nothing_is_lost(
    mongo: Databases, left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(stores: Stores) -> None:
        rows = [row async for row in stores.events.load()]
        events = {row.ip: row for row in rows if isinstance(row, EventRow)}
        assert set(events) == {"1.1.1.1", "2.2.2.2:16137"}
        text = events["1.1.1.1"].data_text
        assert text is not None
        assert text.startswith(
            '{"type":"fluxapprunning","version":2,"apps":[{"name":"AppA","hash":"hash of AppA"'
        )
        assert f'"broadcastedAt":{NOW_MS},"osUptime":1234.5,"staticIp":true}}' in text
        assert sum(isinstance(row, LocationRow) for row in rows) == 4
        found = [row async for row in stores.registry.stream_permanents()]
        assert [(row.name, row.value_sat) for row in found] == [
            ("AppA", 100_000_000),
            ("AppB", 5_000_000_002),
            ("Old", 300_000_000),
        ]
        assert json.loads(found[0].spec_text) == spec("AppA")
        assert await stores.registry.scanned_height() == 1003
        assert (await stores.registry.hash_counts()).missing == 1
        beat = await stores.events.get_meta("heartbeat")
        assert beat is not None
        assert parse(beat) == {"lastAlive": NOW_MS, "machineBootId": "boot-1"}

    async def run() -> None:
        async with opened(mongo) as stores:
            await work(stores)

    trio.run(run)
    report = checked(mongo, capsys)
    assert told(report, "repair") == set()
    assert list(left.of("zelcashdata").scannedheight.find({}, {"_id": 0})) == [{"generalScannedHeight": 1003}]
    assert (
        left.of("globalzelapps").zelappsmessages.count_documents({"zelAppSpecifications": {"$exists": True}})
        == 0
    )


def test_what_is_written_then_can_be_read_by_the_other_node(
    mongo: Databases, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {
        "type": "fluxapprunning",
        "version": 2,
        "apps": [{"name": "AppC", "hash": "$h"}],
        "ip": "1.1.1.1",
        "broadcastedAt": NOW_MS + 1000,
        "osUptime": 99.5,
        "staticIp": False,
    }

    async def run() -> None:
        async with opened(mongo) as stores:
            async with running_log(stores.events) as rig:
                monkeypatch.setattr(rig.clock, "now_ms", lambda: NOW_MS + 2000)
                envelope = Envelope(1, NOW_MS + 1000, "pk", "s", data, stringify(data))
                assert (await rig.log.ingest(envelope)).accepted
            row = message(7)
            await stores.registry.commit(
                [
                    AddHashes((payment(7, message=True),)),
                    AddPermanents((row,)),
                    PutCurrent(CurrentSpec.of(row)),
                    SetScannedHeight(1010),
                ]
            )
            await stores.events.put_meta("heartbeat", f'{{"lastAlive":{NOW_MS},"machineBootId":"boot-2"}}')

    trio.run(run)
    shared, daemon = left.of("globalzelapps"), left.of("zelcashdata")
    found = shared.appstateevents.find_one({"ip": "1.1.1.1"})
    assert list(found["data"].items()) == list(data.items()), "order and values as they were signed"
    assert found["broadcastedAt"] == (NOW + timedelta(seconds=1)).replace(tzinfo=None)
    assert set(found) == set(shared.appstateevents.find_one({"ip": "2.2.2.2:16137"}))
    assert found["envelope"] == {"version": 1, "timestamp": NOW_MS + 1000, "pubKey": "pk", "signature": "s"}
    row = shared.zelappslocation.find_one({"name": "AppC"})
    assert set(row) == set(location("x", "y")) | {"_id"}
    assert (row["hash"], row["osUptime"], row["staticIp"]) == ("$h", 99.5, False)
    assert all(isinstance(row[name], datetime) for name in ("broadcastedAt", "expireAt", "runningSince"))
    row = shared.zelappsmessages.find_one({"hash": message(7).hash})
    assert set(row) == set(paid("x", 1)) | {"_id"}
    assert stringify(row["appSpecifications"]) == message(7).spec_text
    current = shared.zelappsinformation.find_one({"hash": message(7).hash})
    assert list(current)[-2:] == ["hash", "height"]
    paid_row = daemon.zelappshashes.find_one({"hash": message(7).hash})
    assert set(paid_row) == {
        *("_id", "txid", "height", "hash", "value", "message"),
        *("messageNotFound", "syncAttempts", "nextRetryHeight", "retryFromHeight"),
    }
    assert list(daemon.scannedheight.find({}, {"_id": 0})) == [{"generalScannedHeight": 1010}]
    beat = left.of("zelfluxlocal").nodestartuptracker.find_one({"_id": "heartbeat"})
    assert beat == {"_id": "heartbeat", "lastAlive": NOW_MS, "machineBootId": "boot-2"}
    index = shared.zelappslocation.index_information()
    assert index["expireAt_1"]["expireAfterSeconds"] == 0
