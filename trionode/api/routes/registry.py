"""The registry as it is asked: payments, messages, current specifications (api.md §7, registry.md §13).

Rows are written as the JSON text they are stored as, so what is served again has the very bytes its hash
was taken over. Names, owners and hashes are compared as text, never used as patterns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import trio

from trionode.api.answers import Answer, ApiFailure, JsonStream, JsonText, data
from trionode.api.call import Call
from trionode.api.closing import closing
from trionode.api.dates import iso
from trionode.api.registrycall import find_current, require_synced, store_of
from trionode.api.route import INTEGER, STRING, Param, Route, list_of, object_of, schema
from trionode.registry.expiry import expiration_height
from trionode.registry.messages import REGISTER_TYPES
from trionode.registry.rows import CurrentSpec, TemporaryRow
from trionode.store.registry_port import RegistryStore
from trionode.wire.jsjson import JsValue, stringify

PIECE_ROWS = 200
SLICE_ROWS = 500

OBJECT = schema("object")
HASH_ROW = {
    "type": "object",
    "properties": {
        "txid": STRING,
        "height": INTEGER,
        "hash": STRING,
        "value": {"type": "number"},
        "message": {"type": "boolean"},
        "messageNotFound": {"type": "boolean"},
    },
    "required": ["txid", "height", "hash", "value", "message"],
}
HASH_MEMBERS = ("txid", "height", "hash", "value", "message", "messageNotFound")


# ---- payments ----------------------------------------------------------------------------------------


async def hashes(call: Call) -> JsonText:
    """Every payment; the retry fields are nobody else's business."""
    return JsonText(await _list_text([text async for text in _hash_texts(store_of(call))]))


async def _hash_texts(store: RegistryStore) -> AsyncIterator[str]:
    async for row in store.stream_hashes():
        document = row.document()
        yield stringify({name: document[name] for name in HASH_MEMBERS if name in document})


async def _list_text(texts: list[str]) -> str:
    await trio.lowlevel.checkpoint()
    return f"[{','.join(texts)}]"


# ---- messages ----------------------------------------------------------------------------------------


async def permanent_messages(call: Call) -> JsonStream:
    """Paid messages in the order of insertion, as long as the list may be."""
    store = store_of(call)
    filters = {name: call.text(name) or None for name in ("hash", "owner", "appname")}
    pieces = _permanent_pieces(store, filters["hash"], filters["owner"], filters["appname"])
    # Rows are only added, except by a rescan that forgets apps, which is counted.
    context = call.context
    count = await store.permanent_counts()
    tag = f"{round(context.started_s * 1000):x}-{context.counters['explorer.rescans']:x}-{count:x}"
    return JsonStream(pieces, f'W/"{tag}"')


async def _permanent_pieces(
    store: RegistryStore, hash_: str | None, owner: str | None, name: str | None
) -> AsyncIterator[str]:
    texts: list[str] = []
    async with closing(store.stream_permanents(hash=hash_, owner=owner, name=name)) as rows:
        async for row in rows:
            texts.append(row.json_text())
            if len(texts) == PIECE_ROWS:
                yield ",".join(texts)
                texts.clear()
    if texts:
        yield ",".join(texts)


async def temporary_messages(call: Call) -> JsonText:
    wanted = call.text("hash")
    store = store_of(call)
    if wanted:
        row = await store.temporary(wanted)
        rows: Iterable[TemporaryRow] = () if row is None else (row,)
    else:
        rows = await store.temporaries()
    now_ms = call.context.clock.now_ms()
    return JsonText(await _list_text([_temporary_text(row) for row in rows if row.expire_at_ms > now_ms]))


def _temporary_text(row: TemporaryRow) -> str:
    head: dict[str, JsValue] = {"type": row.type, "version": row.version}
    tail: dict[str, JsValue] = {
        "hash": row.hash,
        "timestamp": row.timestamp_ms,
        "signature": row.signature,
        "receivedAt": iso(row.received_at_ms),
        "expireAt": iso(row.expire_at_ms),
    }
    if row.arcane_sender is not None:
        tail["arcaneSender"] = row.arcane_sender
    return f'{stringify(head)[:-1]},"appSpecifications":{row.spec_text},{stringify(tail)[1:]}'


