"""From changes of the registry to writes of MongoDB: what one commit does to each collection.

Changes act in order, but a round trip is dear: what a commit puts and takes back is settled here, so that
each collection gets its deletes, its new documents and its updates in one go each. Pure; the facts it needs
are read before (`Facts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from trionode.registry.changes import (
    KEPT_BLOCK_HASHES,
    AddHashes,
    AddPermanents,
    ClearCurrent,
    CommitReport,
    DeleteCurrent,
    DeleteTemporaries,
    ExpireTemporaries,
    PutBlockHash,
    PutChainMessage,
    PutCurrent,
    PutMeta,
    PutTemporary,
    RegistryChange,
    ResolveHashes,
    Rewind,
    SetScannedHeight,
    UpdateHashes,
)
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow, TemporaryRow
from trionode.store.mongo.shapes_registry import (
    by_names,
    chain_message_document,
    current_document,
    hash_document,
    permanent_document,
    temporary_document,
)
from trionode.store.mongo.values import date, safe_text
from trionode.store.mongo.writes import Delete, Document, Insert, Replace, Update, Write, Writes
from trionode.wire.jsjson import quote


class Place(msgspec.Struct, frozen=True):
    """A collection, and its database without the prefix."""

    database: str
    collection: str


SCANNED: Final = Place("zelcashdata", "scannedheight")
HASHES: Final = Place("zelcashdata", "zelappshashes")
BLOCKS: Final = Place("zelcashdata", "trionodeblockhashes")
MESSAGES: Final = Place("globalzelapps", "zelappsmessages")
TEMPORARIES: Final = Place("globalzelapps", "zelappstemporarymessages")
CURRENT: Final = Place("globalzelapps", "zelappsinformation")
CHAIN: Final = Place("chainparams", "chainmessages")
TRACKER: Final = Place("zelfluxlocal", "nodestartuptracker")
META: Final = Place("zelfluxlocal", "trionodemeta")

BLOCKS_ID: Final = "newest"
VERSION_MARKER: Final = "hashSyncVersion"
"""The one named value that every node keeps, in a collection of its own (registry.md §2)."""


class Facts(msgspec.Struct, frozen=True):
    """What a commit has to know of what is stored: heights by hash, hashes of unpaid messages, blocks."""

    hashes: Mapping[str, int]
    permanents: Mapping[str, int]
    temporaries: frozenset[str]
    blocks: Mapping[int, str]
    scanned: int = 0


class Needs(msgspec.Struct, frozen=True):
    """Which facts changes need."""

    hashes: frozenset[str]
    permanents: frozenset[str]
    temporaries: frozenset[str]
    blocks: bool


def needs(changes: Sequence[RegistryChange]) -> Needs:
    """What must be read before these changes can be planned."""
    hashes: set[str] = set()
    permanents: set[str] = set()
    temporaries: set[str] = set()
    blocks = False
    for change in changes:
        match change:
            case AddHashes(rows=payments):
                hashes.update(row.hash for row in payments)
            case AddPermanents(rows=messages):
                permanents.update(row.hash for row in messages)
            case PutTemporary(row=row):
                temporaries.add(row.hash)
            case PutBlockHash() | Rewind() | SetScannedHeight():
                blocks = True
    return Needs(frozenset(hashes), frozenset(permanents), frozenset(temporaries), blocks)


def plan(
    changes: Sequence[RegistryChange], facts: Facts, next_id: Callable[[], Any]
) -> tuple[list[Writes], CommitReport]:
    """The writes of a commit, and what it leaves out because it is stored already."""
    planner = _Planner(facts, next_id)
    for change in changes:
        planner.take(change)
    return planner.writes(), CommitReport(tuple(planner.known_hashes), tuple(planner.known_permanents))


def scanned_to(height: int) -> Update:
    """The one document of the scanned height becomes `height`."""
    return Update({"generalScannedHeight": {"$gte": 0}}, {"$set": {"generalScannedHeight": height}}, True)


def blocks_document(scanned: int, blocks: Mapping[int, str]) -> Document:
    """The newest block hashes, and the scanned height they belong to."""
    pairs = [[height, hash_] for height, hash_ in sorted(blocks.items())]
    return {"_id": BLOCKS_ID, "scanned": scanned, "blocks": pairs}


def meta_put(key: str, value: str) -> tuple[Place, Write]:
    """A named value at its place."""
    if key == VERSION_MARKER:
        return TRACKER, Replace({"_id": key}, {"_id": key, "version": value})
    id_ = meta_id(key)
    return META, Replace({"_id": id_}, {"_id": id_, "value": quote(value)})


def meta_id(key: str) -> str:
    """`_id` of a named value; the event log keeps its own beside them."""
    return safe_text(f"registry:{key}")


class _Planner:
    def __init__(self, facts: Facts, next_id: Callable[[], Any]) -> None:
        self.known_hashes: list[str] = []
        self.known_permanents: list[str] = []
        self._next_id = next_id
        self._hashes = dict(facts.hashes)
        self._permanents = dict(facts.permanents)
        self._stored_temporaries = facts.temporaries
        self._blocks = dict(facts.blocks)
        self._blocks_before = dict(facts.blocks)
        self._scanned = self._scanned_before = facts.scanned
        self._writes: dict[Place, list[Write]] = {}
        # by hash or name; None: it goes
        self._temporaries: dict[str, TemporaryRow | None] = {}
        self._current: dict[str, CurrentSpec | None] = {}
        self._expired_ms: int | None = None
        self._cleared = False

    def take(self, change: RegistryChange) -> None:
        match change:
            case AddHashes(rows=payments):
                self._add_hashes(payments)
            case AddPermanents(rows=messages):
                self._add_permanents(messages)
            case SetScannedHeight(height=height):
                self._scanned = height
                self._to(SCANNED, scanned_to(height))
            case UpdateHashes(rows=payments):
                self._update_hashes(payments)
            case ResolveHashes(hashes=hashes):
                resolved = {"$set": {"message": True, "messageNotFound": False}}
                for hash_ in hashes:
                    self._to(HASHES, Update({"hash": safe_text(hash_)}, resolved))
            case PutChainMessage(row=message):
                document = chain_message_document(message)
                self._to(CHAIN, Replace({"txid": document["txid"]}, document))
            case PutBlockHash(height=height, hash=hash_):
                self._put_block(height, hash_)
            case PutMeta(key=key, value=value):
                self._to(*meta_put(key, value))
            case Rewind(height=height, apps=apps):
                self._rewind(height, apps)
            case _:
                self._settle(change)

    def _settle(self, change: RegistryChange) -> None:
        """Changes of which only the outcome is written."""
        match change:
            case PutTemporary(row=temporary):
                # what comes again goes to the end
                self._temporaries.pop(temporary.hash, None)
                self._temporaries[temporary.hash] = temporary
            case DeleteTemporaries(hashes=hashes):
                self._temporaries |= dict.fromkeys(hashes)
            case ExpireTemporaries(now_ms=now_ms):
                self._expired_ms = max(now_ms, self._expired_ms or 0)
                for hash_, row in self._temporaries.items():
                    if row is not None and row.expire_at_ms <= now_ms:
                        self._temporaries[hash_] = None
            case PutCurrent(row=current):
                self._current[current.name] = current
            case DeleteCurrent(name=name):
                self._current[name] = None
            case ClearCurrent():
                self._current.clear()
                self._cleared = True

    def _add_hashes(self, rows: Sequence[HashRow]) -> None:
        for row in rows:
            if row.hash in self._hashes:
                self.known_hashes.append(row.hash)
            else:
                self._hashes[row.hash] = row.height
                self._to(HASHES, Insert(self._with_id(hash_document(row))))

    def _update_hashes(self, rows: Sequence[HashRow]) -> None:
        for row in rows:
            if row.hash in self._hashes:
                self._hashes[row.hash] = row.height
            self._to(HASHES, Replace({"hash": safe_text(row.hash)}, hash_document(row), upsert=False))

    def _add_permanents(self, rows: Sequence[PermanentRow]) -> None:
        for row in rows:
            if row.hash in self._permanents:
                self.known_permanents.append(row.hash)
            else:
                self._permanents[row.hash] = row.height
                self._to(MESSAGES, Insert(self._with_id(permanent_document(row))))

    def _put_block(self, height: int, hash_: str) -> None:
        self._blocks[height] = hash_
        oldest = max(self._blocks) - KEPT_BLOCK_HASHES
        self._blocks = {kept: self._blocks[kept] for kept in self._blocks if kept > oldest}

    def _rewind(self, height: int, apps: bool) -> None:
        later = {"height": {"$gt": height}}
        self._scanned = min(self._scanned, height)
        self._to(
            SCANNED,
            Update({"generalScannedHeight": {"$gt": height}}, {"$set": {"generalScannedHeight": height}}),
        )
        self._to(HASHES, Delete(later, many=True))
        self._to(CHAIN, Delete(later, many=True))
        self._hashes = {hash_: at for hash_, at in self._hashes.items() if at <= height}
        self._blocks = {at: hash_ for at, hash_ in self._blocks.items() if at <= height}
        if apps:
            self._to(MESSAGES, Delete(later, many=True))
            self._to(CURRENT, Delete(later, many=True))
            self._permanents = {hash_: at for hash_, at in self._permanents.items() if at <= height}
            for name, row in self._current.items():
                if row is not None and row.height > height:
                    self._current[name] = None

    def _to(self, place: Place, write: Write) -> None:
        self._writes.setdefault(place, []).append(write)

    def _with_id(self, document: Document) -> Document:
        """With an `_id` that is greater than all before: it is the order of insertion."""
        return {"_id": self._next_id(), **document}

    def writes(self) -> list[Writes]:
        self._settle_temporaries()
        self._settle_current()
        is_moved = self._scanned != self._scanned_before and (self._blocks or self._blocks_before)
        if is_moved or self._blocks != self._blocks_before:
            self._to(BLOCKS, Replace({"_id": BLOCKS_ID}, blocks_document(self._scanned, self._blocks)))
        return [self._part(place, writes) for place, writes in self._writes.items()]

    def _part(self, place: Place, writes: Sequence[Write]) -> Writes:
        based_on = self._scanned_before if place == SCANNED else None
        return Writes(place.database, place.collection, writes, based_on)

    def _settle_temporaries(self) -> None:
        if self._expired_ms is not None:
            self._to(TEMPORARIES, Delete({"expireAt": {"$lte": date(self._expired_ms)}}, many=True))
        gone = [
            safe_text(hash_)
            for hash_, row in self._temporaries.items()
            if row is None or hash_ in self._stored_temporaries
        ]
        if gone:
            self._to(TEMPORARIES, Delete({"hash": {"$in": gone}}, many=True))
        for row in self._temporaries.values():
            if row is not None:
                self._to(TEMPORARIES, Insert(self._with_id(temporary_document(row))))

    def _settle_current(self) -> None:
        if self._cleared:
            self._to(CURRENT, Delete({}, many=True))
        gone = [name for name, row in self._current.items() if row is None]
        if gone and not self._cleared:
            self._to(CURRENT, Delete(by_names("name", gone), many=True))
        for name, row in self._current.items():
            if row is not None:
                document = current_document(row)
                fresh = Insert(document) if self._cleared else Replace(by_names("name", [name]), document)
                self._to(CURRENT, fresh)
