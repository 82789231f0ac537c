"""Section runners of events.json (docs/spec/events.md): the view, and the whole way of messages into the log.

Times in the file are relative to T0_ms. View cases are asked of the pure view and of the index. Write
cases run through the same functions as in a node (origin check, judge, sync chunk); signatures are stood
in for as the file says: "BAD" fails, any other holds. Reaping is not simulated, so nothing is expired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from events_world import WINDOWS, World, canonical, in_order, names, payload_at
from runner import Context, Mismatch, Outcome, describe_kind, deviates, expect, fields, one, register

from trionode.appstate.documents import EventRow
from trionode.appstate.facts import fact_of
from trionode.appstate.index import LocationIndex, LocationView
from trionode.appstate.view import ViewRow, documents_of, view
from trionode.wire.jsjson import JsValue, stringify

describe_kind("events", ("about", "T0_ms", "confirmation", "format"))

# ---- the view ----------------------------------------------------------------------------------------


def event_row(case: Any, t0: int) -> EventRow:
    fields(case, "type ip dedupKey expireAt", "broadcastedAt createdAt data envelope receivedAt")
    data = case.get("data")
    if data is not None:
        data = payload_at(data, t0)
    return EventRow(
        case["ip"],
        case["type"],
        case["dedupKey"],
        case["expireAt"] + t0,
        broadcasted_at_ms=case["broadcastedAt"] + t0 if "broadcastedAt" in case else None,
        created_at_ms=case["createdAt"] + t0 if "createdAt" in case else None,
        data_text=None if data is None else stringify(data),
    )


def shown(rows: Iterable[ViewRow | LocationView], t0: int) -> list[dict[str, JsValue]]:
    found = [
        {
            "name": row.name,
            "hash": row.hash,
            "ip": row.ip,
            "broadcastedAt": row.broadcasted_at_ms - t0,
            "runningSince": row.running_since,
            "osUptime": row.os_uptime,
            "staticIp": row.static_ip,
        }
        for row in rows
    ]
    return in_order(found)


def index_of(rows: Iterable[EventRow], now_ms: int) -> LocationIndex:
    index = LocationIndex(WINDOWS, now_ms)
    for row in rows:
        index.put(row.key, fact_of(row))
    return index


def check_view(scenario: Any, t0: int) -> None:
    fields(scenario, "id title kind events checks", "note confirmed")
    rows = [event_row(case, t0) for case in scenario["events"]]
    for check in scenario["checks"]:
        fields(check, "now query expect", "rows")
        fields(check["query"], "", "appname ip")
        now_ms, query = check["now"] + t0, check["query"]
        found = view(documents_of(rows), now_ms, appname=query.get("appname"), ip=query.get("ip"))
        indexed = index_of(rows, now_ms).locations(query.get("appname"), query.get("ip"))
        for what, answer in (("view", found), ("index", indexed)):
            same_view(names(answer), check["expect"], f"{what} at {check['now']} {query}")
            if "rows" in check:
                expect(f"{what} rows at {check['now']} {query}", shown(answer, t0), in_order(check["rows"]))


@register("events", "view_scenarios")
def view_scenarios(section: Any, context: Context) -> Iterator[Outcome]:
    t0 = context.document["T0_ms"]
    for scenario in section:
        yield one(scenario["id"], lambda case: check_view(case, t0), scenario)


def same_state(ours: Mapping[str, list[Any]], theirs: Mapping[str, list[Any]]) -> None:
    """Compare collections; a payload the file names may be any operation with that very payload."""
    expect("collections", sorted(ours), sorted(theirs))
    for name, rows in theirs.items():
        expect(f"number of rows in {name}", len(ours[name]), len(rows))
        left = list(ours[name])
        for row in rows:
            match = next((mine for mine in left if same_row(mine, row)), None)
            if match is None:
                raise Mismatch(f"{name}: no row {row!r:.400} among {left!r:.800}")
            left.remove(match)


def same_row(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    mine = dict(ours)
    named = theirs.get("data", {}).get("payload_of")
    if named is not None and named in mine.get("data", {}).get("payload_of", ()):
        mine["data"] = theirs["data"]
    return canonical(mine) == canonical(theirs)


def same_view(ours: list[str], theirs: Any, what: str = "view") -> None:
    if isinstance(theirs, dict):
        fields(theirs, "count")
        expect(f"{what}: count", len(ours), theirs["count"])
    else:
        expect(what, ours, sorted(theirs))


def check_write(scenario: Any, t0: int) -> World:
    fields(scenario, "id title kind ops results state view", "note confirmed")
    world = World(t0)
    world.run(scenario["ops"])
    expect("results", world.results, scenario["results"])
    same_state(world.collections(), scenario["state"])
    same_view(world.view(), scenario["view"])
    return world


# ---- cases labelled bug: what §13 advises instead ----------------------------------------------------


def leaves_no_trace(scenario: Any, t0: int) -> None:
    """The last message or record changes, publishes and relays nothing."""
    before, after = World(t0), World(t0)
    before.run(scenario["ops"][:-1])
    after.run(scenario["ops"])
    expect("collections after the offence", after.collections(), before.collections())
    expect("results before the offence", after.results[:-1], scenario["results"][:-1])
    told = [name for name in after.results[-1]["published"] if not name.startswith("complete:")]
    expect("published", told, [])
    expect("relayed", after.results[-1]["rebroadcast"], False)
    before.state.index.advance(after.now_ms)
    before.now_ms = after.now_ms
    expect("view", after.view(), before.view())


def without(scenario: Any, unwanted: Callable[[Any], bool], t0: int) -> World:
    """The scenario as if the unwanted records had not been in their chunk."""
    ops = [
        {**op, "records": [record for record in op["records"] if not unwanted(record)]}
        if op["op"] == "sync"
        else op
        for op in scenario["ops"]
    ]
    world = World(t0)
    world.run(ops)
    return world


def stores_event_only(scenario: Any, t0: int) -> None:
    """The event is stored as in the file; the newer cache rows are as if it had never come."""
    world = World(t0)
    world.run(scenario["ops"])
    expect("results", world.results, scenario["results"])
    rows = world.collections()
    same_state({"events": rows["appstateevents"]}, {"events": scenario["state"]["appstateevents"]})
    spared = without(scenario, lambda record: record["type"] in ("sigterm", "appremoved"), t0)
    expect("rows", rows.get("zelappslocation"), spared.collections().get("zelappslocation"))
    expect("rows are there", bool(rows.get("zelappslocation")), True)
    same_view(world.view(), scenario["view"])


def keeps_the_senders_time(scenario: Any, t0: int) -> None:
    """The eviction has the smaller of the sender's createdAt and now; rows newer than it stay."""
    world = World(t0)
    world.run(scenario["ops"])
    expect("results", world.results, scenario["results"])
    created = {
        record["ip"]: min(record["createdAt"], op["at"])
        for op in scenario["ops"]
        if op["op"] == "sync"
        for record in op["records"]
        if record["type"] == "evicted"
    }
    evictions = [row for row in world.events() if row.type == "evicted"]
    expect("evictions", {row.ip: row.at_ms - t0 for row in evictions}, created)
    for row in evictions:
        expect("expireAt", row.expire_at_ms - row.at_ms, WINDOWS.evicted_ms)
    spared = without(scenario, lambda record: record["type"] == "evicted", t0)
    kept = [
        row
        for row in spared.collections().get("zelappslocation", [])
        if row["ip"] not in created or row["broadcastedAt"]["date"] >= created[row["ip"]]
    ]
    expect("rows", world.collections().get("zelappslocation", []), kept)
    expect("view", set(world.view()) >= {f"{row['name']}@{row['ip']}" for row in kept}, True)


_ADVISED: Mapping[str, Callable[[Any, int], None]] = {
    **dict.fromkeys(("W17", "W30", "W58", "W59", "W60", "W61", "W62", "W70"), leaves_no_trace),
    "W44": stores_event_only,
    "W69": stores_event_only,
    "W46": keeps_the_senders_time,
}


@register("events", "write_scenarios")
def write_scenarios(section: Any, context: Context) -> Iterator[Outcome]:
    t0 = context.document["T0_ms"]
    for scenario in section:
        outcome = one(scenario["id"], lambda case: check_write(case, t0), scenario)
        advised = _ADVISED.get(scenario["id"])
        if outcome.status == "failed" and scenario.get("kind") == "bug" and advised is not None:
            instead = one(scenario["id"], lambda case, check=advised: check(case, t0), scenario)
            outcome = instead if instead.status == "failed" else deviates(instead.id, "bug", context)
        yield outcome
