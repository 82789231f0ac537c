"""What of a commit may still be carried out when another node has worked with the database since.

Nothing that node wrote is replaced or deleted: rows are added where there are none, replaced or deleted only
where nothing in them is newer than the commit. What stands for a place in the chain (scanned height, rewinds,
block hashes, counters of retries) is dropped: it would tell the wrong place, and is found out anew. Nothing
dropped was ever acknowledged: a commit is, only after it was carried out whole. Pure; what is current now is
read before (`current_heights`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from bson.datetime_ms import DatetimeMS

from trionode.store.mongo.events_plan import COPIES, ERRORS, EVENTS, INSTALLING, LOCATIONS
from trionode.store.mongo.registry_plan import CHAIN, CURRENT, HASHES, MESSAGES, META, TEMPORARIES
from trionode.store.mongo.values import date
from trionode.store.mongo.writes import Delete, Document, Insert, Replace, Update, Write, Writes

Rule = Callable[[Write, int], Write | None]

_MOMENTS: Final = ("broadcastedAt", "createdAt", "receivedAt")


def current_names(plan: Sequence[Writes]) -> list[str]:
    """Apps whose specification in force the commit would put."""
    return [
        str(write.document.get("name"))
        for part in plan
        if _place(part) == (CURRENT.database, CURRENT.collection)
        for write in part.writes
        if isinstance(write, Insert | Replace)
    ]


def guarded(
    plan: Sequence[Writes], at_ms: int, current_heights: Mapping[str, int], scanned: int
) -> tuple[list[Writes], Mapping[str, int]]:
    """What is left of a commit written down at `at_ms`; and how many writes were dropped, by collection.

    The chain is read on from block `scanned`: payments beyond it come with their blocks, if they stand.
    """
    dropped: Counter[str] = Counter()
    left: list[Writes] = []
    for part in plan:
        if _place(part) == (CURRENT.database, CURRENT.collection):
            writes = list(_current(part.writes, current_heights))
        else:
            rule = _RULES.get(part.collection, _drop)
            writes = [write for before in part.writes if (write := rule(before, at_ms)) is not None]
            if _place(part) == (HASHES.database, HASHES.collection):
                writes = [write for write in writes if not _is_beyond(write, scanned)]
        dropped[part.collection] += len(part.writes) - len(writes)
        if writes:
            left.append(Writes(part.database, part.collection, writes))
    return left, {name: count for name, count in dropped.items() if count}


def _place(part: Writes) -> tuple[str, str]:
    return part.database, part.collection


def _current(writes: Sequence[Write], heights: Mapping[str, int]) -> Iterator[Write]:
    for write in writes:
        if isinstance(write, Insert | Replace):
            name, height = write.document.get("name"), int(write.document.get("height") or 0)
            if heights.get(str(name), -1) <= height:
                where = write.where if isinstance(write, Replace) else {"name": name}
                yield Replace(where, write.document)


def _drop(write: Write, at_ms: int) -> None:
    return None


def _keep(write: Write, at_ms: int) -> Write:
    return write


def _if_not_newer(write: Write, at_ms: int) -> Write | None:
    """Rows that a moment tells apart. New ones are not added: the other node may have its own of them."""
    match write:
        case Delete(where=where, many=many):
            return Delete({**where, **_none_later(at_ms)}, many)
        case Replace(where=where, document=document):
            return Replace({**where, **_not_later(document)}, document, upsert=False)
    return None


def _copy(write: Write, at_ms: int) -> Write | None:
    """As above; a unique index keeps a second one out, so that new ones may be added."""
    if isinstance(write, Replace):
        return Replace({**write.where, **_not_later(write.document)}, write.document)
    return _if_not_newer(write, at_ms)


def _event(write: Write, at_ms: int) -> Write | None:
    """Events guard themselves by their moment; only what does not ask for it gets a guard here."""
    match write:
        case Delete():
            return _if_not_newer(write, at_ms)
        case Update(where=where, update=update, upsert=upsert):
            if upsert:
                return Update(where, {"$setOnInsert": update.get("$setOnInsert", update.get("$set"))}, True)
            moved = update["$set"]
            is_touch = list(moved) == ["receivedAt"]
            return Update(where, {"$max": moved}) if is_touch else write
    return None


def _payment(write: Write, at_ms: int) -> Write | None:
    """A new payment, or the mark that its message is there (which this commit brings)."""
    is_mark = isinstance(write, Update) and write.update.get("$set", {}).get("message") is True
    return write if is_mark or isinstance(write, Insert) else None


def _is_beyond(write: Write, scanned: int) -> bool:
    return isinstance(write, Insert) and int(write.document.get("height") or 0) > scanned


def _new(write: Write, at_ms: int) -> Write | None:
    return write if isinstance(write, Insert) else None


def _from_chain(write: Write, at_ms: int) -> Write | None:
    """A message of the chain is the same whoever reads it."""
    return write if isinstance(write, Replace) else None


_RULES: Final[Mapping[str, Rule]] = {
    EVENTS: _event,
    LOCATIONS: _if_not_newer,
    INSTALLING: _if_not_newer,
    ERRORS: _if_not_newer,
    **dict.fromkeys(COPIES.values(), _copy),
    HASHES.collection: _payment,
    MESSAGES.collection: _new,
    TEMPORARIES.collection: _new,
    CHAIN.collection: _from_chain,
    META.collection: _keep,
}
"""By collection; what has no rule is dropped whole. Their names differ, except that of `CURRENT`."""


def _not_later(document: Document) -> Document:
    at = document.get("broadcastedAt")
    return {"broadcastedAt": {"$not": {"$gt": at}}} if isinstance(at, DatetimeMS) else {}


def _none_later(at_ms: int) -> dict[str, Any]:
    return {moment: {"$not": {"$gt": date(at_ms)}} for moment in _MOMENTS}