async def messages_count(call: Call) -> Answer:
    owner = call.text("owner")
    if not owner:
        raise ApiFailure("No owner specified")
    return data(await store_of(call).permanent_counts(owner=owner))


# ---- current specifications ----------------------------------------------------------------------------


async def current_specs(call: Call) -> JsonText:
    """All specifications in force, or those of a hash, an owner, a name (in any letter case)."""
    wanted_hash, wanted_owner = call.text("hash"), call.text("owner")
    wanted_name = call.text("appname").lower()
    texts: list[str] = []
    async for row in store_of(call).stream_current():
        if wanted_hash and row.hash != wanted_hash:
            continue
        if wanted_name and row.name.lower() != wanted_name:
            continue
        if wanted_owner and row.spec().get("owner") != wanted_owner:
            continue
        texts.append(row.json_text())
    return JsonText(await _list_text(texts))


async def current_of(call: Call) -> CurrentSpec:
    """The specification in force of the app that is asked for. Raises ApiFailure."""
    name = call.text("appname")
    if not name:
        raise ApiFailure("No Application Name specified")
    found = await find_current(call, name)
    if found is None:
        raise ApiFailure(f"There is no app {name!r} now: it was never registered and paid, or it has ended")
    return found


async def app_specification(call: Call) -> JsonText:
    """One specification. What is encrypted stays so: this node cannot open it for anybody."""
    if call.flag("decrypt"):
        raise ApiFailure("This node cannot open encrypted specifications")
    require_synced(call)
    return JsonText((await current_of(call)).json_text())


async def app_owner(call: Call) -> Answer:
    return data((await current_of(call)).spec().get("owner"))


async def app_original_owner(call: Call) -> Answer:
    """Who registered the app the last time, whoever owns it now."""
    name = call.text("appname")
    if not name:
        raise ApiFailure("No Application Name specified")
    found = await find_current(call, name)
    rows = await store_of(call).permanents_of(name if found is None else found.name)
    registrations = [row for row in rows if row.type in REGISTER_TYPES]
    if not registrations:
        raise ApiFailure(f"No registration of an app {name!r} is known")
    return data(max(registrations, key=lambda row: row.recency).owner)


# ---- our own: for the command line -----------------------------------------------------------------------


async def app_history(call: Call) -> JsonText:
    """Every paid message of one app, oldest first, fresh."""
    name = call.text("name")
    if not name:
        raise ApiFailure("No app name specified")
    found = await find_current(call, name)
    rows = await store_of(call).permanents_of(name if found is None else found.name)
    return JsonText(await _list_text([row.json_text() for row in rows]))


async def registered_apps(call: Call) -> Answer:
    """What is in force, in short, with the block it ends at: all, of an owner, or of a name."""
    wanted_owner, wanted_name = call.text("owner"), call.text("name").lower()
    context = call.context
    found: list[dict[str, JsValue]] = []
    async with closing(store_of(call).stream_current()) as rows:
        async for row in rows:
            if wanted_name and row.name.lower() != wanted_name:
                continue
            spec = row.spec()
            if wanted_owner and spec.get("owner") != wanted_owner:
                continue
            found.append(
                {
                    "name": row.name,
                    "version": spec.get("version"),
                    "owner": spec.get("owner"),
                    "instances": spec.get("instances"),
                    "locations": len(context.log.index.locations(row.name)),
                    "hash": row.hash,
                    "height": row.height,
                    "endHeight": expiration_height(
                        row.height, spec.get("expire"), context.registry.constants
                    ),
                }
            )
    return data(found)


async def registry_overview(call: Call) -> Answer:
    """Rows, what is missing, and when it is looked for again."""
    store = store_of(call)
    counts = await store.hash_counts()
    sync = call.context.registry.hash_sync
    return data(
        {
            "rows": await store.counts(),
            "hashes": {
                "total": counts.total,
                "resolved": counts.total - counts.missing,
                "missing": counts.missing,
                "unreachable": counts.unreachable,
                "nextRetryHeight": counts.next_retry_height,
                "oldestMissingHeight": counts.oldest_missing_height,
            },
            "chain": {"height": call.context.chain.height, "synced": call.context.chain.synced},
            "sync": None if sync is None else sync.hash_status.document(),
        }
    )


