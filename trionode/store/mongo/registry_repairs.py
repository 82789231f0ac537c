"""What is brought into order in the registry's collections at start (docs/spec/registry.md §2, §14).

Also how a database that another node left behind is taken over. All functions block, and may be repeated:
a second run finds nothing to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from pymongo import ASCENDING, UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from trionode.runtime.logs import get_logger
from trionode.store.mongo.indexes import Index, Indexes, ensure, look
from trionode.store.mongo.registry_plan import CHAIN, CURRENT, HASHES, MESSAGES, SCANNED, TEMPORARIES, Place
from trionode.store.mongo.shapes_registry import LEGACY_SPEC, SPEC
from trionode.store.mongo.writes import Document

TEMPORARY_LIFE_S: Final = 3_600

INDEXES: Final[tuple[tuple[Place, tuple[Index, ...]], ...]] = (
    (HASHES, (Index(("hash",), unique=True), Index(("txid",)), Index(("height",)), Index(("message",)))),
    (
        MESSAGES,
        (
            Index(("hash",), unique=True),
            Index(("txid",)),
            Index(("height",)),
            *(Index((f"{SPEC}.{member}",)) for member in ("name", "owner", "repotag", "version", "nodes")),
            Index((f"{SPEC}.name", "-height")),
        ),
    ),
    (TEMPORARIES, (Index(("receivedAt",), expire_after_s=TEMPORARY_LIFE_S), Index(("hash",)))),
    (CURRENT, tuple(Index((member,)) for member in ("name", "owner", "repotag", "height", "hash"))),
    (CHAIN, (Index(("txid",)),)),
)

_OLD_INDEXES: Final = tuple(f"{LEGACY_SPEC}.{member}_1" for member in ("name", "owner", "repotag"))
_PAGE = 1_000

log = get_logger("store.mongo")

Databases = Callable[[str], Database[Document]]


def registry_indexes() -> list[tuple[str, Indexes]]:
    """The indexes of every collection of the registry, by database."""
    return [
        (place.database, Indexes(place.collection, indexes, _OLD_INDEXES if place == MESSAGES else ()))
        for place, indexes in INDEXES
    ]


def repair(databases: Databases) -> None:
    """Do all of it. Raises PyMongoError."""

    def of(place: Place) -> Collection[Document]:
        return databases(place.database)[place.collection]

    one_scanned_height(of(SCANNED))
    rename_old_specs(of(MESSAGES))
    for place in (HASHES, MESSAGES):
        _only_firsts(databases, place)
    for database, wanted in registry_indexes():
        ensure(databases(database), wanted)
    one_spec_per_name(of(CURRENT))
    amounts_from_payments(of(MESSAGES), of(HASHES))


def one_scanned_height(scanned: Collection[Document]) -> int:
    """Of several scanned heights the highest stays; how many were deleted."""
    found = list(scanned.find({"generalScannedHeight": {"$gte": 0}}).sort("generalScannedHeight", ASCENDING))
    return _delete(scanned, [document["_id"] for document in found[:-1]], "scanned heights")


def rename_old_specs(messages: Collection[Document]) -> int:
    """The old member `zelAppSpecifications` gets the name that all read today, as newer versions of the
    other node do it too; how many there were."""
    old = {LEGACY_SPEC: {"$exists": True}, SPEC: {"$exists": False}}
    count = messages.update_many(old, {"$rename": {LEGACY_SPEC: SPEC}}).modified_count
    if count:
        log.warning("messages of the oldest form were renamed", count=count)
    return count


def _only_firsts(databases: Databases, place: Place) -> None:
    """Of documents with one hash the first stays; only looked at while nothing keeps others out."""
    wanted = Indexes(place.collection, (Index(("hash",), unique=True),))
    database = databases(place.database)
    if look(database, wanted).is_clean:
        return
    collection = database[place.collection]
    seen: set[str] = set()
    doomed: list[Any] = []
    for document in collection.find({}, {"hash": 1}).sort("_id", ASCENDING):
        if repr(document.get("hash")) in seen:
            doomed.append(document["_id"])
        seen.add(repr(document.get("hash")))
    _delete(collection, doomed, "documents with a hash that was there before")


def one_spec_per_name(current: Collection[Document]) -> int:
    """Of several current specifications of one name the one with the greatest height stays."""
    found = current.find({}, {"name": 1, "height": 1, "trionode": 1}).sort("name", ASCENDING)
    doomed = [document["_id"] for documents in _by_name(found) for document in _all_but_newest(documents)]
    return _delete(current, doomed, "outdated specifications")


def _by_name(found: Iterable[Document]) -> Iterator[list[Document]]:
    for _, documents in groupby(found, key=lambda document: document.get("name")):
        yield list(documents)


def _all_but_newest(documents: list[Document]) -> list[Document]:
    if len(documents) == 1 or any("trionode" in document for document in documents):
        return []
    return sorted(documents, key=lambda document: (document.get("height") or 0, document["_id"]))[:-1]


def amounts_from_payments(messages: Collection[Document], payments: Collection[Document]) -> int:
    """Messages whose amount is no number get that of their payment; how many there were."""
    broken = [document["hash"] for document in messages.find({"valueSat": math.nan}, {"hash": 1})]
    repaired = 0
    for start in range(0, len(broken), _PAGE):
        paid = payments.find({"hash": {"$in": broken[start : start + _PAGE]}}, {"hash": 1, "value": 1})
        updates = [
            UpdateOne({"hash": payment["hash"]}, {"$set": {"valueSat": payment["value"]}}) for payment in paid
        ]
        if updates:
            repaired += messages.bulk_write(updates, ordered=False).modified_count
    if repaired:
        log.warning("amounts were taken from their payments", count=repaired, broken=len(broken))
    return repaired


def _delete(collection: Collection[Document], ids: list[Any], what: str) -> int:
    for start in range(0, len(ids), _PAGE):
        collection.delete_many({"_id": {"$in": ids[start : start + _PAGE]}})
    if ids:
        log.warning(f"{what} are deleted", collection=collection.name, count=len(ids))
    return len(ids)
