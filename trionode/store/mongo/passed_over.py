"""Documents that reading page by page never comes to: what orders them is of a kind no node writes.

Pages go by `_id` (numbers of ours, object ids of other nodes) and, for the specifications in force, by name.
A document with another kind there was put by hand or by another program: it is left alone, counted and told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.store.mongo import events_plan
from trionode.store.mongo.journal import Databases
from trionode.store.mongo.registry_plan import CURRENT, HASHES, MESSAGES, TEMPORARIES, Place

UNREADABLE: Final = "store.mongo.unreadable_documents"

_OTHER_IDS: Final = {"_id": {"$not": {"$type": ["number", "objectId"]}}}
_EVENT_COLLECTIONS: Final = (
    events_plan.EVENTS,
    events_plan.LOCATIONS,
    events_plan.INSTALLING,
    events_plan.ERRORS,
    *events_plan.COPIES.values(),
)
EVENTS: Final[Mapping[Place, Mapping[str, Any]]] = {
    Place(events_plan.DATABASE, name): _OTHER_IDS for name in _EVENT_COLLECTIONS
}
REGISTRY: Final[Mapping[Place, Mapping[str, Any]]] = {
    **{place: {"_id": {"$not": {"$type": "objectId"}}} for place in (HASHES, MESSAGES, TEMPORARIES)},
    CURRENT: {"name": {"$not": {"$type": "string"}}},
}

log = get_logger("store.mongo")


def find_passed_over(
    databases: Databases, wanted: Mapping[Place, Mapping[str, Any]]
) -> dict[Place, list[Any]]:
    """`_id` of those documents, by place; blocks."""
    found: dict[Place, list[Any]] = {}
    for place, where in wanted.items():
        documents = databases(place.database)[place.collection].find(where, {"_id": 1})
        if ids := [document["_id"] for document in documents]:
            found[place] = ids
    return found


def tell_passed_over(found: Mapping[Place, list[Any]], counters: Counters) -> None:
    """Count them, and say so once for each collection."""
    for place, ids in found.items():
        counters.add(UNREADABLE, len(ids))
        log.warning(
            "documents that no node can have written are passed over",
            collection=f"{place.database}.{place.collection}",
            count=len(ids),
            first=str(ids[0])[:100],
        )
