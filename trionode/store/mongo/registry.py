"""MongoRegistryStore: the registry in the databases that every node knows (docs/spec/registry.md §2).

`_id` is the order of insertion: this store gives every payment and message one that is greater than all
before. What the shapes of the network have no room for (the newest block hashes, named values) is kept in
collections of our own whose names begin with `trionode`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from pymongo import DESCENDING

from trionode.errors import StoreError
from trionode.registry.changes import AddPermanents, CommitReport, RegistryChange
from trionode.registry.rows import ChainMessageRow, CurrentSpec, HashRow, PermanentRow, TemporaryRow
from trionode.store.mongo.connection import MongoServer
from trionode.store.mongo.passed_over import REGISTRY as STRANGE
from trionode.store.mongo.passed_over import find_passed_over, tell_passed_over
from trionode.store.mongo.registry_commit import Attempt, Ids
from trionode.store.mongo.registry_plan import (
    CHAIN,
    CURRENT,
    HASHES,
    MESSAGES,
    META,
    TEMPORARIES,
    TRACKER,
    VERSION_MARKER,
    meta_id,
)
from trionode.store.mongo.registry_reads import FIRST_ID, Reads, grouped_pages
from trionode.store.mongo.registry_repairs import repair
from trionode.store.mongo.shapes_registry import (
    KEY_MEMBERS,
    SPEC,
    by_names,
    chain_message_row,
    current_row,
    hash_row,
    message_key,
    permanent_row,
    temporary_row,
)
from trionode.store.mongo.values import safe_text
from trionode.store.mongo.writes import Document
from trionode.store.registry_port import HashCounts, PermanentOrder, RegistryStore
from trionode.wire.jsjson import parse

SCOPE = "registry"
IN_CHUNK = 2_000
"""Values in one question: as many as the batch processor asks about at once."""

_NAME, _OWNER = f"{SPEC}.name", f"{SPEC}.owner"
_HEIGHT, _ID = "height", "_id"
_COUNTED = {
    "hashes": HASHES,
    "permanents": MESSAGES,
    "temporaries": TEMPORARIES,
    "current": CURRENT,
    "chain_messages": CHAIN,
}
_ABSENT_KEPT = 10_000


class MongoRegistryStore(RegistryStore):
    """The registry on MongoDB. `open` before use."""

    immediate = False

    def __init__(self, server: MongoServer, *, in_chunk: int = IN_CHUNK) -> None:
        self._server = server
        self._in_chunk = in_chunk
        self._reads = Reads(server)
        self._ids = Ids()
        self._absent: set[str] = set()
        """Messages that were asked for and are not stored: adding them needs no second question."""
        self._adding = self._added = 0
        self._closed = False

    async def open(self) -> None:
        """Finish what was interrupted, create what is missing, repair the rest. Raises StoreError."""
        await self._server.recover(SCOPE)
        await self._server.call(lambda: repair(self._server.database), doing="repair", writes=True)
        await self._server.call(lambda: self._ids.start_after(self._reads.newest_id()))
        strange = await self._server.call(lambda: find_passed_over(self._server.database, STRANGE))
        tell_passed_over(strange, self._server.counters)

    async def aclose(self) -> None:
        """Close; a commit that runs is waited for, the connection stays. A second call does nothing."""
        async with self._server.quiet(SCOPE):
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed", remedy="open it again")

    # Writing

    async def commit(self, changes: Sequence[RegistryChange]) -> CommitReport:
        self._check_open()
        if not changes:
            return CommitReport()
        attempt = Attempt(self._server, changes, self._ids, frozenset(self._absent), self._in_chunk)
        added = [change.rows for change in changes if isinstance(change, AddPermanents)]
        self._adding += bool(added)
        try:
            return await self._server.commit(SCOPE, attempt)
        finally:
            self._adding -= bool(added)
            self._added += bool(added)
            for rows in added:
                self._absent.difference_update(row.hash for row in rows)

    def commit_now(self, changes: Sequence[RegistryChange]) -> CommitReport:
        raise StoreError("the MongoDB store does not commit without waiting", remedy="use commit")

    # Reading, in general

    async def _find(self, *args: Any, **options: Any) -> list[Document]:
        self._check_open()
        return await self._server.call(lambda: self._reads.find(*args, **options))

    def _chunks(self, texts: Iterable[str]) -> Iterator[list[str]]:
        distinct = list(dict.fromkeys(texts))
        for at in range(0, len(distinct), self._in_chunk):
            yield distinct[at : at + self._in_chunk]

    # The chain

    async def scanned_height(self) -> int:
        self._check_open()
        return await self._server.call(self._reads.scanned_height)

    async def block_hashes(self) -> dict[int, str]:
        self._check_open()
        async with self._server.settled(SCOPE):
            _, blocks = await self._server.call(self._reads.blocks)
        return blocks

    async def chain_messages(self, version: str | None = None) -> list[ChainMessageRow]:
        where = {} if version is None else {"version": safe_text(version)}
        return [chain_message_row(found) for found in _by_height(await self._find(CHAIN, where))]

    # Payments

    async def hashes(self, *, missing: bool | None = None, due_at: int | None = None) -> list[HashRow]:
        where: list[Document] = []
        if missing is not None:
            where.append({"message": not missing})
        if due_at is not None:
            due: Document = {"$or": [{"nextRetryHeight": None}, {"nextRetryHeight": {"$lte": due_at}}]}
            where.append({"message": False, "messageNotFound": {"$ne": True}, **due})
        return [hash_row(found) for found in _by_height(await self._find(HASHES, _all_of(where)))]

    async def stream_hashes(self, *, page: int = 1000) -> AsyncIterator[HashRow]:
        async for found in self._pages(HASHES, {}, _ID, FIRST_ID, page):
            for document in found:
                yield hash_row(document)

    async def hash_rows(self, hashes: Iterable[str]) -> dict[str, HashRow]:
        rows: dict[str, HashRow] = {}
        for chunk in self._chunks(hashes):
            where = {"hash": {"$in": [safe_text(text) for text in chunk]}}
            rows.update((row.hash, row) for row in map(hash_row, await self._find(HASHES, where)))
        return rows

    async def known_hashes(self, hashes: Iterable[str]) -> set[str]:
        return await self._known(HASHES, hashes)

    async def _known(self, place: Any, hashes: Iterable[str]) -> set[str]:
        known: set[str] = set()
        for chunk in self._chunks(hashes):
            where = {"hash": {"$in": [safe_text(text) for text in chunk]}}
            known.update(found["hash"] for found in await self._find(place, where, {_ID: 0, "hash": 1}))
        return known

    async def hash_counts(self) -> HashCounts:
        self._check_open()
        async with self._server.settled(SCOPE):
            return await self._server.call(self._reads.hash_counts)

    # Messages

    async def permanent(self, hash: str) -> PermanentRow | None:
        found = await self._find(MESSAGES, {"hash": safe_text(hash)}, limit=1)
        return permanent_row(found[0]) if found else None

    async def known_permanents(self, hashes: Iterable[str]) -> set[str]:
        wanted = list(hashes)
        added, was_adding = self._added, self._adding
        known = await self._known(MESSAGES, wanted)
        # An answer from before or within a commit says nothing of what is stored after it.
        if not was_adding and not self._adding and added == self._added:
            self._remember_absent(set(wanted) - known)
        return known

    def _remember_absent(self, hashes: set[str]) -> None:
        if len(self._absent) + len(hashes) > _ABSENT_KEPT:
            self._absent.clear()
        if len(hashes) <= _ABSENT_KEPT:
            self._absent |= hashes

    async def permanents_of(self, name: str, *, order: PermanentOrder = "height") -> list[PermanentRow]:
        found = await self._find(MESSAGES, by_names(_NAME, [name]))
        ordered = _by_height(found) if order == "height" else sorted(found, key=_id)
        return [permanent_row(document) for document in ordered]

    async def permanents_of_names(self, names: Iterable[str]) -> dict[str, list[PermanentRow]]:
        rows: dict[str, list[PermanentRow]] = {}
        for chunk in self._chunks(names):
            for document in _by_height(await self._find(MESSAGES, by_names(_NAME, chunk))):
                row = permanent_row(document)
                rows.setdefault(row.name, []).append(row)
        return rows

    async def newest_permanent(self, name: str) -> PermanentRow | None:
        newest_first = [(_HEIGHT, DESCENDING), ("timestamp", DESCENDING), ("hash", DESCENDING)]
        found = await self._find(MESSAGES, by_names(_NAME, [name]), sort=newest_first, limit=1)
        return permanent_row(found[0]) if found else None

    async def stream_newest(self, *, page: int = 500) -> AsyncIterator[PermanentRow]:
        # First only what tells which messages they are, then those alone: most messages are old ones.
        keys = self._pages(MESSAGES, {}, _NAME, "", page, KEY_MEMBERS)
        async for found in keys:
            ordered = sorted(map(message_key, found), key=lambda key: key.name)
            newest = [
                max(of_name, key=lambda key: key.recency)
                for _, of_name in groupby(ordered, key=lambda key: key.name)
            ]
            where = {_ID: {"$in": [key.id for key in newest]}}
            documents = {document[_ID]: document for document in await self._find(MESSAGES, where)}
            for key in newest:
                if key.id in documents:
                    yield permanent_row(documents[key.id])

    async def stream_permanents(
        self,
        *,
        hash: str | None = None,
        owner: str | None = None,
        name: str | None = None,
        from_height: int | None = None,
        order: PermanentOrder = "stored",
        page: int = 500,
    ) -> AsyncIterator[PermanentRow]:
        where: list[Document] = []
        if hash is not None:
            where.append({"hash": safe_text(hash)})
        if owner is not None:
            where.append({_OWNER: safe_text(owner)})
        if name is not None:
            where.append(by_names(_NAME, [name]))
        if from_height is not None:
            where.append({_HEIGHT: {"$gte": from_height}})
        key, first = (_HEIGHT, 0) if order == "height" else (_ID, FIRST_ID)
        async for found in self._pages(MESSAGES, _all_of(where), key, first, page):
            for document in found:
                row = permanent_row(document)
                if owner is None or row.owner == owner:
                    yield row

    async def permanent_counts(self, *, owner: str | None = None) -> int:
        self._check_open()
        where = {} if owner is None else {_OWNER: safe_text(owner)}
        return await self._server.call(lambda: self._reads.count(MESSAGES, where))

    async def temporary(self, hash: str) -> TemporaryRow | None:
        found = await self._find(TEMPORARIES, {"hash": safe_text(hash)}, limit=1)
        return temporary_row(found[0]) if found else None

    async def temporaries(self) -> list[TemporaryRow]:
        found = sorted(await self._find(TEMPORARIES, {}), key=_id)
        return sorted(map(temporary_row, found), key=lambda row: row.received_at_ms)

    # Current specifications and the rest

    async def current(self, name: str) -> CurrentSpec | None:
        found = await self._find(CURRENT, by_names("name", [name]), limit=1)
        return current_row(found[0]) if found else None

    async def stream_current(self, *, page: int = 500) -> AsyncIterator[CurrentSpec]:
        async for found in self._pages(CURRENT, {}, "name", "", page):
            for document in found:
                yield current_row(document)

    async def get_meta(self, key: str) -> str | None:
        if key == VERSION_MARKER:
            marker = await self._find(TRACKER, {_ID: key}, limit=1)
            return str(marker[0].get("version")) if marker else None
        found = await self._find(META, {_ID: meta_id(key)}, limit=1)
        return str(parse(found[0]["value"])) if found else None

    async def counts(self) -> dict[str, int]:
        self._check_open()
        async with self._server.settled(SCOPE):
            return await self._server.call(
                lambda: {name: self._reads.count(place, {}) for name, place in _COUNTED.items()}
            )

    async def _pages(
        self, place: Any, where: Document, key: str, first: Any, page: int, members: Any = None
    ) -> AsyncIterator[list[Document]]:
        self._check_open()
        async for found in grouped_pages(self._server, self._reads, place, where, key, first, page, members):
            yield found
            self._check_open()


def _all_of(filters: Sequence[Document]) -> Document:
    if len(filters) > 1:
        return {"$and": list(filters)}
    return dict(filters[0]) if filters else {}


def _id(document: Mapping[str, Any]) -> Any:
    return document[_ID]


def _by_height(documents: Iterable[Document]) -> list[Document]:
    """By height, those of one height in the order of insertion."""
    ordered = sorted(documents, key=_id)
    return sorted(ordered, key=lambda found: found.get(_HEIGHT) or 0)
