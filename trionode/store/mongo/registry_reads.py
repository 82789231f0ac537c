"""Questions to the registry's collections. Functions of `Reads` block; they run in a worker thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from bson import ObjectId
from pymongo import ASCENDING
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from trionode.store.mongo.connection import MongoServer
from trionode.store.mongo.registry_plan import (
    BLOCKS,
    BLOCKS_ID,
    HASHES,
    MESSAGES,
    SCANNED,
    TEMPORARIES,
    Place,
)
from trionode.store.mongo.writes import Document
from trionode.store.registry_port import HashCounts

FIRST_ID: Final = ObjectId("0" * 24)

_BATCH_ROWS = 100_000
"""Rows of one answer: as many as fit its 16 MB, so that one question takes one round trip."""


class Reads:
    """What the store asks; each method is one round trip unless it says otherwise."""

    def __init__(self, server: MongoServer) -> None:
        self._server = server

    def of(self, place: Place) -> Collection[Document]:
        return self._server.database(place.database)[place.collection]

    def find(
        self,
        place: Place,
        where: Mapping[str, Any],
        members: Mapping[str, int] | None = None,
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
        session: ClientSession | None = None,
    ) -> list[Document]:
        """All documents that fit; longer answers than 16 MB take more round trips."""
        found = self.of(place).find(where, members, limit=limit, batch_size=_BATCH_ROWS, session=session)
        return list(found.sort(list(sort)) if sort else found)

    def count(self, place: Place, where: Mapping[str, Any]) -> int:
        return self.of(place).count_documents(where)

    def heights(self, place: Place, hashes: Sequence[str], session: ClientSession | None) -> dict[str, int]:
        """Height by hash of those that are stored."""
        members = {"_id": 0, "hash": 1, "height": 1}
        found = self.find(place, {"hash": {"$in": list(hashes)}}, members, session=session)
        return {document["hash"]: int(document.get("height") or 0) for document in found}

    def unpaid(self, hashes: Sequence[str], session: ClientSession | None) -> set[str]:
        where = {"hash": {"$in": list(hashes)}}
        return {found["hash"] for found in self.find(TEMPORARIES, where, {"hash": 1}, session=session)}

    def scanned_height(self, session: ClientSession | None = None) -> int:
        found = self.find(SCANNED, {"generalScannedHeight": {"$gte": 0}}, session=session)
        return max((int(document["generalScannedHeight"]) for document in found), default=0)

    def blocks(self, session: ClientSession | None = None) -> tuple[int, dict[int, str]]:
        """The scanned height, and the block hashes that belong to it, in two round trips. There are none
        when another node has read on since: they would say nothing of the blocks it read."""
        scanned = self.scanned_height(session)
        found = self.find(BLOCKS, {"_id": BLOCKS_ID}, session=session)
        if not found or found[0].get("scanned") != scanned:
            return scanned, {}
        return scanned, dict(found[0]["blocks"])

    def hash_counts(self) -> HashCounts:
        """Two round trips; both look only at what the index of `message` gives them."""
        waiting = {"$cond": [{"$eq": ["$messageNotFound", True]}, None, {"$ifNull": ["$nextRetryHeight", 0]}]}
        grouped = {
            "_id": None,
            "missing": {"$sum": 1},
            "unreachable": {"$sum": {"$cond": [{"$eq": ["$messageNotFound", True]}, 1, 0]}},
            "next": {"$min": waiting},
            "oldest": {"$min": "$height"},
        }
        found = list(self.of(HASHES).aggregate([{"$match": {"message": False}}, {"$group": grouped}]))
        here = self.count(HASHES, {"message": True})
        if not found:
            return HashCounts(here, 0, 0, None, None)
        (sums,) = found
        return HashCounts(
            here + sums["missing"],
            sums["missing"],
            sums["unreachable"],
            _whole(sums["next"]),
            _whole(sums["oldest"]),
        )

    def newest_id(self) -> ObjectId:
        """The greatest `_id` of payments and messages, in three round trips."""
        ids = [
            found["_id"]
            for place in (HASHES, MESSAGES, TEMPORARIES)
            for found in self.find(place, {}, {"_id": 1}, sort=[("_id", -1)], limit=1)
            if isinstance(found["_id"], ObjectId)
        ]
        return max(ids, default=FIRST_ID)

    def page(
        self,
        place: Place,
        where: Document,
        key: str,
        after: tuple[str, Any],
        rows: int,
        members: Mapping[str, int] | None,
    ) -> tuple[list[Document], Any]:
        """Documents beyond `after` ascending by `key`, all of a key or none; and the last key, None at the
        end."""
        operator, at = after
        beyond = {"$and": [where, {key: {operator: at}}]} if where else {key: {operator: at}}
        found = self.find(place, beyond, members, sort=[(key, ASCENDING)], limit=rows + 1)
        if len(found) <= rows:
            return _ordered(found, key), None
        last = _member(found[-1], key)
        whole = [document for document in found if _member(document, key) != last]
        if not whole:
            # more of one key than a page has room for
            same = {"$and": [where, {key: last}]} if where else {key: last}
            whole = self.find(place, same, members)
        return _ordered(whole, key), _member(whole[-1], key)


async def grouped_pages(
    server: MongoServer,
    reads: Reads,
    place: Place,
    where: Document,
    key: str,
    first: Any,
    page: int,
    members: Mapping[str, int] | None = None,
) -> AsyncIterator[list[Document]]:
    """Every document that fits, ascending by `key` and insertion, page by page in constant memory. Pages
    end between two keys, so that whatever is written meanwhile, none comes twice."""
    after = ("$gte", first)
    while True:
        now = after

        def work(after: tuple[str, Any] = now) -> tuple[list[Document], Any]:
            return reads.page(place, where, key, after, page, members)

        found, last = await server.call(work)
        yield found
        if last is None:
            return
        after = ("$gt", last)


def _member(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name)
    return document


def _ordered(documents: list[Document], key: str) -> list[Document]:
    return sorted(documents, key=lambda found: (_member(found, key), found["_id"]))


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
