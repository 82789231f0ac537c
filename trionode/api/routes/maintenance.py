"""Maintenance of the registry by hand (docs/spec/api.md §8.3, registry.md §12, §13)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trionode.api.answers import Answer, ApiFailure, Reply, success, warning
from trionode.api.call import Call
from trionode.api.levels import Level
from trionode.api.registryports import AppsPort
from trionode.api.route import MESSAGE, Param, Route
from trionode.api.routes.explorer import HIGHEST
from trionode.errors import TrionodeError

HASH_LENGTH = 64


def apps_of(call: Call) -> AppsPort:
    """The registry service. Raises ApiFailure on a node that runs none."""
    apps = call.context.registry.apps
    if apps is None:
        raise ApiFailure("This node keeps no registry of apps")
    return apps


async def check_hashes(call: Call) -> Answer:
    """Look for every missing message now, also for those given up; the answer does not wait for it."""
    sync = call.context.registry.hash_sync
    if sync is None:
        raise ApiFailure("This node does not look for missing messages")
    sync.request_hash_sync(force=True)
    return success("Running check on missing application messages")


async def request_message(call: Call) -> Answer:
    """Ask all peers for one message; it comes back like any other."""
    hash_ = call.text("hash")
    if len(hash_) != HASH_LENGTH:
        raise ApiFailure(f"No message hash of {HASH_LENGTH} characters specified")
    try:
        call.context.peers.broadcast_own({"type": "fluxapprequest", "version": 1, "hash": hash_})
    except TrionodeError as error:
        raise ApiFailure(error.one_line()) from error
    return success("Application request message broadcasted to peers")


async def rescan_information(call: Call) -> Answer:
    """Make the current specifications anew from messages paid at a height and later."""
    if not call.text("height"):
        raise ApiFailure("No blockheight provided")
    height = call.number("height", default=0, low=0, high=HIGHEST)
    count = await apps_of(call).rescan(height)
    if count is None:
        return warning("The specifications are being made anew already")
    return success(f"Rescan finished: {count} specifications in force")


async def reindex_information(call: Call) -> Answer:
    """Make the current specifications anew from all messages."""
    count = await apps_of(call).reindex()
    if count is None:
        return warning("The specifications are being made anew already")
    return success(f"Reindex finished: {count} specifications in force")


async def reconstruct_hashes(call: Call) -> Answer:
    """Put payments right that disagree with the stored messages."""
    changed = await apps_of(call).reconstruct()
    return success(f"Reconstruct success: {changed} payments changed")


async def reindex_locations(call: Call) -> Answer:
    """Locations are worked out from the events whenever they are asked for: there is no index to renew."""
    return success("Locations follow the events; there is nothing to reindex")


_GROUP = "registry"


def _operators(path: str, handler: Callable[[Call], Awaitable[Reply]], about: str, *params: Param) -> Route:
    return Route(path, handler, about, _GROUP, level=Level.ADMIN_OR_TEAM, params=params, result=MESSAGE)


ROUTES = (
    _operators("/apps/checkhashes", check_hashes, "Look for missing messages now"),
    _operators(
        "/apps/requestmessage",
        request_message,
        "Ask all peers for a message",
        Param("hash", "Hash of the message", required=True),
    ),
    _operators(
        "/apps/rescanglobalappsinformation",
        rescan_information,
        "Make the current specifications anew from a height on",
        Param("height", "First height", kind="integer", required=True),
        Param("removelast", "Accepted and without effect: they are always made anew", kind="boolean"),
    ),
    _operators(
        "/apps/reindexglobalappsinformation",
        reindex_information,
        "Make the current specifications anew from all messages",
    ),
    _operators("/apps/reindexglobalappslocation", reindex_locations, "Nothing to do here"),
    _operators("/apps/reconstructhashes", reconstruct_hashes, "Audit the payments"),
)
