"""Our own routes under /trionode/: what the command line and operators ask (docs/api.md).

Never cached, so that what one does is seen at once.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
import trio

import trionode
from trionode.api.answers import Answer, ApiFailure, data
from trionode.api.call import Call
from trionode.api.dates import iso
from trionode.api.route import Param, Route, list_of
from trionode.api.routes.locations import location_rows
from trionode.api.routes.peers import target_of
from trionode.api.watching import boot_document, hosting_document, monitor_document, registry_document
from trionode.appstate.explain import Step

EVENTS_LIMIT = 10_000
REJECTIONS = (
    ("appstate.sync.refused.", "sync", ""),
    ("appstate.refused.", "appstate", ""),
    *((f"gossip.{stop}.", "gossip", stop) for stop in ("intake", "decode", "dedupe", "verify", "age")),
    ("gossip.dispatch.", "gossip", "dispatch"),
    ("peers.inbound.refused.", "peers", "inbound"),
    ("front_door.refused.", "front door", "head"),
)
"""Counter prefix, room, and the stop (empty: it is the first part of the rest of the name)."""
REMARKS = frozenset({"gossip.verify.key_mismatch_forgiven", "gossip.verify.key_mismatch_unsynced"})
"""Counters among them that explain a rejection already counted."""
OBJECT = {"type": "object"}


async def status(call: Call) -> Answer:
    """The whole node at one glance."""
    context = call.context
    chain, table, index = context.chain, context.peers.table, context.log.index
    entry = chain.nodes.by_address(chain.own_address) if chain.own_address is not None else None
    return data(
        {
            "version": trionode.__version__,
            "compatibilityVersion": context.settings.node.compatibility_version,
            "time": iso(context.clock.now_ms()),
            "uptimeS": round(trio.current_time() - context.started_s, 3),
            "node": {
                "address": chain.own_address,
                "publicKey": context.public_key or None,
                "operatorId": context.settings.node.operator_id or None,
                "tier": entry.tier if entry is not None else None,
                "rank": entry.rank if entry is not None else None,
                "lastConfirmedHeight": entry.last_confirmed_height if entry is not None else None,
                "dos": context.dos.snapshot(),
                "dosSources": context.dos.sources(),
            },
            "chain": {
                "reachable": chain.daemon_reachable,
                "height": chain.height,
                "headers": chain.headers,
                "synced": chain.synced,
                "confirmed": chain.confirmed,
                "canSend": chain.can_send,
                "nodes": len(chain.nodes),
                "lastError": chain.last_error,
            },
            "peers": {
                "outbound": table.outbound,
                "inbound": table.inbound,
                "outboundIps": table.distinct_ips("outbound"),
                "inboundIps": table.distinct_ips("inbound"),
                "unstable": len(table.unstable()),
            },
            "orchestrator": (
                None if context.orchestrator is None else context.orchestrator.status.document()
            ),
            "boot": boot_document(context.boot),
            "monitor": monitor_document(context.watch),
            "store": None if context.server is None else context.server.document(),
            # Asked only of a database that answers: the status must come at once.
            "registry": (
                None
                if context.server is not None and not context.server.is_readable
                else await registry_document(context.registry)
            ),
            "hosting": hosting_document(context.containers),
            "apps": {"names": len(index.names()), "locations": len(index)},
            "events": {"lastId": context.bus.last_id},
            "observer": None if context.observer is None else context.observer.document(),
            "loopLag": _lag(call),
            "services": [_members(service) for service in context.supervisor.status()],
            "rejected": rejections(context.counters.snapshot()),
            "counters": _totals(context.counters.snapshot()),
        }
    )


def _lag(call: Call) -> dict[str, Any] | None:
    stats = call.context.lag
    return None if stats is None else _members(stats.snapshot())


def _members(value: msgspec.Struct) -> dict[str, Any]:
    """The members of a value, under names like the others of the API: `ready_for_s` -> `readyForS`."""
    made = {}
    for name in value.__struct_fields__:
        first, *rest = name.split("_")
        made[first + "".join(part.capitalize() for part in rest)] = getattr(value, name)
    return made


def rejections(counters: dict[str, int]) -> list[dict[str, Any]]:
    """What was turned away, where and why: rows from the counters named for it, the largest first."""
    rows: list[tuple[int, str, str, str]] = []
    for name, count in counters.items():
        for prefix, room, place in REJECTIONS:
            if name.startswith(prefix) and name not in REMARKS:
                rest = name.removeprefix(prefix)
                stop, _, reason = (place, "", rest) if place else rest.partition(".")
                rows.append((count, room, stop, reason))
                break
    rows.sort(key=lambda row: (-row[0], row[1:]))
    return [{"room": row[1], "stop": row[2], "reason": row[3], "count": row[0]} for row in rows]


def _totals(counters: dict[str, int]) -> dict[str, int]:
    """Sums by the first two parts of the dotted names."""
    totals: dict[str, int] = defaultdict(int)
    for name, count in counters.items():
        totals[".".join(name.split(".")[:2])] += count
    return dict(totals)


async def counters(call: Call) -> Answer:
    return data(call.context.counters.snapshot(call.text("prefix")))


async def apps(call: Call) -> Answer:
    """Every app with its instances, or (with a name) the instances of one."""
    name, observer = call.text("name"), call.context.observer
    if name:
        return data(await location_rows(call.context.log.index.locations(name), observer))
    found: dict[str, dict[str, Any]] = {}
    for row in call.context.log.index.locations():
        app = found.setdefault(
            row.name, {"name": row.name, "hashes": set(), "instances": 0, "nodes": [], "newest": 0}
        )
        if observer is not None:
            app["unverified"] = app.get("unverified", 0) + observer.is_unverified(row)
        app["hashes"].add(row.hash)
        app["instances"] += 1
        app["nodes"].append(row.ip)
        app["newest"] = max(app["newest"], row.broadcasted_at_ms)
    rows = sorted(found.values(), key=lambda app: str(app["name"]).lower())
    return data(
        [
            {
                **app,
                "hashes": sorted(app["hashes"]),
                "nodes": sorted(app["nodes"]),
                "newest": iso(app["newest"]),
            }
            for app in rows
        ]
    )


async def explain(call: Call) -> Answer:
    """Why an app is (not) listed at an address: events in order and the rule that decided."""
    name = call.text("app")
    if not name:
        raise ApiFailure("No Flux App name specified")
    ip = call.text("ip") or None
    if ip is not None:
        target_of(ip)  # a mistyped address would read like "nothing runs there"
    steps = await call.context.log.explain(name, ip)
    listed = await location_rows(call.context.log.index.locations(name, ip), call.context.observer)
    return data({"app": name, "ip": ip, "steps": [_step(step) for step in steps], "listed": listed})


def _step(step: Step) -> dict[str, Any]:
    return {
        "ip": step.ip,
        "type": step.type,
        "key": step.dedup_key,
        "name": step.name or None,
        "at": iso(step.at_ms),
        "expireAt": iso(step.expire_at_ms),
        "receivedAt": iso(step.received_at_ms),
        "effect": step.effect,
        "rule": step.rule,
        "text": step.text,
        "by": step.by,
        "listedIp": step.listed_ip or None,
    }


async def events(call: Call) -> Answer:
    """Kept events newer than `since`, oldest first; the stream without staying connected."""
    if not call.context.settings.api.event_stream:
        raise ApiFailure("Event stream not enabled", http_status=404)
    since = call.number("since", default=0, low=0, high=10**15 - 1)
    limit = call.number("limit", default=EVENTS_LIMIT, low=1, high=EVENTS_LIMIT)
    kept = list(call.context.bus.replay(since))[:limit]
    return data([{"id": event.id, "name": event.name, "data": event.data} for event in kept])


_GROUP = "trionode"

ROUTES = (
    Route("/trionode/status", status, "The node at one glance", _GROUP, result=OBJECT),
    Route(
        "/trionode/counters",
        counters,
        "What was accepted, rejected, retried, and why",
        _GROUP,
        params=(Param("prefix", "Only names that begin with this"),),
        result={"type": "object", "additionalProperties": {"type": "integer"}},
    ),
    Route(
        "/trionode/apps",
        apps,
        "Apps with their instances, or the instances of one app",
        _GROUP,
        params=(Param("name", "Name of the app, in any letter case"),),
        result=list_of(OBJECT),
    ),
    Route(
        "/trionode/explain",
        explain,
        "Why an app is or is not listed at an address",
        _GROUP,
        params=(
            Param("app", "Name of the app, in any letter case", required=True),
            Param("ip", "Address as the node announces it", query_only=True),
        ),
        result=OBJECT,
    ),
    Route(
        "/trionode/events",
        events,
        "Kept events newer than an id",
        _GROUP,
        params=(
            Param("since", "Only events with a greater id", kind="integer", query_only=True),
            Param("limit", "At most so many", kind="integer", query_only=True),
        ),
        result=list_of(OBJECT),
        rare_statuses=(404,),
    ),
)
