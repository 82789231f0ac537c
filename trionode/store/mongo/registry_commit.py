"""One commit of the registry, in the thread that carries it out: read the facts, plan, hand the plan over."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from bson import ObjectId
from pymongo.client_session import ClientSession

from trionode.registry.changes import CommitReport, RegistryChange
from trionode.store.mongo.connection import MongoServer
from trionode.store.mongo.registry_plan import HASHES, MESSAGES, Facts, Place, needs, plan
from trionode.store.mongo.registry_reads import Reads
from trionode.store.mongo.values import safe_text
from trionode.store.mongo.writes import Insert, Writes


class Ids:
    """ObjectIds that only grow, whatever the clock does: their order is the order of insertion."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def start_after(self, id: ObjectId) -> None:
        """All coming ones are greater than `id`."""
        with self._lock:
            self._last = max(self._last, int.from_bytes(id.binary))

    def next(self) -> ObjectId:
        """A new one."""
        with self._lock:
            self._last = max(self._last + 1, int.from_bytes(ObjectId().binary))
            return ObjectId(self._last.to_bytes(12))


class Attempt:
    """Builds the plan of a commit (`MongoServer.commit`), also when it has to be repeated.

    A server with transactions forgot what a failed try wrote, so everything is looked at anew - unless only
    the answer was lost: then the rows are ours, and reporting them as known would be wrong.
    """

    def __init__(
        self,
        server: MongoServer,
        changes: Sequence[RegistryChange],
        ids: Ids,
        absent: frozenset[str],
        in_chunk: int,
    ) -> None:
        self._reads = Reads(server)
        self._changes = changes
        self._ids = ids
        self._absent = absent
        self._in_chunk = in_chunk
        self._tries = 0
        self._report = CommitReport()
        self._first: tuple[Place, ObjectId] | None = None
        """The first row that the last try added."""

    def __call__(self, session: ClientSession | None) -> tuple[Sequence[Writes], CommitReport]:
        self._tries += 1
        if self._has_landed(session):
            return (), self._report
        writes, self._report = plan(self._changes, self._facts(session), self._ids.next)
        self._first = _first_added(writes)
        return writes, self._report

    def _has_landed(self, session: ClientSession | None) -> bool:
        if self._first is None:
            return False
        place, id = self._first
        return bool(self._reads.find(place, {"_id": id}, {"_id": 1}, limit=1, session=session))

    def _facts(self, session: ClientSession | None) -> Facts:
        wanted = needs(self._changes)
        reads = self._reads
        permanents = wanted.permanents
        if self._tries == 1:
            # asked for a moment ago, and this store alone writes
            permanents = permanents - self._absent
        hashes = [reads.heights(HASHES, chunk, session) for chunk in self._chunks(wanted.hashes)]
        messages = [reads.heights(MESSAGES, chunk, session) for chunk in self._chunks(permanents)]
        unpaid = [reads.unpaid(chunk, session) for chunk in self._chunks(wanted.temporaries)]
        scanned, blocks = reads.blocks(session) if wanted.blocks else (0, {})
        return Facts(
            {hash_: height for found in hashes for hash_, height in found.items()},
            {hash_: height for found in messages for hash_, height in found.items()},
            frozenset[str]().union(*unpaid),
            blocks,
            scanned,
        )

    def _chunks(self, texts: Iterable[str]) -> list[list[str]]:
        distinct = [safe_text(text) for text in texts]
        return [distinct[at : at + self._in_chunk] for at in range(0, len(distinct), self._in_chunk)]


def _first_added(writes: Sequence[Writes]) -> tuple[Place, ObjectId] | None:
    for part in writes:
        for write in part.writes:
            if isinstance(write, Insert) and "_id" in write.document:
                return Place(part.database, part.collection), write.document["_id"]
    return None
