"""Indexes: create what is missing, replace what conflicts, as at every start of a node (events.md §2).

All functions block, and may be repeated: a second run finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from bson.datetime_ms import DatetimeMS
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure

from trionode.runtime.logs import get_logger
from trionode.store.mongo.writes import Document

_GONE = (26, 27)  # no such collection, no such index
_REPAIR_PAGE = 1000

log = get_logger("store.mongo")


class Index(msgspec.Struct, frozen=True):
    """One index of a collection; members ascending, those written with a "-" before them descending."""

    keys: tuple[str, ...]
    unique: bool = False
    expire_after_s: int | None = None

    @property
    def model(self) -> IndexModel:
        options: dict[str, Any] = {"unique": True} if self.unique else {}
        if self.expire_after_s is not None:
            options["expireAfterSeconds"] = self.expire_after_s
        return IndexModel([_direction(key) for key in self.keys], **options)

    @property
    def name(self) -> str:
        return "_".join(f"{member}_{direction}" for member, direction in map(_direction, self.keys))


class Indexes(msgspec.Struct, frozen=True):
    """The indexes of one collection, and the names of those that older versions left behind."""

    collection: str
    indexes: tuple[Index, ...]
    outdated: tuple[str, ...] = ()


class IndexReport(msgspec.Struct, frozen=True):
    """What had to be done, or would have to be."""

    collection: str
    missing: tuple[str, ...] = ()
    conflicting: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.conflicting or self.outdated)


def look(database: Database[Document], wanted: Indexes) -> IndexReport:
    """What `ensure` would do."""
    existing = _existing(database[wanted.collection])
    missing: list[str] = []
    conflicting: list[str] = []
    for index in wanted.indexes:
        same_keys = [found for found in existing if _keys(found) == index.keys]
        if not same_keys:
            missing.append(index.name)
        elif not any(_is_same(found, index) for found in same_keys):
            conflicting += [found["name"] for found in same_keys]
    right = {found["name"] for found in existing for index in wanted.indexes if _is_same(found, index)}
    names = {found["name"] for found in existing} - right - set(conflicting)
    outdated = tuple(name for name in wanted.outdated if name in names)
    return IndexReport(wanted.collection, tuple(missing), tuple(conflicting), outdated)


def ensure(database: Database[Document], wanted: Indexes) -> IndexReport:
    """Bring the indexes of one collection into order; returns what was done. Raises PyMongoError."""
    report = look(database, wanted)
    if report.is_clean:
        return report
    collection = database[wanted.collection]
    for name in (*report.outdated, *report.conflicting):
        _drop(collection, name)
    try:
        collection.create_indexes([index.model for index in wanted.indexes])
    except OperationFailure:
        for index in wanted.indexes:
            _create(collection, index)
    if report.conflicting or report.outdated:
        log.warning("indexes were replaced", collection=wanted.collection, names=report.conflicting)
    return report


def _create(collection: Collection[Document], index: Index) -> None:
    try:
        collection.create_indexes([index.model])
    except DuplicateKeyError:
        _repair_duplicates(collection, index)
    except OperationFailure as error:
        if error.code == 11000:
            _repair_duplicates(collection, index)
        elif error.code in (85, 86):
            for found in _existing(collection):
                if _keys(found) == index.keys or found["name"] == index.name:
                    _drop(collection, found["name"])
            collection.create_indexes([index.model])
        else:
            raise


def _repair_duplicates(collection: Collection[Document], index: Index) -> None:
    doomed = duplicates(collection, index.keys)
    log.warning("duplicate documents are deleted", collection=collection.name, count=len(doomed))
    for start in range(0, len(doomed), _REPAIR_PAGE):
        collection.delete_many({"_id": {"$in": doomed[start : start + _REPAIR_PAGE]}})
    collection.create_indexes([index.model])


def duplicates(collection: Collection[Document], keys: Sequence[str]) -> list[Any]:
    """`_id` of every document that shares its keys with a newer one."""
    wanted = dict.fromkeys((*keys, "broadcastedAt", "createdAt"), 1)
    newest: dict[tuple[str, ...], tuple[int, Any]] = {}
    doomed: list[Any] = []
    for document in collection.find({}, wanted).sort("_id", ASCENDING):
        key = tuple(repr(_member(document, name)) for name in keys)
        at = document.get("broadcastedAt") or document.get("createdAt")
        at_ms = int(at) if isinstance(at, DatetimeMS | int | float) else 0
        kept = newest.get(key)
        if kept is None or at_ms >= kept[0]:
            newest[key] = (at_ms, document["_id"])
            if kept is not None:
                doomed.append(kept[1])
        else:
            doomed.append(document["_id"])
    return doomed


def _member(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _existing(collection: Collection[Document]) -> list[Document]:
    try:
        return [dict(found) for found in collection.list_indexes()]
    except OperationFailure as error:
        if error.code in _GONE:
            return []
        raise


def _keys(found: Document) -> tuple[str, ...]:
    return tuple(name if direction == 1 else f"-{name}" for name, direction in found["key"].items())


def _direction(key: str) -> tuple[str, int]:
    return (key[1:], DESCENDING) if key.startswith("-") else (key, ASCENDING)


def _is_same(found: Document, index: Index) -> bool:
    return (
        _keys(found) == index.keys
        and bool(found.get("unique")) == index.unique
        and found.get("expireAfterSeconds") == index.expire_after_s
        and not any(found.get(option) for option in ("sparse", "partialFilterExpression", "collation"))
    )


def _drop(collection: Collection[Document], name: str) -> None:
    try:
        collection.drop_index(name)
    except OperationFailure as error:
        if error.code not in _GONE:
            raise
