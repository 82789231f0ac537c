"""A node's event log as events.json plays it: operations in, collections and published names out.

Write cases run through the same functions as in a node (origin check, judge, sync chunk); signatures are
stood in for as the file says: "BAD" fails, any other holds. Reaping is not simulated, nothing is expired.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from runner import Mismatch, expect, fields

from trionode.appstate.batch import BatchRecord, judge_chunk
from trionode.appstate.changes import Change
from trionode.appstate.documents import (
    EventRow,
    InstallErrorRow,
    InstallingRow,
    LocationRow,
    Signed,
    SignedCopy,
)
from trionode.appstate.index import LocationView
from trionode.appstate.judge import evict, judge, judge_local
from trionode.appstate.state import AppState
from trionode.appstate.view import ViewRow, documents_of, view
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings
from trionode.store.memory import MemoryStore
from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import JsValue, stringify
from trionode.wire.nodelist import NodeList
from trionode.wire.origin import OriginVerdict, check_origin, check_record
from trionode.wire.syncmsg import SyncRecord, iso_text

WINDOWS = Windows.from_settings(AppStateSettings())
NODES = NodeList.from_rpc(
    [
        {"ip": f"203.0.113.{number}:16127", "pubkey": key}
        for number, key in ((1, "pkA"), (2, "pkB"), (3, "pkC"))
    ]
)


def in_order(rows: Iterable[Any]) -> list[Any]:
    return sorted(rows, key=canonical)


def names(rows: Iterable[ViewRow | LocationView]) -> list[str]:
    return sorted(f"{row.name}@{row.ip}" for row in rows)


def canonical(value: Any) -> str:
    """A text that is equal for equal values only: true is not 1, the order of members does not matter."""
    return json.dumps(value, sort_keys=True)


# ---- writing -----------------------------------------------------------------------------------------


class World:
    """State and store of one scenario, and what its operations published."""

    def __init__(self, t0: int) -> None:
        self.t0 = t0
        self.state = AppState(WINDOWS)
        self.store = MemoryStore()
        self.results: list[dict[str, Any]] = []
        self.payloads: list[tuple[str, str]] = []
        self.now_ms = t0

    def run(self, ops: Sequence[Any]) -> None:
        for number, op in enumerate(ops):
            self.step(number, op)

    def step(self, number: int, op: Any) -> None:
        if not isinstance(op, dict) or op.get("op") not in _OPS:
            raise Mismatch(f"unknown operation {op!r:.80}")
        self.now_ms = op["at"] + self.t0
        self.state.index.advance(self.now_ms)
        relay, published = _OPS[op["op"]](self, number, op)
        self.results.append({"rebroadcast": relay, "published": published})

    def commit(self, changes: Sequence[Change]) -> None:
        self.store.commit_now(changes)

    def payload(self, data: Any, label: str) -> dict[str, JsValue]:
        """The payload with absolute times; its text is remembered under the label the file uses."""
        built = payload_at(data, self.t0)
        self.payloads.append((label, stringify(built)))
        return built

    def envelope(self, case: Any, label: str) -> Envelope:
        data = self.payload(case["data"], label)
        timestamp = case["envelope_timestamp"] + self.t0
        return Envelope(1, timestamp, case["pubKey"], case.get("signature", "s"), data, stringify(data))

    # The collections in the shapes of the file

    def collections(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for row in self.store.rows():
            if isinstance(row, EventRow):
                collection, shape = "appstateevents", self._event(row)
            elif isinstance(row, LocationRow):
                collection, shape = "zelappslocation", self._location(row)
            elif isinstance(row, InstallingRow):
                collection, shape = "appsinstallinglocations", self._install(row)
            elif isinstance(row, InstallErrorRow):
                collection = "appsInstallingErrorsLocations"
                shape = {**self._install(row), "hash": row.hash, "error": row.error}
            else:
                collection, shape = _COPIES[row.kind], self._copy(row)
            found.setdefault(collection, []).append(shape)
        return {name: in_order(rows) for name, rows in found.items()}

    def _date(self, time_ms: int) -> dict[str, int]:
        return {"date": time_ms - self.t0}

    def _dates(self, **times_ms: int | None) -> dict[str, dict[str, int]]:
        return {name: self._date(time_ms) for name, time_ms in times_ms.items() if time_ms is not None}

    def _payload_of(self, text: str) -> list[str]:
        """Every operation that brought this text; the file names one of them."""
        return [label for label, known in self.payloads if known == text]

    def _signed(self, signed: Signed) -> dict[str, Any]:
        return {
            "version": signed.version,
            "timestamp": signed.timestamp - self.t0,
            "pubKey": signed.pub_key,
            "signature": signed.signature,
        }

    def _event(self, row: EventRow) -> dict[str, Any]:
        shape: dict[str, Any] = {"ip": row.ip, "type": row.type, "dedupKey": row.dedup_key}
        shape |= self._dates(
            broadcastedAt=row.broadcasted_at_ms,
            createdAt=row.created_at_ms,
            expireAt=row.expire_at_ms,
            receivedAt=row.received_at_ms,
        )
        if row.data_text is not None:
            shape["data"] = {"payload_of": self._payload_of(row.data_text)}
        if row.signed is not None:
            shape["envelope"] = self._signed(row.signed)
        return shape

    def _location(self, row: LocationRow) -> dict[str, Any]:
        return {
            "name": row.name,
            "hash": row.hash,
            "ip": row.ip,
            "osUptime": row.os_uptime,
            "staticIp": row.static_ip,
            **self._dates(
                broadcastedAt=row.broadcasted_at_ms,
                expireAt=row.expire_at_ms,
                runningSince=row.running_since_ms,
            ),
        }

    def _install(self, row: InstallingRow | InstallErrorRow) -> dict[str, Any]:
        dates = self._dates(broadcastedAt=row.broadcasted_at_ms, expireAt=row.expire_at_ms)
        return {"name": row.name, "ip": row.ip, **dates}

    def _copy(self, copy: SignedCopy) -> dict[str, Any]:
        return {
            **self._signed(copy.signed),
            "data": {"payload_of": self._payload_of(copy.data_text)},
            **self._dates(
                broadcastedAt=copy.broadcasted_at_ms,
                expireAt=copy.expire_at_ms,
                receivedAt=copy.received_at_ms,
            ),
        }

    def events(self) -> list[EventRow]:
        return [row for row in self.store.rows() if isinstance(row, EventRow)]

    def view(self) -> list[str]:
        """name@ip at the time of the last operation, by the view and by the index, which must agree."""
        found = names(view(documents_of(self.events()), self.now_ms))
        expect("index against view", names(self.state.index.locations()), found)
        return found


_COPIES = {
    "installing": "fluxappinstallingbroadcasts",
    "error": "fluxappinstallingerrorsbroadcasts",
}
_GENERATE = re.compile(r"(\d+) entries \{name: '(\w*?)(0+)'\.\.'\w+', hash: 'h-'\+name\}")


def payload_at(data: Mapping[str, Any], t0: int) -> dict[str, JsValue]:
    """A payload of the file with absolute time and its generated list written out."""
    built = dict(data)
    generated = built.get("apps")
    if isinstance(generated, dict) and "$generate" in generated:
        built["apps"] = generate(generated["$generate"])
    if type(built.get("broadcastedAt")) in (int, float):
        built["broadcastedAt"] += t0
    return built


def generate(text: str) -> list[dict[str, str]]:
    """The list of apps a `$generate` text describes."""
    told = _GENERATE.fullmatch(text)
    if told is None:
        raise Mismatch(f"unknown $generate {text!r}")
    made = [f"{told[2]}{number:0{len(told[3])}d}" for number in range(int(told[1]))]
    return [{"name": name, "hash": f"h-{name}"} for name in made]


def gossip(world: World, number: int, op: Any) -> tuple[bool, list[str]]:
    fields(op, "at op envelope_timestamp pubKey data", "signature")
    envelope = world.envelope(op, f"op{number}")
    if check_origin(envelope, NODES, world.now_ms) is not OriginVerdict.OK or envelope.signature == "BAD":
        return False, []
    decision = judge(world.state, envelope, world.now_ms)
    world.commit(decision.changes)
    stale = decision.stop == "age" and not decision.changes and decision.reason == "envelope_stale"
    nak = stale and world.now_ms >= envelope.timestamp_ms + WINDOWS.dispatch_ms
    return decision.relay, ["nak:0"] if nak else [name for name, _ in decision.published]


def sync(world: World, number: int, op: Any) -> tuple[bool, list[str]]:
    fields(op, "at op kind records", "done")
    records = []
    for place, case in enumerate(op["records"]):
        record = sync_record(world, case, f"op{number}.{place}")
        if record is not None:
            records.append(record)
    outcome = judge_chunk(world.state, op["kind"], records, world.now_ms, "198.51.100.1:16127")
    world.commit(outcome.changes)
    published = [name for name, _ in outcome.published]
    if op.get("done") is True and outcome.accepted:
        published.append(f"complete:{op['kind']}")
    return False, published


def sync_record(world: World, case: Any, label: str) -> BatchRecord | None:
    """One record as a node would hand it to the rules; None when its verification fails."""
    dates = "broadcastedAt createdAt receivedAt expireAt"
    fields(case, "", f"type ip dedupKey data envelope_timestamp pubKey signature {dates}")
    item: dict[str, JsValue] = {name: case[name] for name in ("type", "ip") if name in case}
    for name in ("createdAt", "receivedAt"):
        if name in case:
            item[name] = iso_text(case[name] + world.t0)
    if not case.keys() >= {"data", "envelope_timestamp", "pubKey"}:  # unsigned
        return BatchRecord.of(SyncRecord(item, None))
    envelope = world.envelope(case, label)
    if check_record(envelope, NODES) is not OriginVerdict.OK or envelope.signature == "BAD":
        return None
    return BatchRecord.of(SyncRecord(item, envelope))


def local_eviction(world: World, number: int, op: Any) -> tuple[bool, list[str]]:
    fields(op, "at op ip")
    # The file's operation is the event alone; a node's monitor drops the rows besides (§8).
    decision = evict(world.state, op["ip"], world.now_ms, drop_rows=False)
    world.commit(decision.changes)
    return decision.relay, [name for name, _ in decision.published]


def local_installing(world: World, number: int, op: Any) -> tuple[bool, list[str]]:
    fields(op, "at op data")
    data = world.payload(op["data"], f"op{number}")
    envelope = Envelope(1, world.now_ms, "pkA", "s", data, stringify(data))
    decision = judge_local(world.state, envelope, world.now_ms)
    world.commit(decision.changes)
    return decision.relay, [name for name, _ in decision.published]


_Op = Callable[[World, int, Any], tuple[bool, list[str]]]
_OPS: Mapping[str, _Op] = {
    "gossip": gossip,
    "sync": sync,
    "evict": local_eviction,
    "local_installing": local_installing,
}
