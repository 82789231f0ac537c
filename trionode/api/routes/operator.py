"""What the operator and the network's team may do to a node (docs/spec/api.md §5, §6)."""

from __future__ import annotations

from typing import Any

from trionode.api.answers import Answer, ApiFailure, success, warning
from trionode.api.call import Call
from trionode.api.levels import Level
from trionode.api.route import MESSAGE, Field, Param, Route
from trionode.api.routes.peers import IP, dialled, target_of
from trionode.errors import TrionodeError, WireError
from trionode.peers.closecodes import Direction
from trionode.store.faults import FaultyRegistryStore
from trionode.wire import jsjson
from trionode.wire.address import peer_key


async def set_dos_state(call: Call) -> Answer:
    """Test networks only: 404 unless `api.test_controls`, before anything else is looked at."""
    if not call.context.settings.api.test_controls:
        raise ApiFailure("Not enabled on this node", http_status=404)
    if not call.allowed(Level.TEAM):
        raise ApiFailure("Unauthorized. Access denied.", name="Unauthorized", number=401)
    state = call.body.get("dosState")
    if isinstance(state, bool) or not isinstance(state, int | float):
        raise ApiFailure("dosState must be a number")
    text = call.body.get("dosMessage")
    if text is not None and not isinstance(text, str):
        raise ApiFailure("dosMessage must be a text or null")
    dos = call.context.dos
    dos.set(state, text or None, announce=True)
    return success({"dosState": state, "dosMessage": text or None})


async def fail_hash_lookups(call: Call) -> Answer:
    """Test networks only, like `set_dos_state`: hash sync runs begin with a read that fails."""
    store = call.context.registry.store
    if not call.context.settings.api.test_controls or not isinstance(store, FaultyRegistryStore):
        raise ApiFailure("Not enabled on this node", http_status=404)
    if not call.allowed(Level.TEAM):
        raise ApiFailure("Unauthorized. Access denied.", name="Unauthorized", number=401)
    count = call.body.get("count")
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ApiFailure("count must be a whole number of at least 0")
    store.fail_next(count)
    return success(f"The next {count} looks for missing messages will fail")


async def start_discovery(call: Call) -> Answer:
    call.context.peers.start_discovery()
    return success("Flux Discovery started")


async def add_peer(call: Call) -> Answer:
    return dialled(call, source_ip=None, source="manual")


async def remove_peer(call: Call) -> Answer:
    return _remove(call, "outbound")


async def remove_incoming_peer(call: Call) -> Answer:
    return _remove(call, "inbound")


def _remove(call: Call, direction: Direction) -> Answer:
    key = peer_key(*target_of(call.text("ip")))
    peers = call.context.peers
    if not peers.table.rows(direction, key) or not peers.close_peer(key):
        return warning(f"No {direction} connection to {key}")
    return success(f"Connection to {key} closed")


async def broadcast(call: Call) -> Answer:
    """Sign arbitrary data with the node's key and send it to all peers."""
    content: Any = dict(call.body)
    if not content:
        text = call.text("data")
        if not text:
            raise ApiFailure("No message to broadcast attached.")
        try:
            content = jsjson.parse(text)
        except WireError as error:
            raise ApiFailure(f"Message is not valid JSON: {error.message}") from error
    if not isinstance(content, dict) or not isinstance(content.get("type"), str):
        raise ApiFailure("Message must be a JSON object with a text member 'type'")
    if not call.context.chain.can_send:
        raise ApiFailure("This node may not send messages: it is not confirmed or not listed with its key")
    try:
        call.context.peers.broadcast_own(content)
    except TrionodeError as error:
        raise ApiFailure(error.one_line()) from error
    return success("Message successfully broadcasted to Flux network")


_DATA = Param("data", "JSON text of an object with a member `type`", required=True)

ROUTES = (
    Route(
        "/flux/dosstate",
        set_dos_state,
        "Test networks only: set the penalty counter (level: team)",
        "operator",
        method="POST",
        body=(Field("dosState", "number"), Field("dosMessage", "string", required=False)),
        result=MESSAGE,
        rare_statuses=(404,),
    ),
    Route(
        "/trionode/failhashlookups",
        fail_hash_lookups,
        "Test networks only: make the next looks for missing messages fail (level: team)",
        "operator",
        method="POST",
        body=(Field("count", "integer"),),
        result=MESSAGE,
        rare_statuses=(404,),
    ),
    Route(
        "/flux/startdiscovery",
        start_discovery,
        "Start looking for peers",
        "operator",
        level=Level.TEAM,
        result=MESSAGE,
    ),
    Route(
        "/flux/addpeer",
        add_peer,
        "Open a link to a node",
        "operator",
        level=Level.ADMIN_OR_TEAM,
        params=(IP,),
        result=MESSAGE,
    ),
    Route(
        "/flux/removepeer",
        remove_peer,
        "Close an outbound link",
        "operator",
        level=Level.ADMIN_OR_TEAM,
        params=(IP,),
        result=MESSAGE,
    ),
    Route(
        "/flux/removeincomingpeer",
        remove_incoming_peer,
        "Close an inbound link",
        "operator",
        level=Level.ADMIN_OR_TEAM,
        params=(IP,),
        result=MESSAGE,
    ),
    Route(
        "/flux/broadcastmessage",
        broadcast,
        "Sign data and send it to all peers",
        "operator",
        level=Level.ADMIN_OR_TEAM,
        params=(_DATA,),
        result=MESSAGE,
    ),
    Route(
        "/flux/broadcastmessage",
        broadcast,
        "Sign the body and send it to all peers",
        "operator",
        method="POST",
        level=Level.ADMIN_OR_TEAM,
        body=(Field("type", "string", "Kind of the message; other members as they are"),),
        result=MESSAGE,
    ),
)
