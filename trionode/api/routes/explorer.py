"""The block explorer: how far the chain is read, and questions about addresses (docs/spec/api.md §4).

Addresses are answered from the daemon's address index; a daemon without one says so itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trionode.api.answers import Answer, ApiFailure, data, success
from trionode.api.call import Call
from trionode.api.levels import Level
from trionode.api.registryports import ExplorerPort
from trionode.api.route import BOOLEAN, INTEGER, MESSAGE, NUMBER, Param, Route, list_of, object_of, schema
from trionode.api.routes.chain import ask
from trionode.errors import TrionodeError

HIGHEST = 2**31 - 1


def explorer_of(call: Call) -> ExplorerPort:
    """The explorer. Raises ApiFailure on a node that runs none."""
    explorer = call.context.registry.explorer
    if explorer is None:
        raise ApiFailure("This node runs no explorer")
    return explorer


async def scanned_height(call: Call) -> Answer:
    explorer = call.context.registry.explorer
    if explorer is None or not explorer.scanned_height:
        raise ApiFailure("Scanning not initiated")
    return data({"generalScannedHeight": explorer.scanned_height})


async def is_synced(call: Call) -> Answer:
    """Peers ask this before they fetch app messages from us."""
    explorer = call.context.registry.explorer
    return data(explorer is not None and explorer.is_synced)


async def explorer_status(call: Call) -> Answer:
    """Where the explorer stands: height, tip, progress with rate and time left, last error."""
    status = explorer_of(call).status
    return data(
        {
            "scannedHeight": status.scanned_height,
            "tipHeight": status.tip_height,
            "isSynced": status.is_synced,
            "paused": status.paused,
            "progress": None if status.progress is None else status.progress.event(),
            "lastError": status.last_error,
        }
    )


# ---- addresses ---------------------------------------------------------------------------------------


async def _about_address(call: Call, method: str) -> Any:
    address = call.text("address")
    if not address:
        raise ApiFailure("No address provided")
    return await ask(call.context.daemon, method, {"addresses": [address]})


async def balance(call: Call) -> Answer:
    found = await _about_address(call, "getaddressbalance")
    return data(found.get("balance", 0) if isinstance(found, Mapping) else found)


async def unspent(call: Call) -> Answer:
    rows = await _about_address(call, "getaddressutxos")
    tip = call.context.chain.height
    return data([_unspent(row, tip) for row in rows if isinstance(row, Mapping)])


def _unspent(row: Mapping[str, Any], tip: int) -> dict[str, Any]:
    height = row.get("height", 0)
    return {
        "address": row.get("address"),
        "txid": row.get("txid"),
        "vout": row.get("outputIndex"),
        "height": height,
        "satoshis": row.get("satoshis"),
        "scriptPubKey": row.get("script"),
        "confirmations": max(0, tip - height + 1),
    }


async def transactions(call: Call) -> Answer:
    txids = await _about_address(call, "getaddresstxids")
    return data([{"txid": txid} for txid in reversed(txids)])


# ---- control -----------------------------------------------------------------------------------------


async def rescan(call: Call) -> Answer:
    """Read the chain again from a height; with `rescanapps` forget the messages of those blocks too."""
    text = call.text("height")
    if not text:
        raise ApiFailure("No block height to rescan from specified")
    height = call.number("height", default=0, low=0, high=HIGHEST)
    await _rescan(call, height, apps=call.flag("rescanapps"))
    return success(f"Explorer rescan from blockheight {height} initiated")


async def reindex(call: Call) -> Answer:
    """Read the chain again from its beginning."""
    await _rescan(call, 0, apps=call.flag("reindexapps"))
    return success("Explorer database reindex initiated")


async def _rescan(call: Call, height: int, *, apps: bool) -> None:
    try:
        await explorer_of(call).rescan(height, apps=apps)
    except TrionodeError as error:
        raise ApiFailure(error.one_line()) from error


async def restart(call: Call) -> Answer:
    explorer_of(call).resume()
    return success("Block processing initiated")


async def stop(call: Call) -> Answer:
    await explorer_of(call).pause()
    return success("Block processing is stopped")


_ADDRESS = (Param("address", "Address", required=True),)
_GROUP = "explorer"
_OPERATOR = Level.ADMIN_OR_TEAM

ROUTES = (
    Route(
        "/explorer/scannedheight",
        scanned_height,
        "Height scanned for app messages; an error before the first scan",
        _GROUP,
        cache_s=30,
        result=object_of(generalScannedHeight=INTEGER),
    ),
    Route("/explorer/issynced", is_synced, "Scanned up to the tip?", _GROUP, cache_s=30, result=BOOLEAN),
    Route("/explorer/balance", balance, "Balance", _GROUP, cache_s=30, params=_ADDRESS, result=NUMBER),
    Route(
        "/explorer/utxo",
        unspent,
        "Unspent outputs",
        _GROUP,
        cache_s=30,
        params=_ADDRESS,
        result=list_of(schema("object")),
    ),
    Route(
        "/explorer/transactions",
        transactions,
        "Transactions, newest first",
        _GROUP,
        cache_s=30,
        params=_ADDRESS,
        result=list_of(schema("object")),
    ),
    Route(
        "/explorer/rescan",
        rescan,
        "Read the blocks above a height again",
        _GROUP,
        level=_OPERATOR,
        params=(
            Param("height", "Blocks above it are read again", kind="integer", required=True),
            Param("rescanapps", "Forget the messages of those blocks", kind="boolean"),
        ),
        result=MESSAGE,
    ),
    Route(
        "/explorer/reindex",
        reindex,
        "Read the whole chain again",
        _GROUP,
        level=_OPERATOR,
        params=(Param("reindexapps", "Forget all messages", kind="boolean"),),
        result=MESSAGE,
    ),
    Route("/explorer/restart", restart, "Go on reading", _GROUP, level=_OPERATOR, result=MESSAGE),
    Route("/explorer/stop", stop, "Stop reading", _GROUP, level=_OPERATOR, result=MESSAGE),
    Route(
        "/trionode/explorer",
        explorer_status,
        "Where the explorer stands",
        _GROUP,
        result=object_of(
            scannedHeight=INTEGER,
            tipHeight=INTEGER,
            isSynced=BOOLEAN,
            paused=BOOLEAN,
            progress=schema("object", nullable=True),
            lastError=schema("string", nullable=True),
        ),
    ),
)
