"""The database refuses a write of a commit that is cut short, or under way, on a server without transactions.

What is refused for good is laid aside and told, and the node starts; a full disk waits for a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from faultproxy import DISK_FULL, Call, Fault, FaultProxy
from mongolone import (
    FIRST_WRITE,
    MESSAGE,
    commit_of_the_log,
    commit_of_the_registry,
    cut_short,
    findings,
    left_in,
    opened,
)
from mongorows import location, put, running
from mongoserver import Databases

from trionode.appstate.changes import PutLocation
from trionode.errors import StoreError
from trionode.store.mongo import journal
from trionode.store.mongo.replay import REFUSED

pytestmark = [pytest.mark.trio, pytest.mark.process]


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
    lone: Databases, lone_door: FaultProxy, answer: dict[str, Any]
) -> None:
    await cut_short(lone, lone_door)
    lone_door.judge = refusing("zelappslocation", answer)
    async with opened(lone, lone_door) as stores:
        assert set(await stores.rows()) == {"1.1.1.1", "2.2.2.2"}
        assert stores.counters["store.mongo.refused_writes"] == 1
        lone_door.judge = None
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
    lone: Databases, lone_door: FaultProxy
) -> None:
    await cut_short(lone, lone_door, registry=commit_of_the_registry(), step=FIRST_WRITE)
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


async def test_a_full_disk_lays_nothing_aside(lone: Databases, lone_door: FaultProxy) -> None:
    await cut_short(lone, lone_door)
    lone_door.judge = refusing("zelappslocation", DISK_FULL)
    with pytest.raises(StoreError, match="no space") as caught:
        async with opened(lone, lone_door):
            pytest.fail("it opened")
    assert "free some space" in caught.value.remedy
    assert left_in(lone, REFUSED) == []
    assert len(left_in(lone, journal.COLLECTION)) == 1
    lone_door.judge = None
    async with opened(lone, lone_door) as stores:
        assert set(await stores.rows()) == {"1.1.1.1", "2.2.2.2"}


async def test_a_commit_that_is_refused_before_its_first_write_never_was(
    lone: Databases, lone_door: FaultProxy
) -> None:
    async with opened(lone, lone_door) as stores:
        lone_door.judge = refusing("appstateevents", INVALID)
        with pytest.raises(StoreError, match="failed validation"):
            await stores.events.commit(commit_of_the_log())
        lone_door.judge = None
        assert left_in(lone, journal.COLLECTION) == []
        assert await stores.rows() == {}
        await stores.events.commit([put(running("4.4.4.4"))])
        assert set(await stores.rows()) == {"4.4.4.4"}
    assert left_in(lone, REFUSED) == []


async def test_a_running_node_goes_on_after_a_refusal_in_the_middle_of_a_commit(
    lone: Databases, lone_door: FaultProxy
) -> None:
    async with opened(lone, lone_door) as stores:
        lone_door.judge = refusing("zelappslocation", INVALID)
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
