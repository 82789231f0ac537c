"""Node information: /flux/version, /flux/info and their kin (docs/spec/api.md §5)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import trio

from trionode.api.answers import Answer, ApiFailure, data
from trionode.api.appcall import in_time
from trionode.api.call import Call
from trionode.api.route import (
    ANYTHING,
    BOOLEAN,
    INTEGER,
    NUMBER,
    NUMBER_OR_NULL,
    STRING,
    TEXT_OR_NULL,
    Route,
    object_of,
)
from trionode.api.routes.containers import resources_document, running_documents, usage_document
from trionode.chain.port import ChainRpc
from trionode.containers.node.geolocation import Located
from trionode.errors import ChainError

DAY_S = 86_400
ENGINE_S = 10.0
TIER_NAMES = {"CUMULUS": "cumulus_new", "NIMBUS": "nimbus_new", "STRATUS": "stratus_new"}

DOS_STATE = object_of(dosState=NUMBER, dosMessage=TEXT_OR_NULL)


async def version(call: Call) -> Answer:
    return data(call.context.settings.node.compatibility_version)


async def uptime(call: Call) -> Answer:
    return data(uptime_s(call))


def uptime_s(call: Call) -> int:
    """Whole seconds since the node started."""
    return int(trio.current_time() - call.context.started_s)


async def system_uptime(call: Call) -> Answer:
    return data(int(call.context.os_uptime_s()))


async def own_ip(call: Call) -> Answer:
    return data(call.context.chain.own_address)


async def node_tier(call: Call) -> Answer:
    context = call.context
    address = context.chain.own_address
    entry = context.chain.nodes.by_address(address) if address is not None else None
    tier = TIER_NAMES.get(entry.tier.upper()) if entry is not None else None
    if tier is None:
        raise ApiFailure("Tier is unknown: this node is not in the node list")
    return data(tier)


async def operator_id(call: Call) -> Answer:
    return data(call.context.settings.node.operator_id)


async def flux_ids(call: Call) -> Answer:
    api = call.context.settings.api
    return data({"fluxTeamFluxID": api.team_id, "fluxSupportTeamFluxID": api.support_id})


async def api_port(call: Call) -> Answer:
    return data(call.context.settings.node.api_port)


async def kadena_address(call: Call) -> Answer:
    return data(call.context.settings.node.kadena_address or None)


async def geolocation(call: Call) -> Answer:
    """Null until it is known, which takes an engine: without one nothing depends on the place."""
    located = _located(call)
    return data(None if located is None else dict(located.document))


def _located(call: Call) -> Located | None:
    containers = call.context.containers
    return None if containers is None else containers.node.located


async def is_arcane(call: Call) -> Answer:
    try:
        found = await call.context.bench.call("getbenchmarks")
    except ChainError:
        return Answer("success", False, life_s=30)
    return data(bool(found.get("systemsecure", False)) if isinstance(found, dict) else False)


async def dos_state(call: Call) -> Answer:
    return data(call.context.dos.snapshot())


async def clock_drift(call: Call) -> Answer:
    return data({"source": None, "offset": None, "time": call.context.clock.now_ms()})


async def network_health(call: Call) -> Answer:
    watch = call.context.watch
    if watch is None:
        return data({"status": "UNKNOWN", "inSteadyState": None, "history": []})
    return data(watch.network_health())


async def info(call: Call) -> Answer:
    """Everything at once (§5.1); every member is present, null where its source is missing."""
    context = call.context
    found: dict[str, Any] = {}

    async def ask(name: str, rpc: ChainRpc, method: str, params: Sequence[Any] = ()) -> None:
        try:
            found[name] = await rpc.call(method, params)
        except ChainError:
            found[name] = None

    async def ask_engine() -> None:
        found["docker"] = await _docker_version(call)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_engine)
        nursery.start_soon(ask, "daemon", context.daemon, "getinfo")
        nursery.start_soon(ask, "node", context.daemon, "getzelnodestatus")
        nursery.start_soon(ask, "bench_info", context.bench, "getinfo")
        nursery.start_soon(ask, "bench_status", context.bench, "getstatus")
        nursery.start_soon(ask, "bench", context.bench, "getbenchmarks")
    daemon, located = found["daemon"], _located(call)
    if isinstance(daemon, dict):
        daemon = {name: value for name, value in daemon.items() if name != "balance"}
    return data(
        {
            "daemon": {"info": daemon, "zmqEnabled": False},
            "node": {"status": found["node"]},
            "benchmark": {
                "info": found["bench_info"],
                "status": found["bench_status"],
                "bench": found["bench"],
            },
            "flux": _flux_member(call, found["docker"]),
            "apps": await _apps_member(call),
            "geolocation": None if located is None else dict(located.document),
            **await _hash_members(call),
        }
    )


async def _apps_member(call: Call) -> dict[str, Any]:
    """What runs here; null without an engine, and while it does not answer."""
    found: dict[str, Any] = {"fluxusage": None, "runningapps": None, "resources": None}
    containers = call.context.containers
    if containers is None:
        return found
    found["resources"] = resources_document(call, containers)
    try:
        found["fluxusage"] = await usage_document(call, containers)
        found["runningapps"] = await running_documents(containers)
    except ApiFailure:
        return found
    return found


async def _docker_version(call: Call) -> str | None:
    if call.context.containers is None:
        return None
    try:
        return (await in_time(call.context.containers.engine.info(), ENGINE_S)).version
    except ApiFailure:
        return None


def _flux_member(call: Call, docker: str | None) -> dict[str, Any]:
    context, located = call.context, _located(call)
    return {
        "version": context.settings.node.compatibility_version,
        "nodeJsVersion": None,
        "syncthingVersion": None,
        "dockerVersion": docker,
        "os": platform.system(),
        "osVersion": platform.release(),
        "osPrettyName": platform.platform(),
        "ip": context.chain.own_address,
        "staticIp": None if located is None else located.has_static_ip,
        "upnp": False,
        "maxNumberOfIpChanges": None,
        "zelid": context.settings.node.operator_id,
        "timezone": None,
        "dos": context.dos.snapshot(),
        "appsDos": {"dosState": 0, "dosMessage": None},
        "development": False,
        "explorerScannedHeigth": {"generalScannedHeight": _scanned_height(call)},
        "numberOfConnectionsOut": context.peers.table.outbound,
        "numberOfConnectionsIn": context.peers.table.inbound,
    }


def _scanned_height(call: Call) -> int | None:
    explorer = call.context.registry.explorer
    return explorer.scanned_height or None if explorer is not None else None


async def _hash_members(call: Call) -> dict[str, int]:
    """How many payments the registry knows and how many have their message; from the first app on."""
    if (_scanned_height(call) or 0) < call.context.registry.constants.first_height:
        return {}
    counts = await call.context.registry.store.hash_counts()
    return {"appsHashesTotal": counts.total, "hashesPresent": counts.total - counts.missing}


ROUTES = (
    Route("/flux/version", version, "Behaviour level of this node", "node", cache_s=30, result=STRING),
    Route(
        "/flux/info",
        info,
        "Everything about this node at once",
        "node",
        cache_s=60,
        result={
            "type": "object",
            "required": ["daemon", "node", "benchmark", "flux", "apps", "geolocation"],
        },
    ),
    Route("/flux/uptime", uptime, "Seconds since the node started", "node", cache_s=30, result=INTEGER),
    Route(
        "/flux/systemuptime",
        system_uptime,
        "Seconds since the machine started",
        "node",
        cache_s=30,
        result=INTEGER,
    ),
    Route("/flux/ip", own_ip, "Own address, null while unknown", "node", cache_s=30, result=TEXT_OR_NULL),
    Route("/flux/nodetier", node_tier, "Tier by collateral", "node", cache_s=30, result=STRING),
    Route("/flux/isarcaneos", is_arcane, "Locked-down host system?", "node", cache_s=DAY_S, result=BOOLEAN),
    Route(
        "/flux/zelid",
        operator_id,
        "Flux ID of the operator",
        "node",
        cache_s=30,
        result=STRING,
        aliases=("/flux/id",),
    ),
    Route(
        "/flux/fluxids",
        flux_ids,
        "Flux IDs of team and support",
        "node",
        cache_s=30,
        result=object_of(fluxTeamFluxID=STRING, fluxSupportTeamFluxID=STRING),
    ),
    Route("/flux/apiport", api_port, "Own API port", "node", cache_s=DAY_S, result=INTEGER),
    Route("/flux/geolocation", geolocation, "Where the node is; null until known", "node", cache_s=30),
    Route(
        "/flux/kadena",
        kadena_address,
        "Kadena address of the operator; null when there is none",
        "node",
        cache_s=30,
        result=TEXT_OR_NULL,
    ),
    Route("/flux/dosstate", dos_state, "Own penalty counter", "node", cache_s=30, result=DOS_STATE),
    Route(
        "/flux/clockdrift",
        clock_drift,
        "Offset to a time server; null while unknown",
        "node",
        cache_s=30,
        result=object_of(source=TEXT_OR_NULL, offset=NUMBER_OR_NULL, time=NUMBER),
    ),
    Route(
        "/flux/networkhealth",
        network_health,
        "Verdict on the own connection",
        "node",
        cache_s=5,
        result=object_of(status=STRING, inSteadyState=ANYTHING, history={"type": "array"}),
    ),
)
