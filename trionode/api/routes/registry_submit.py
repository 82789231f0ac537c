"""Registering and updating apps through this node (docs/spec/api.md §8.1, registry.md §10).

A message is sent to all peers, then asked back by its hash: only when a peer has sent it back, judged
anew like any other, is it known that the network took it. The answer is the hash to be paid on the chain.
"""

from __future__ import annotations

from typing import Any

import trio

from trionode.api.answers import Answer, ApiFailure, data
from trionode.api.call import Call
from trionode.api.levels import Level
from trionode.api.registering import read_message
from trionode.api.registrycall import require_synced, store_of
from trionode.api.route import STRING, Field, Route
from trionode.chain.enterprise import public_key
from trionode.errors import TrionodeError
from trionode.registry.messages import REGISTER_TYPES, UPDATE_TYPES, message_document

ROUND_TRIP_S = 1.2
POLL_S = 0.5
POLLS = 20


async def register(call: Call) -> Answer:
    return await _submit(call, REGISTER_TYPES)


async def update(call: Call) -> Answer:
    return await _submit(call, UPDATE_TYPES)


async def _submit(call: Call, types: frozenset[str]) -> Answer:
    _require_peers(call)
    require_synced(call)
    if not call.context.chain.can_send:
        raise ApiFailure("This node may not send messages: it is not confirmed or not listed with its key")
    message = await read_message(call, types, call.context.clock.now_ms())
    _broadcast(call, message_document(message))
    await trio.sleep(ROUND_TRIP_S)
    _broadcast(call, {"type": "fluxapprequest", "version": 1, "hash": message.hash})
    await trio.sleep(ROUND_TRIP_S)
    for _ in range(POLLS):
        if await _is_known(call, message.hash):
            return data(message.hash)
        await trio.sleep(POLL_S)
    raise ApiFailure(
        "Unable to register application on the network: no peer sent the message back. Try again later."
    )


async def app_key(call: Call) -> Answer:
    """Whoever encrypts a specification asks a secure node for this first."""
    owner, name = call.body.get("owner"), call.body.get("name")
    if not isinstance(owner, str) or not isinstance(name, str) or not owner or not name:
        raise ApiFailure("Owner and name of the app are needed, both as text")
    context = call.context
    found = await public_key(context.bench, owner, name, context.chain.height)
    if found is None:
        raise ApiFailure("This node gives no keys for encrypted specifications: ask an Arcane node")
    return data(found)


async def _is_known(call: Call, hash_: str) -> bool:
    store = store_of(call)
    return await store.temporary(hash_) is not None or await store.permanent(hash_) is not None


def _require_peers(call: Call) -> None:
    table, wanted = call.context.peers.table, call.context.settings.peers
    if table.outbound < wanted.min_outbound or table.inbound < wanted.min_inbound:
        raise ApiFailure(
            "Sorry, this Flux does not have enough peers for safe application registration: "
            f"{table.outbound} outgoing of {wanted.min_outbound}, "
            f"{table.inbound} incoming of {wanted.min_inbound}"
        )


def _broadcast(call: Call, content: dict[str, Any]) -> None:
    try:
        call.context.peers.broadcast_own(content)
    except TrionodeError as error:
        raise ApiFailure(error.one_line()) from error


_BODY = (
    Field("type", "string", "fluxappregister or fluxappupdate"),
    Field("version", "integer", "1"),
    Field("appSpecification", "object", "As a verify… route answered it"),
    Field("timestamp", "integer", "Milliseconds; signed, at most an hour old"),
    Field("signature", "string", "Of type + version + JSON of the specification + timestamp"),
)
_GROUP = "registry"

ROUTES = (
    Route(
        "/apps/appregister",
        register,
        "Register an app; the answer is the hash to be paid",
        _GROUP,
        method="POST",
        level=Level.USER,
        body=_BODY,
        result=STRING,
    ),
    Route(
        "/apps/appupdate",
        update,
        "Update an app; the answer is the hash to be paid",
        _GROUP,
        method="POST",
        level=Level.USER,
        body=_BODY,
        result=STRING,
    ),
    Route(
        "/apps/getpublickey",
        app_key,
        "The key to encrypt a specification with",
        _GROUP,
        method="POST",
        level=Level.USER,
        body=(Field("owner", "string", "Flux ID of the owner"), Field("name", "string", "Name of the app")),
        result=STRING,
    ),
)
