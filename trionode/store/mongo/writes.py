"""Writes as plain data: what a commit does to the collections, so that it can be kept and repeated.

A commit may be applied twice (after a lost answer, or from the journal), so every write must be harmless
when repeated: whole documents, fixed values, no counting up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from bson import ObjectId
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateOne

Document: TypeAlias = dict[str, Any]
Filter: TypeAlias = Mapping[str, Any]


class Insert(msgspec.Struct, frozen=True, gc=False):
    """A new document. It must not exist; its `_id` is chosen here when it has none."""

    document: Document


class Replace(msgspec.Struct, frozen=True, gc=False):
    """The first match becomes this document, members in this order; without a match it is added."""

    where: Filter
    document: Document
    upsert: bool = True


class Update(msgspec.Struct, frozen=True, gc=False):
    """Update operators ($set, $unset, $setOnInsert) on the first match."""

    where: Filter
    update: Mapping[str, Any]
    upsert: bool = False


class Delete(msgspec.Struct, frozen=True, gc=False):
    """The first match goes, or with `many` every match."""

    where: Filter
    many: bool = False


Write: TypeAlias = Insert | Replace | Update | Delete


class Writes(msgspec.Struct, frozen=True, gc=False):
    """Writes to one collection, in order. Equal kinds next to each other share a round trip."""

    database: str
    """Without the prefix."""
    collection: str
    writes: Sequence[Write]
    based_on: int | None = None
    """What was there when this was planned, where one number tells it (the scanned height)."""


Operation: TypeAlias = InsertOne[Document] | ReplaceOne[Document] | UpdateOne | DeleteOne | DeleteMany


def operation(write: Write, *, repeated: bool = False) -> Operation:
    """The driver's form. `repeated`: it may have been applied before, so an insert must not collide."""
    match write:
        case Insert(document=document):
            document.setdefault("_id", ObjectId())
            if repeated:
                return ReplaceOne({"_id": document["_id"]}, document, upsert=True)
            return InsertOne(document)
        case Replace(where=where, document=document, upsert=upsert):
            return ReplaceOne(where, document, upsert=upsert)
        case Update(where=where, update=update, upsert=upsert):
            return UpdateOne(where, update, upsert=upsert)
        case Delete(where=where, many=many):
            return DeleteMany(where) if many else DeleteOne(where)


def to_document(writes: Writes) -> Document:
    """The form in which the journal keeps them."""
    return {
        "database": writes.database,
        "collection": writes.collection,
        "writes": [to_list(write) for write in writes.writes],
        "basedOn": writes.based_on,
    }


def to_list(write: Write) -> list[Any]:
    """One write: its kind, and its values."""
    match write:
        case Insert(document=document):
            document.setdefault("_id", ObjectId())
            return ["insert", document]
        case Replace(where=where, document=document, upsert=upsert):
            return ["replace", where, document, upsert]
        case Update(where=where, update=update, upsert=upsert):
            return ["update", where, update, upsert]
        case Delete(where=where, many=many):
            return ["delete", where, many]


def from_document(document: Document) -> Writes:
    """What `to_document` was given."""
    forms = {"insert": Insert, "replace": Replace, "update": Update, "delete": Delete}
    writes: list[Any] = [forms[kind](*values) for kind, *values in document["writes"]]
    return Writes(document["database"], document["collection"], writes, document.get("basedOn"))
