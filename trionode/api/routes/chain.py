"""The chain daemon seen through the node (docs/spec/api.md §3).

Only questions are passed on, by a fixed list; nothing that changes the daemon or its wallet is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from trionode.api.answers import Answer, ApiFailure, Reply, data
from trionode.api.call import Call
from trionode.api.levels import Level
from trionode.api.route import INTEGER, STRING, Param, Route, list_of
from trionode.chain.port import ChainRpc
from trionode.errors import ChainError

LIST_LIMIT_MAX = 9_999_999


async def ask(rpc: ChainRpc, method: str, *params: Any, fresh: bool = False) -> Any:
    """One RPC; its error becomes an error envelope with the daemon's code (daemon-rpc.md §2)."""
    try:
        return await rpc.call(method, params, fresh=fresh)
    except ChainError as error:
        raise ApiFailure(error.message, name="Error", number=error.rpc_code) from error


async def node_status(call: Call) -> Answer:
    """Own status on the chain; other nodes ask it before they drop an app location of ours."""
    return data(await ask(call.context.daemon, "getzelnodestatus", fresh=True))


async def info(call: Call) -> Answer:
    found = await ask(call.context.daemon, "getinfo")
    if isinstance(found, dict) and "balance" in found and not call.allowed(Level.ADMIN):
        found = {name: value for name, value in found.items() if name != "balance"}
    return data(found)


async def node_list(call: Call) -> Answer:
    """The registered nodes; `limit` keeps the first so many."""
    limit = call.number("limit", default=LIST_LIMIT_MAX, low=1, high=LIST_LIMIT_MAX)
    wanted = call.text("filter")
    rows = await ask(call.context.daemon, "listfluxnodes", *([wanted] if wanted else []))
    return data(rows[:limit] if isinstance(rows, list) else rows)


def plain(method: str, *params: Param) -> Callable[[Call], Awaitable[Reply]]:
    """A handler that passes its parameters on as they are documented."""

    async def handler(call: Call) -> Answer:
        values: list[Any] = []
        for param in params:
            text = call.text(param.name)
            if not text:
                if param.required:
                    raise ApiFailure(f"No {param.name} specified")
                break
            values.append(_typed(call, param))
        return data(await ask(call.context.daemon, method, *values))

    return handler


def _typed(call: Call, param: Param) -> Any:
    if param.kind == "integer":
        return call.number(param.name, default=0, low=0, high=2**31 - 1)
    if param.kind == "boolean":
        return call.flag(param.name)
    return call.text(param.name)


def _passed(name: str, rpc: str, about: str, *params: Param, cache_s: int = 30, **more: Any) -> Route:
    return Route(
        f"/daemon/{name}", plain(rpc, *params), about, "daemon", cache_s=cache_s, params=params, **more
    )


_FILTER = (
    Param("filter", "Only rows the daemon matches with this text"),
    Param("limit", "Only the first so many rows", kind="integer", query_only=True),
)
_VERBOSITY = Param("verbosity", "0 hex, 1 object, 2 with transactions", kind="integer")
_VERBOSE = Param("verbose", "1 for an object", kind="integer")

ROUTES = (
    Route(
        "/daemon/getfluxnodestatus",
        node_status,
        "Own status on the chain",
        "daemon",
        cache_s=60,
        aliases=("/daemon/getzelnodestatus",),
        result={"type": "object"},
    ),
    Route("/daemon/getinfo", info, "Daemon overview", "daemon", cache_s=30, result={"type": "object"}),
    _passed("getblockchaininfo", "getblockchaininfo", "Chain state", result={"type": "object"}),
    Route(
        "/daemon/listfluxnodes",
        node_list,
        "Registered nodes",
        "daemon",
        cache_s=30,
        params=_FILTER,
        aliases=(
            "/daemon/viewdeterministicfluxnodelist",
            "/daemon/listzelnodes",
            "/daemon/viewdeterministiczelnodelist",
        ),
        result=list_of({"type": "object"}),
    ),
    _passed(
        "getfluxnodecount",
        "getzelnodecount",
        "Numbers of nodes",
        result={"type": "object"},
        aliases=("/daemon/getzelnodecount",),
    ),
    _passed("getdoslist", "getdoslist", "Nodes in DOS state"),
    _passed("getstartlist", "getstartlist", "Nodes waiting to start"),
    _passed(
        "fluxnodecurrentwinner",
        "zelnodecurrentwinner",
        "Who is paid next",
        aliases=("/daemon/zelnodecurrentwinner",),
    ),
    _passed("getblockcount", "getblockcount", "Height", result=INTEGER),
    _passed("getbestblockhash", "getbestblockhash", "Hash of the tip", result=STRING),
    _passed(
        "getblock", "getblock", "One block", Param("hashheight", "Hash or height", required=True), _VERBOSITY
    ),
    _passed(
        "getblockhash",
        "getblockhash",
        "Hash at a height",
        Param("index", "Height", kind="integer", required=True),
        result=STRING,
    ),
    _passed(
        "getblockheader",
        "getblockheader",
        "One header",
        Param("hash", "Block hash", required=True),
        Param("verbose", "true for an object", kind="boolean"),
    ),
    _passed(
        "getrawtransaction",
        "getrawtransaction",
        "One transaction",
        Param("txid", "Transaction id", required=True),
        _VERBOSE,
        cache_s=0,
    ),
    _passed("getrawmempool", "getrawmempool", "Waiting transactions"),
    _passed("getmempoolinfo", "getmempoolinfo", "State of the mempool"),
    _passed("getnetworkinfo", "getnetworkinfo", "Network state of the daemon"),
    _passed("getpeerinfo", "getpeerinfo", "Peers of the daemon"),
    _passed("getconnectioncount", "getconnectioncount", "Number of the daemon's peers"),
    _passed("getchaintips", "getchaintips", "Known tips"),
)
