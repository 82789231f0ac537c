"""Signs that another node ran on this database since a commit was cut short (servers without transactions).

Such a commit lies in the journal until it is carried out to its end. If another node has worked with the
database meanwhile, what it wrote is newer, and the commit must not be carried out over it (guarded.py). The
signs are what every node of the network leaves (docs/spec/lifecycle.md §1, §4): a start notes the moment in
`nodestartuptracker` {_id: "lastStartup", at}, which we never write; a running node renews `lastAlive`; it
reads the chain on, and stores locations under ids with the moment in them, where ours are numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId

from trionode.store.mongo.events_plan import DATABASE as GLOBAL
from trionode.store.mongo.events_plan import LOCATIONS
from trionode.store.mongo.journal import Databases, Kept
from trionode.store.mongo.registry_plan import META, SCANNED, TRACKER, Place
from trionode.store.mongo.values import Writer, from_bson
from trionode.store.mongo.writes import Document, Update, Write, Writes

HEARTBEAT = "heartbeat"
STARTUP = "lastStartup"
OWN_BEATS = "trionode:heartbeats"
"""`_id` in `trionodemeta` {alive: [...]}: the last values of `lastAlive` that are ours."""

ALIVE = "lastAlive"

_AT = "at"
_MOST_BEATS = 20
_ANOTHER_SECOND = timedelta(seconds=2)  # an id tells whole seconds only


class Presence:
    """What this process knows of other nodes on its databases. All methods block."""

    def __init__(self) -> None:
        self.since: Mapping[str, Any] | None = None
        """What other nodes had left when this process began; it goes into every journal."""
        self._own_beats: list[Any] = []

    def begin(self, databases: Databases) -> None:
        """Look around once, before anything is written."""
        if self.since is None:
            self.since = _left(databases)

    def announce(self, databases: Databases, alive: Any) -> None:
        """The heartbeat is about to become `alive`: afterwards it must not look like another node's."""
        beat = from_bson(alive)
        if beat not in self._own_beats:
            # Until the new heartbeat is there those before it are ours too.
            self._own_beats = [*self._own_beats[-_MOST_BEATS:], beat]
        document = {"_id": OWN_BEATS, "alive": [Writer().value(own) for own in self._own_beats]}
        _of(databases, META).replace_one({"_id": OWN_BEATS}, document, upsert=True)

    def announced(self, alive: Any) -> None:
        """The heartbeat is there."""
        self._own_beats = [from_bson(alive)]


def signs_of_another(databases: Databases, kept: Kept) -> list[str]:
    """What tells that another node ran since that commit was written down; empty when nothing does."""
    return list(_signs(databases, kept))


def _signs(databases: Databases, kept: Kept) -> Iterator[str]:
    now = _left(databases)
    if kept.since is not None:
        if now[STARTUP] != kept.since.get(STARTUP):
            yield f"another node was started ({STARTUP} {now[STARTUP]})"
        own = _of(databases, META).find_one({"_id": OWN_BEATS}) or {}
        ours = [from_bson(alive) for alive in own.get("alive", ())]
        if now[HEARTBEAT] not in (from_bson(kept.since.get(HEARTBEAT)), *ours):
            yield f"another node was alive ({ALIVE} {now[HEARTBEAT]})"
    later = ObjectId.from_datetime(_moment(kept.at_ms) + _ANOTHER_SECOND)
    if databases(GLOBAL)[LOCATIONS].find_one({"_id": {"$gt": later}}, {"_id": 1}) is not None:
        yield "another node stored locations"
    for part in kept.plan:
        if _is_at(part, SCANNED) and part.based_on is not None:
            here = scanned_height(databases)
            if here not in (part.based_on, *map(_height, part.writes)):
                yield f"another node read the chain to block {here}"


def _left(databases: Databases) -> Document:
    tracker = _of(databases, TRACKER)
    found = {document["_id"]: document for document in tracker.find({"_id": {"$in": [HEARTBEAT, STARTUP]}})}
    return {
        HEARTBEAT: from_bson(found.get(HEARTBEAT, {}).get(ALIVE)),
        STARTUP: from_bson(found.get(STARTUP, {}).get(_AT)),
    }


def _is_at(part: Writes, place: Place) -> bool:
    return (part.database, part.collection) == (place.database, place.collection)


def scanned_height(databases: Databases) -> int:
    """To which block the chain was read, by whomever."""
    found = _of(databases, SCANNED).find({"generalScannedHeight": {"$gte": 0}})
    return max((int(document["generalScannedHeight"]) for document in found), default=0)


def _height(write: Write) -> int | None:
    return int(write.update["$set"]["generalScannedHeight"]) if isinstance(write, Update) else None


def _of(databases: Databases, place: Place) -> Any:
    return databases(place.database)[place.collection]


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
