"""What of an old commit is still done after another node has worked: nothing that replaces newer rows."""

from __future__ import annotations

from typing import Any

import pytest
from mongorows import AT_MS, location, put, running, signed_copy

from trionode.appstate.changes import (
    Change,
    DeleteCopy,
    DeleteEvent,
    DeleteInstallError,
    DeleteInstalling,
    DeleteLocation,
    PutCopy,
    PutInstallError,
    PutInstalling,
    PutLocation,
    TouchEvent,
)
from trionode.appstate.documents import EventRow, InstallErrorRow, InstallingRow
from trionode.registry.changes import (
    AddHashes,
    AddPermanents,
    ClearCurrent,
    PutBlockHash,
    PutCurrent,
    PutMeta,
    RegistryChange,
    ResolveHashes,
    Rewind,
    SetScannedHeight,
    UpdateHashes,
)
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow
from trionode.store.mongo.events_plan import plan as events_plan
from trionode.store.mongo.guarded import current_names, guarded
from trionode.store.mongo.registry_plan import Facts
from trionode.store.mongo.registry_plan import plan as registry_plan
from trionode.store.mongo.values import date
from trionode.store.mongo.writes import Delete, Insert, Replace, Update, Write, Writes

PAID = HashRow.found("t", 10, "h", 5)
MESSAGE = PermanentRow("h", "fluxappregister", 1, '{"name":"A"}', "A", "me", 1, "sig", "t", 10, 5)
GONE = EventRow("1.1.1.1", "evicted", "evicted", AT_MS + 9, created_at_ms=AT_MS, received_at_ms=AT_MS)


def writes_of(parts: list[Writes]) -> dict[str, list[Write]]:
    return {part.collection: list(part.writes) for part in parts}


def after_another(*changes: Change) -> dict[str, list[Write]]:
    left, _ = guarded(events_plan(changes, lambda row_id: row_id), AT_MS, {}, 10)
    return writes_of(left)


def registry_parts(*changes: RegistryChange) -> list[Writes]:
    ids = iter(range(100))
    return registry_plan(changes, Facts({}, {}, frozenset(), {9: "aa"}, 9), lambda: next(ids))[0]


NOT_LATER = {"$not": {"$gt": date(AT_MS)}}
NONE_LATER = dict.fromkeys(("broadcastedAt", "createdAt", "receivedAt"), NOT_LATER)


@pytest.mark.parametrize(
    ("change", "collection", "where"),
    [
        (DeleteEvent(running().key), "appstateevents", {"ip": "1.2.3.4", "type": "apprunning"}),
        (DeleteLocation(3, "A", "1.2.3.4"), "zelappslocation", {"_id": 3}),
        (DeleteInstalling("1.2.3.4", "A"), "appsinstallinglocations", {"name": "A"}),
        (DeleteInstallError("1.2.3.4", "A", "h"), "appsInstallingErrorsLocations", {"hash": "h"}),
        (DeleteCopy(("installing", "1.2.3.4", "A", "")), "fluxappinstallingbroadcasts", {"data.name": "A"}),
    ],
)
def test_what_is_newer_than_the_commit_is_not_deleted(
    change: Change, collection: str, where: dict[str, Any]
) -> None:
    (write,) = after_another(change)[collection]
    assert isinstance(write, Delete)
    assert where.items() <= dict(write.where).items()
    assert NONE_LATER.items() <= dict(write.where).items()


@pytest.mark.parametrize(
    ("change", "collection", "upsert"),
    [
        (PutLocation(location(3)), "zelappslocation", False),
        (PutInstalling(InstallingRow("A", "1.2.3.4", AT_MS, AT_MS + 9)), "appsinstallinglocations", False),
        (
            PutInstallError(InstallErrorRow("A", "h", "1.2.3.4", "boom", AT_MS, AT_MS + 9)),
            "appsInstallingErrorsLocations",
            False,
        ),
        # The unique index of the copies keeps a second one out.
        (PutCopy(signed_copy("A")), "fluxappinstallingbroadcasts", True),
    ],
)
def test_rows_replace_only_what_is_not_later(change: Change, collection: str, upsert: bool) -> None:
    (write,) = after_another(change)[collection]
    assert isinstance(write, Replace)
    assert write.where["broadcastedAt"] == NOT_LATER
    assert write.upsert is upsert


def test_events_are_added_or_replace_older_ones() -> None:
    add, replace = after_another(put(running()))["appstateevents"]
    assert isinstance(add, Update)
    assert list(add.update) == ["$setOnInsert"]
    assert isinstance(replace, Update)
    assert not replace.upsert
    assert {"broadcastedAt": {"$lt": date(AT_MS)}} in replace.where["$or"]
    (touch,) = after_another(TouchEvent(running().key, AT_MS + 7))["appstateevents"]
    assert isinstance(touch, Update)
    assert touch.update == {"$max": {"receivedAt": date(AT_MS + 7)}}
    (evicted,) = after_another(put(GONE))["appstateevents"]
    assert isinstance(evicted, Update)
    assert list(evicted.update) == ["$setOnInsert"]


def test_no_place_in_the_chain_is_taken_over() -> None:
    parts = registry_parts(
        Rewind(5, apps=True),
        PutBlockHash(10, "bb"),
        SetScannedHeight(10),
        UpdateHashes((PAID,)),
        PutMeta("hashSyncVersion", "1"),
    )
    assert {"scannedheight", "zelappshashes", "zelappsmessages", "trionodeblockhashes"} <= {
        part.collection for part in parts
    }
    left, dropped = guarded(parts, AT_MS, {}, 10)
    assert left == []
    assert sum(dropped.values()) == sum(len(part.writes) for part in parts)


def test_what_is_only_added_is_added() -> None:
    parts = registry_parts(
        AddHashes((PAID,)), AddPermanents((MESSAGE,)), ResolveHashes(("h",)), PutMeta("mine", "1")
    )
    left, dropped = guarded(parts, AT_MS, {}, 10)
    assert writes_of(left) == writes_of(parts)
    assert dropped == {}
    assert isinstance(writes_of(left)["zelappsmessages"][0], Insert)


def test_payments_of_blocks_that_are_read_again_come_with_them() -> None:
    left, dropped = guarded(registry_parts(AddHashes((PAID,))), AT_MS, {}, PAID.height - 1)
    assert left == []
    assert dropped == {"zelappshashes": 1}


@pytest.mark.parametrize(("here", "left"), [(None, 1), (9, 1), (10, 1), (11, 0)])
def test_a_specification_never_replaces_one_of_a_greater_height(here: int | None, left: int) -> None:
    parts = registry_parts(PutCurrent(CurrentSpec("A", '{"name":"A"}', "h", 10)))
    assert current_names(parts) == ["A"]
    found, _ = guarded(parts, AT_MS, {} if here is None else {"A": here}, 10)
    assert len(found) == left


def test_the_list_of_specifications_is_not_emptied() -> None:
    parts = registry_parts(ClearCurrent(), PutCurrent(CurrentSpec("A", '{"name":"A"}', "h", 10)))
    ((part,), dropped) = guarded(parts, AT_MS, {"B": 50}, 10)
    assert [type(write) for write in part.writes] == [Replace]
    assert dropped == {"zelappsinformation": 1}
