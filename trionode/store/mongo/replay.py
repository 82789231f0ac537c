"""A commit of the journal is carried out to its end, whatever the database says to its writes.

- What is there already is not added again; a document whose unique key another program took stays.
- If another node has worked with the database since, only what replaces nothing newer is done (guarded.py).
- A write that the database refuses for good is laid aside in `trionoderefused`, told in the log and by
  `trionode store check`, and the rest goes on, but for the scanned height: one document must not keep a node
  from starting. A commit that is cut short was never acknowledged, so nothing acknowledged is lost. Where the
  server as a whole says no (no right, no space) nothing is laid aside: the error says what to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import bson
from bson.errors import BSONError
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure, PyMongoError

from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.store.mongo.failures import codes, is_refusal, reason
from trionode.store.mongo.guarded import current_names, guarded
from trionode.store.mongo.journal import DATABASE, Databases, Journal, Kept
from trionode.store.mongo.presence import scanned_height, signs_of_another
from trionode.store.mongo.registry_plan import CURRENT, SCANNED
from trionode.store.mongo.values import date
from trionode.store.mongo.writes import Document, Insert, Write, Writes, operation, to_list

REFUSED = "trionoderefused"
"""Collection of what was laid aside: {_id, scope, at, database, collection, code, reason, write}."""

_CHUNK_WRITES = 10_000
_TAKEN = 11000
_KEPT_BYTES = 8 * 1024 * 1024
_BY_NAME = 1_000

log = get_logger("store.mongo")

LayAside = Callable[[Writes, Write, Exception, int | None], None]


def finish(databases: Databases, scope: str, counters: Counters) -> None:
    """Carry out what the journal of `scope` holds, and empty it. Raises PyMongoError."""
    journal = Journal(databases, scope)
    kept = journal.kept()
    if kept is not None:
        plan: Sequence[Writes] = kept.plan
        signs = signs_of_another(databases, kept)
        if signs:
            heights = _current_heights(databases, plan)
            plan, dropped = guarded(plan, kept.at_ms, heights, scanned_height(databases))
            counters.add("store.mongo.dropped_writes", sum(dropped.values()))
            log.warning(
                "an interrupted commit is older than the work of another node: "
                "only what replaces nothing newer is done, the rest is found out anew",
                scope=scope,
                signs=signs,
                dropped=dropped,
            )
        else:
            log.warning("an interrupted commit is finished", scope=scope)
        # The scanned height stands for all the rest, so it comes last.
        plan = sorted(plan, key=_is_scanned)
        Forward(databases, _Refusals(databases, scope, kept, counters).lay_aside).run(plan)
    journal.clear()


class Forward:
    """Carries a plan out that is in the journal: parts of it may have been done before."""

    def __init__(self, databases: Databases, lay_aside: LayAside | None = None) -> None:
        self._databases = databases
        self._lay_aside = lay_aside
        self._has_refused = False
        self.has_written = False
        """Whether anything of it may be in the database."""

    def run(self, plan: Sequence[Writes]) -> None:
        """Raises PyMongoError; of refusals only without `lay_aside`."""
        for part in plan:
            if self._has_refused and _is_scanned(part):
                # What these blocks bring is not all there: they are read again.
                continue
            collection = self._databases(part.database)[part.collection]
            for is_new, group in groupby(part.writes, key=lambda write: isinstance(write, Insert)):
                writes = list(group)
                for start in range(0, len(writes), _CHUNK_WRITES):
                    self._write(part, collection, writes[start : start + _CHUNK_WRITES], is_new)

    def _write(
        self, part: Writes, collection: Collection[Document], writes: Sequence[Write], is_new: bool
    ) -> None:
        while writes:
            operations = [operation(write) for write in writes]
            try:
                # New documents stand for themselves; of updates the second may build on the first.
                collection.bulk_write(operations, ordered=not is_new)
            except BulkWriteError as error:
                writes = self._after(part, writes, error, is_new)
            except (OperationFailure, DocumentTooLarge, BSONError) as error:
                self._check_refused(error)
                if len(writes) > 1:
                    # The command as a whole was refused: find out which write it is.
                    for write in writes:
                        self._write(part, collection, [write], is_new)
                    return
                self._refuse(part, writes[0], error, None)
                return
            except PyMongoError:
                self.has_written = True
                raise
            else:
                self.has_written = True
                return

    def _after(
        self, part: Writes, writes: Sequence[Write], error: BulkWriteError, is_new: bool
    ) -> Sequence[Write]:
        """Deal with the writes that failed; what is still to be done."""
        details = error.details or {}
        problems = details.get("writeErrors") or []
        counts = ("nInserted", "nUpserted", "nMatched", "nRemoved")
        self.has_written = self.has_written or any(details.get(name) for name in counts)
        if not problems:
            self.has_written = True
            raise error
        for problem in problems:
            if problem.get("code") == _TAKEN:
                self._taken(part, problem)
                continue
            self._check_refused(error)
            self._refuse(part, writes[problem["index"]], error, problem.get("code"))
        return () if is_new else writes[problems[-1]["index"] + 1 :]

    def _taken(self, part: Writes, problem: Document) -> None:
        self.has_written = True
        if problem.get("keyPattern") != {"_id": 1}:
            log.warning("a document of another program stays", collection=part.collection)

    def _check_refused(self, error: Exception) -> None:
        """Raise the error unless it is about the write, not about the server or the moment."""
        if self._lay_aside is None or (isinstance(error, PyMongoError) and not is_refusal(error)):
            raise error

    def _refuse(self, part: Writes, write: Write, error: Exception, code: int | None) -> None:
        assert self._lay_aside is not None
        self._has_refused = True
        self._lay_aside(part, write, error, code)


class _Refusals:
    """Lays aside what the database refuses of one commit."""

    def __init__(self, databases: Databases, scope: str, kept: Kept, counters: Counters) -> None:
        self._collection = databases(DATABASE)[REFUSED]
        self._scope = scope
        self._kept = kept
        self._counters = counters

    def lay_aside(self, part: Writes, write: Write, error: Exception, code: int | None) -> None:
        """Raises PyMongoError when the database does not take this either: it is not the write's fault."""
        form = bson.encode({"write": to_list(write)})
        document = {
            # The same refusal twice is one: the process may die before the journal is emptied.
            "_id": f"{self._kept.commit}:{hashlib.sha256(form).hexdigest()[:16]}",
            "scope": self._scope,
            "at": date(self._kept.at_ms),
            "database": part.database,
            "collection": part.collection,
            "code": code if code is not None else next(iter(codes_of(error)), None),
            "reason": reason(error),
            # Kept as bytes: the document may be what no collection takes.
            "write": form if len(form) < _KEPT_BYTES else None,
        }
        self._collection.replace_one({"_id": document["_id"]}, document, upsert=True)
        self._counters.add("store.mongo.refused_writes")
        log.error(
            "the database refuses a write of an interrupted commit: it is laid aside",
            collection=f"{part.database}.{part.collection}",
            key=key_of(write),
            problem=document["reason"],
            remedy="see `trionode store check`, and docs/storage.md",
        )


def _is_scanned(part: Writes) -> bool:
    return (part.database, part.collection) == (SCANNED.database, SCANNED.collection)


def codes_of(error: Exception) -> Iterator[int]:
    """The server's codes of an error, ascending."""
    yield from sorted(codes(error)) if isinstance(error, PyMongoError) else ()


def key_of(write: Write) -> str:
    """Which document a write is about, in short."""
    where: Any = {"_id": write.document.get("_id")} if isinstance(write, Insert) else write.where
    return ", ".join(f"{name}: {value}" for name, value in where.items())[:200]


def _current_heights(databases: Databases, plan: Sequence[Writes]) -> dict[str, int]:
    """Of the apps the plan is about: the height of the specification in force now."""
    names = current_names(plan)
    heights: dict[str, int] = {}
    for start in range(0, len(names), _BY_NAME):
        where = {"name": {"$in": names[start : start + _BY_NAME]}}
        for found in databases(CURRENT.database)[CURRENT.collection].find(where, {"name": 1, "height": 1}):
            height = int(found.get("height") or 0)
            heights[found["name"]] = max(height, heights.get(found["name"], 0))
    return heights
