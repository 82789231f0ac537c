"""The roll-forward journal: all-or-nothing commits on a server without transactions.

Before a commit of more than one write begins, the whole of it is written down in `trionodejournal`. From
then on it counts as done: if the process dies or the server goes away, the next commit, or the next start,
carries it out again to its end. Until then another program that reads the database sees part of it; the
node itself reads only after it was finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import bson
from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from trionode.runtime.logs import get_logger
from trionode.store.mongo.writes import (
    Document,
    Operation,
    Write,
    Writes,
    from_document,
    operation,
    to_document,
)

DATABASE = "zelfluxlocal"
COLLECTION = "trionodejournal"

_PART_BYTES = 8 * 1024 * 1024  # a document may have 16 MiB
_CHUNK_WRITES = 10_000
_TAKEN = 11000

log = get_logger("store.mongo")

Databases = Callable[[str], Database[Document]]


class Journal:
    """The commit of one store that is under way, in one or more documents. All methods block."""

    def __init__(self, databases: Databases, scope: str) -> None:
        self._collection = databases(DATABASE)[COLLECTION]
        self._scope = scope

    def keep(self, plan: Sequence[Writes]) -> None:
        """Write the commit down. Only with its last part it counts."""
        data = bson.encode({"plan": [to_document(writes) for writes in plan]}) if plan else b""
        commit = ObjectId()
        parts = [data[start : start + _PART_BYTES] for start in range(0, len(data), _PART_BYTES)]
        for number, part in enumerate(parts):
            key = {"_id": f"{self._scope}:{number}"}
            document = {
                **key,
                "scope": self._scope,
                "commit": commit,
                "part": number,
                "parts": len(parts),
                "size": len(data),
                "data": part,
            }
            self._collection.replace_one(key, document, upsert=True)

    def kept(self) -> list[Writes]:
        """The commit that was written down completely; empty when there is none."""
        documents = sorted(self._collection.find({"scope": self._scope}), key=lambda found: found["part"])
        if not documents:
            return []
        commits = {document["commit"] for document in documents}
        if len(documents) != documents[0]["parts"] or len(commits) > 1:
            return []
        data = b"".join(document["data"] for document in documents)
        options = self._collection.codec_options
        return [from_document(part) for part in bson.decode(data, options)["plan"]]

    def clear(self) -> None:
        """The commit is done, or was never begun."""
        self._collection.delete_many({"scope": self._scope})


def apply(
    databases: Databases,
    plan: Sequence[Writes],
    *,
    session: ClientSession | None = None,
    repeated: bool = False,
    forward: bool = False,
) -> None:
    """Carry the writes out, collection by collection, in order.

    `forward`: the journal has them, so they must get to their end. A document whose unique key another
    program has taken meanwhile is left out then.
    """
    for part in plan:
        collection = databases(part.database)[part.collection]
        operations = [operation(write, repeated=repeated) for write in part.writes]
        for start in range(0, len(operations), _CHUNK_WRITES):
            chunk = operations[start : start + _CHUNK_WRITES]
            if forward:
                _write_forward(collection, chunk)
            else:
                collection.bulk_write(chunk, ordered=True, session=session)


def _write_forward(collection: Collection[Document], operations: Sequence[Operation]) -> None:
    while operations:
        try:
            collection.bulk_write(operations, ordered=True)
        except BulkWriteError as error:
            (problem, *_) = (error.details or {}).get("writeErrors") or [{}]
            if problem.get("code") != _TAKEN:
                raise
            log.warning("a document of another program stays", collection=collection.name)
            operations = operations[problem["index"] + 1 :]
        else:
            return


def round_trips(writes: Sequence[Write]) -> int:
    """How many commands these writes to one collection take: neighbours of one kind share one."""
    return len(list(groupby(writes, key=lambda write: type(write).__name__.replace("Replace", "Update"))))
