"""The roll-forward journal: all-or-nothing commits on a server without transactions.

Before a commit of more than one write begins, the whole of it is written down in `trionodejournal`. From
then on it counts as done: if the process dies or the server goes away, the next commit, or the next start,
carries it out again to its end (replay.py). Until then another program that reads the database sees part of
it; the node itself reads only after it was finished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bson
import msgspec
from bson import ObjectId
from bson.errors import BSONError
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.write_concern import WriteConcern

from trionode.errors import StoreError
from trionode.store.mongo.writes import Document, Writes, from_document, operation, to_document

DATABASE = "zelfluxlocal"
COLLECTION = "trionodejournal"

_PART_BYTES = 8 * 1024 * 1024  # a document may have 16 MiB
_CHUNK_WRITES = 10_000

Databases = Callable[[str], Database[Document]]


class DamagedJournalError(StoreError):
    """What is kept there was not written by us, or was changed since: nobody can say what it meant."""

    def __init__(self, collection: str, scope: str, problem: str) -> None:
        database, _, name = collection.partition(".")
        super().__init__(
            f"the journal of a commit of {scope} that was cut short is damaged ({collection}: {problem})",
            remedy="it was never acknowledged; to go on without it: "
            f'db.getSiblingDB("{database}").{name}.deleteMany({{scope: "{scope}"}})',
        )


class Kept(msgspec.Struct, frozen=True):
    """A commit that was written down completely."""

    commit: ObjectId
    plan: list[Writes]
    since: Mapping[str, Any] | None = None
    """What the process that wrote it knew of other nodes (presence.py)."""

    @property
    def at_ms(self) -> int:
        """When it was written down, by the clock of the node; whole seconds."""
        return int(self.commit.generation_time.timestamp() * 1000)


class Journal:
    """The commit of one store that is under way, in one or more documents. All methods block."""

    def __init__(self, databases: Databases, scope: str) -> None:
        self._collection = databases(DATABASE)[COLLECTION]
        self._scope = scope

    def keep(self, commit: ObjectId, plan: Sequence[Writes], since: Mapping[str, Any] | None = None) -> None:
        """Write the commit down. Only with its last part it counts."""
        data = bson.encode({"plan": [to_document(writes) for writes in plan]})
        parts = [data[start : start + _PART_BYTES] for start in range(0, len(data), _PART_BYTES)]
        for number, part in enumerate(parts):
            key = {"_id": f"{self._scope}:{number}"}
            document = {
                **key,
                "scope": self._scope,
                "commit": commit,
                "since": since,
                "part": number,
                "parts": len(parts),
                "size": len(data),
                "data": part,
            }
            self._collection.replace_one(key, document, upsert=True)

    def kept(self) -> Kept | None:
        """The commit that was written down completely, None when there is none.

        Raises PyMongoError, DamagedJournalError.
        """
        documents = list(self._collection.find({"scope": self._scope}))
        try:
            return self._read(sorted(documents, key=lambda found: found["part"]))
        except (BSONError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise DamagedJournalError(self._collection.full_name, self._scope, type(error).__name__) from None

    def _read(self, documents: Sequence[Document]) -> Kept | None:
        if not documents:
            return None
        first = documents[0]
        # Parts of the commit before it, which was carried out, may still be there.
        parts = [document for document in documents if document["commit"] == first["commit"]]
        if first["part"] != 0 or len(parts) != first["parts"]:
            return None
        data = b"".join(document["data"] for document in parts)
        if len(data) != first["size"]:
            raise ValueError("bytes are missing")
        plan = bson.decode(data, self._collection.codec_options)["plan"]
        commit, since = first["commit"], first.get("since")
        if not isinstance(commit, ObjectId) or not isinstance(since, Mapping | None):
            raise TypeError("members of another kind")
        return Kept(commit, [from_document(part) for part in plan], since)

    def clear(self) -> None:
        """The commit is done, or was never begun."""
        self._collection.delete_many({"scope": self._scope})

    def clear_unanswered(self, commit: ObjectId) -> None:
        """The same for one commit, without waiting for the answer: it may or may not get there."""
        unanswered = self._collection.with_options(write_concern=WriteConcern(w=0))
        unanswered.delete_many({"scope": self._scope, "commit": commit})


def apply(
    databases: Databases,
    plan: Sequence[Writes],
    *,
    session: ClientSession | None = None,
    repeated: bool = False,
) -> None:
    """Carry the writes out, collection by collection, in order; the first refusal is an error."""
    for part in plan:
        collection = databases(part.database)[part.collection]
        operations = [operation(write, repeated=repeated) for write in part.writes]
        for start in range(0, len(operations), _CHUNK_WRITES):
            collection.bulk_write(operations[start : start + _CHUNK_WRITES], ordered=True, session=session)