async def missing_hashes(call: Call) -> Answer:
    """Payments whose message is not here, oldest first, and when each is asked for again."""
    limit = call.number("limit", default=1000, low=1, high=100_000)
    rows = await store_of(call).hashes(missing=True)
    found: list[JsValue] = []
    for number, row in enumerate(rows[:limit]):
        if number % SLICE_ROWS == 0:
            await trio.lowlevel.checkpoint()
        found.append({**row.document(), "refused": _refusal(call, row.hash)})
    return data({"total": len(rows), "rows": found})


def _refusal(call: Call, hash_: str) -> str | None:
    """Why the message was refused when it last came; None when it never came."""
    apps = call.context.registry.apps
    rejection = None if apps is None else apps.rejection_of(hash_)
    return None if rejection is None else rejection.sentence


_NAME = Param("appname", "Name of the app, in any letter case", required=True)
_GROUP = "registry"
_FILTERS = (
    Param("hash", "Only the one with this hash"),
    Param("owner", "Only of this owner"),
    Param("appname", "Only of this app"),
)


ROUTES = (
    Route(
        "/apps/hashes", hashes, "Every payment for a message", _GROUP, cache_s=30, result=list_of(HASH_ROW)
    ),
    Route(
        "/apps/permanentmessages",
        permanent_messages,
        "Every paid message; the list is long and streamed",
        _GROUP,
        cache_s=120,
        params=_FILTERS,
        result=list_of(OBJECT),
    ),
    Route(
        "/apps/temporarymessages",
        temporary_messages,
        "Messages that wait for their payment",
        _GROUP,
        cache_s=5,
        params=(Param("hash", "Only the one with this hash"),),
        result=list_of(OBJECT),
    ),
    Route(
        "/apps/globalappsspecifications",
        current_specs,
        "Every specification in force",
        _GROUP,
        cache_s=30,
        params=_FILTERS,
        result=list_of(OBJECT),
    ),
    Route(
        "/apps/appspecifications",
        app_specification,
        "The specification of one app",
        _GROUP,
        params=(_NAME, Param("decrypt", "Not possible on this node", kind="boolean")),
        result=OBJECT,
    ),
    Route("/apps/appowner", app_owner, "Who owns an app", _GROUP, cache_s=30, params=(_NAME,), result=STRING),
    Route(
        "/apps/apporiginalowner",
        app_original_owner,
        "Who registered an app the last time",
        _GROUP,
        cache_s=30,
        params=(_NAME,),
        result=STRING,
    ),
    Route(
        "/apps/messagescount",
        messages_count,
        "Number of paid messages of an owner",
        _GROUP,
        cache_s=30,
        params=(Param("owner", "Flux ID", required=True),),
        result=INTEGER,
    ),
    Route(
        "/trionode/history",
        app_history,
        "Every paid message of one app, oldest first",
        _GROUP,
        params=(Param("name", "Name of the app", required=True),),
        result=list_of(OBJECT),
    ),
    Route(
        "/trionode/registered",
        registered_apps,
        "Specifications in force, in short",
        _GROUP,
        params=(Param("name", "Only this app"), Param("owner", "Only of this owner", query_only=True)),
        result=list_of(OBJECT),
    ),
    Route(
        "/trionode/registry",
        registry_overview,
        "Rows of the registry and missing messages",
        _GROUP,
        result=object_of(rows=OBJECT, hashes=OBJECT, chain=OBJECT, sync=schema("object", nullable=True)),
    ),
    Route(
        "/trionode/missinghashes",
        missing_hashes,
        "Payments whose message is not known",
        _GROUP,
        params=(Param("limit", "Only the first so many", kind="integer", query_only=True),),
        result=object_of(total=INTEGER, rows=list_of(HASH_ROW)),
    ),
)
