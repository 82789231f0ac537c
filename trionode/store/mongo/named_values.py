"""Named values of a node (`meta`): the heartbeat in the place every node knows, others in ours.

The heartbeat is `zelfluxlocal.nodestartuptracker` {_id: "heartbeat", lastAlive, machineBootId,
shutdownReason?} (docs/spec/events.md §2); other values are texts in `zelfluxlocal.trionodemeta`.
"""

from __future__ import annotations

from trionode.errors import WireError
from trionode.store.mongo.connection import MongoServer
from trionode.store.mongo.presence import ALIVE, HEARTBEAT
from trionode.store.mongo.values import Writer, from_bson, safe_text
from trionode.store.mongo.writes import Document
from trionode.wire.jsjson import parse, quote, stringify

DATABASE = "zelfluxlocal"
TRACKER = "nodestartuptracker"
META = "trionodemeta"

_TEXT = "value"


async def put_value(server: MongoServer, scope: str, key: str, value: str) -> None:
    """Store one value, durable when it returns. `scope` keeps the stores of a node apart."""
    name, document = _stored(scope, key, value)

    def work() -> None:
        beats = key == HEARTBEAT and not server.has_transactions
        presence = server.journalled.presence
        if beats:
            presence.announce(server.database, document.get(ALIVE))
        server.database(DATABASE)[name].replace_one({"_id": document["_id"]}, document, upsert=True)
        if beats:
            presence.announced(document.get(ALIVE))

    await server.call(work, doing="write", writes=True)


async def get_value(server: MongoServer, scope: str, key: str) -> str | None:
    """The value, None when it was never put."""
    name, document_id = _place(scope, key)
    found = await server.call(lambda: server.database(DATABASE)[name].find_one({"_id": document_id}))
    if found is None:
        return None
    text = found.get(_TEXT)
    if isinstance(text, str):
        value = parse(text)
        return value if isinstance(value, str) else text
    del found["_id"]
    return stringify(from_bson(found))


def _place(scope: str, key: str) -> tuple[str, str]:
    return (TRACKER, key) if key == HEARTBEAT else (META, safe_text(f"{scope}:{key}"))


def _stored(scope: str, key: str, value: str) -> tuple[str, Document]:
    name, document_id = _place(scope, key)
    if key == HEARTBEAT:
        writer = Writer()
        try:
            record = writer.value(parse(value))
        except WireError:
            record = None
        if isinstance(record, dict) and writer.is_exact and not {"_id", _TEXT} & record.keys():
            return name, {"_id": document_id, **record}
    return name, {"_id": document_id, _TEXT: quote(value)}
