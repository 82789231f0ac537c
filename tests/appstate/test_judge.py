"""Decisions beyond the vectors: every refusal has its stop and reason, and leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest

from trionode.appstate.batch import BatchRecord, judge_chunk
from trionode.appstate.changes import PutEvent, PutLocation, TouchEvent
from trionode.appstate.decision import Decision
from trionode.appstate.judge import evict, forget_install_errors, is_fresh, judge, judge_local
from trionode.appstate.state import AppState
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings
from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import parse, stringify

WINDOWS = Windows.from_settings(AppStateSettings())
NOW = 1_760_000_000_000
IP, OTHER = "1.1.1.1", "2.2.2.2:16137"


def envelope(data: dict[str, Any], timestamp: Any = NOW, **fields: Any) -> Envelope:
    return Envelope(
        1, timestamp, fields.get("pub_key", "pk"), fields.get("signature", "s"), data, stringify(data)
    )


def running(*names: str, at_ms: int = NOW, ip: str = IP, **members: Any) -> dict[str, Any]:
    apps = [{"name": name, "hash": f"h-{name}"} for name in names]
    return {
        "type": "fluxapprunning",
        "version": 2,
        "apps": apps,
        "ip": ip,
        "broadcastedAt": at_ms,
        "osUptime": 1.5,
        "staticIp": True,
    } | members


def v1(**members: Any) -> dict[str, Any]:
    return {
        "type": "fluxapprunning",
        "version": 1,
        "name": "AppA",
        "hash": "h",
        "ip": IP,
        "broadcastedAt": NOW,
    } | members


def message(kind: str, at_ms: int = NOW, **members: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"type": kind, "version": 1, "broadcastedAt": at_ms}
    base |= {"oldIP": IP, "newIP": OTHER} if kind == "fluxipchanged" else {"ip": IP}
    return base | members


REMOVED = message("fluxappremoved", appName="AppA")
MOVED = message("fluxipchanged")
SIGTERM = message("fluxnodesigterm")
INSTALLING = message("fluxappinstalling", name="AppA")
ERROR = message("fluxappinstallingerror", name="AppA", hash="h", error="boom")
EARLY = ERROR | {"broadcastedAt": NOW + 120_001}


@pytest.fixture
def state() -> AppState:
    return AppState(WINDOWS, NOW)


def drop(data: dict[str, Any], member: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != member}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"type": "other"}, "unknown_type"),
        ({}, "unknown_type"),
        ({"type": 5}, "unknown_type"),
        (running("A", version=3), "version_unknown"),
        (running("A", version="2"), "version_not_number"),
        (running("A", version=True), "version_not_number"),
        (running("A", ip=5), "ip_not_text"),
        (running("A", ip=""), "ip_empty"),
        (running("A", broadcastedAt=str(NOW)), "broadcasted_at_not_number"),
        (running("A", broadcastedAt=None), "broadcasted_at_not_number"),
        (running("A", broadcastedAt=True), "broadcasted_at_not_number"),
        (running("A", broadcastedAt=1e300), "broadcasted_at_no_date"),
        (running("A", broadcastedAt=0), "broadcasted_at_zero"),
        (running("A", broadcastedAt=NOW + 120_001), "broadcasted_at_in_future"),
        (running("A", apps=None), "apps_not_list"),
        (running("A", apps={}), "apps_not_list"),
        (running(*map(str, range(201))), "too_many_apps"),
        (running("A", apps=["A"]), "app_not_object"),
        (running("A", apps=[{"name": "A"}]), "app_without_name_or_hash"),
        (running("A", apps=[{"name": 1, "hash": "h"}]), "app_without_name_or_hash"),
        (running("A\ud800"), "name_not_unicode"),
        (v1(hash=None), "hash_not_text"),
        (drop(v1(), "name"), "name_not_text"),
        (v1(apps="junk"), "apps_not_list"),
        (REMOVED | {"version": 2}, "version_unknown"),
        (REMOVED | {"appName": ""}, "appName_empty"),
        (drop(REMOVED, "appName"), "appName_not_text"),
        (REMOVED | {"broadcastedAt": NOW + 120_001}, "broadcasted_at_in_future"),
        (MOVED | {"newIP": IP}, "same_ip"),
        (MOVED | {"newIP": ""}, "newIP_empty"),
        (drop(MOVED, "oldIP"), "oldIP_not_text"),
        (SIGTERM | {"ip": None}, "ip_not_text"),
        (SIGTERM | {"broadcastedAt": NOW + 120_001}, "broadcasted_at_in_future"),
        (INSTALLING | {"version": 2}, "version_unknown"),
        (INSTALLING | {"name": ""}, "name_empty"),
        (INSTALLING | {"broadcastedAt": NOW + 120_001}, "broadcasted_at_in_future"),
        (drop(ERROR, "error"), "error_not_text"),
        (ERROR | {"hash": 1}, "hash_not_text"),
    ],
)
def test_invalid_payloads_leave_no_trace(state: AppState, data: dict[str, Any], reason: str) -> None:
    decision = judge(state, envelope(data), NOW)
    stop = "dispatch" if reason == "unknown_type" else "validate"
    assert (decision.accepted, decision.stop, decision.reason) == (False, stop, reason)
    assert decision.detail
    assert decision.changes == ()
    assert not decision.relay
    assert decision.published == ()
    assert set(state.counts().values()) == {0}
    local = judge_local(state, envelope(data), NOW)
    assert (local.accepted, local.reason, local.changes) == (False, reason, ())


def test_signature_texts_that_cannot_be_stored_are_refused(state: AppState) -> None:
    decision = judge(state, envelope(running("A"), signature="s\ud800"), NOW)
    assert decision.reason == "signature_not_ascii"


@pytest.mark.parametrize("ahead_ms", [0, 120_000])
def test_the_future_is_bounded_inclusively(state: AppState, ahead_ms: int) -> None:
    assert judge(state, envelope(running("A", at_ms=NOW + ahead_ms)), NOW).accepted


@pytest.mark.parametrize(
    ("timestamp", "fresh"),
    [
        (NOW - 999, True),
        (NOW - 1000, False),
        (float(NOW) - 999.5, True),
        # JavaScript appends the age to a text: a number far in the future.
        (str(NOW - 10**9), True),
        ("junk", False),
    ],
)
def test_envelope_age(timestamp: Any, fresh: bool) -> None:
    assert is_fresh(envelope({}, timestamp), 1000, NOW) is fresh


def test_a_stale_envelope_stops_before_everything(state: AppState) -> None:
    decision = judge(state, envelope({"type": "junk"}, NOW - 300_000), NOW)
    assert (decision.stop, decision.reason, decision.changes) == ("age", "envelope_stale", ())


def test_an_older_message_only_renews_received_at(state: AppState) -> None:
    judge(state, envelope(running("A")), NOW)
    decision = judge(state, envelope(running("A", at_ms=NOW - 1)), NOW)
    assert (decision.accepted, decision.stop, decision.reason) == (False, "guard", "not_newer")
    assert decision.changes == (TouchEvent((IP, "apprunning", "v2"), NOW),)


def test_an_app_listed_twice_makes_one_row(state: AppState) -> None:
    data = running("A", "A")
    data["apps"][1]["hash"] = "second"
    decision = judge(state, envelope(data), NOW)
    assert sum(isinstance(change, PutLocation) for change in decision.changes) == 1
    assert [row.hash for row in state.location_rows()] == ["h-A"]
    assert [row.hash for row in state.index.locations()] == ["h-A"]


def test_names_with_dollar_signs_are_literal(state: AppState) -> None:
    judge(state, envelope(running("$data.x")), NOW)
    assert [row.name for row in state.index.locations("$DATA.X")] == ["$data.x"]
    assert [row.name for row in state.location_rows()] == ["$data.x"]


def test_signed_text_is_kept_exactly(state: AppState) -> None:
    data = parse(
        '{"type":"fluxappremoved","version":1,"x":1e-7,"2":"a","1":"b","appName":"A","ip":"1.1.1.1"}'
    )
    data["broadcastedAt"] = NOW
    decision = judge(state, envelope(data), NOW)
    (put,) = [change for change in decision.changes if isinstance(change, PutEvent)]
    assert put.row.data_text == stringify(data)
    assert '"x":1e-7' in str(put.row.data_text)


def test_a_v1_with_a_list_counts_as_list(state: AppState) -> None:
    decision = judge(state, envelope(v1(apps=[{"name": "B", "hash": "h"}])), NOW)
    (put,) = [change for change in decision.changes if isinstance(change, PutEvent)]
    assert put.row.dedup_key == "v2"
    assert [row.name for row in state.index.locations()] == ["B"]
    assert [row.name for row in state.location_rows()] == ["AppA"]


@pytest.mark.parametrize("since", ["junk", "", [], {}, True, 1e300])
def test_a_useless_running_since_becomes_the_time_of_the_message(state: AppState, since: Any) -> None:
    judge(state, envelope(running("A", runningSince=since)), NOW)
    assert [row.running_since_ms for row in state.location_rows()] == [NOW]
    assert [row.running_since_ms for row in state.index.locations()] == [NOW]


@pytest.mark.parametrize(
    ("data", "age_ms", "relayed"),
    [
        (running("A"), 239_999, True),
        (running("A"), 240_000, False),
        (REMOVED, 239_999, True),
        (REMOVED, 240_000, False),
        (MOVED, 240_000, False),
        (INSTALLING, 299_999, True),
        (ERROR, 299_999, True),
    ],
)
def test_relay_ages(state: AppState, data: dict[str, Any], age_ms: int, relayed: bool) -> None:
    decision = judge(state, envelope(data, NOW - age_ms), NOW)
    assert decision.accepted
    assert decision.relay is relayed
    assert len(decision.published) == 1


def accepted(decision: Decision) -> list[str]:
    assert decision.accepted, decision
    assert not decision.relay
    assert decision.published == ()
    return [type(change).__name__ for change in decision.changes]


def test_own_messages_take_effect_at_once(state: AppState) -> None:
    """Of any age, unrelayed and unpublished: the node knows about itself (§13.4)."""
    assert accepted(judge_local(state, envelope(running("AppA", "B")), NOW)) == [
        "PutLocation",
        "PutLocation",
        "PutEvent",
    ]
    removed = judge_local(state, envelope(REMOVED | {"broadcastedAt": NOW + 1}), NOW)
    assert accepted(removed) == ["PutEvent", "DeleteLocation"]
    assert [row.name for row in state.index.locations()] == ["B"]
    moved = judge_local(state, envelope(MOVED | {"broadcastedAt": NOW + 2}), NOW)
    assert accepted(moved) == ["PutEvent", "DeleteLocation", "PutLocation"]
    assert [row.ip for row in state.index.locations()] == [OTHER]
    state.advance(NOW + 5)
    stop = judge_local(state, envelope(SIGTERM | {"ip": OTHER, "broadcastedAt": NOW + 3}), NOW + 5)
    assert accepted(stop) == ["PutEvent", "PutLocation"]
    assert [row.expire_at_ms for row in state.location_rows()] == [NOW + 3 + 420_000]
    assert accepted(judge_local(state, envelope(INSTALLING), NOW)) == ["PutInstalling"]
    assert accepted(judge_local(state, envelope(ERROR), NOW)) == ["PutInstallError", "DeleteInstalling"]


def test_eviction_drops_the_rows(state: AppState) -> None:
    judge(state, envelope(running("A")), NOW)
    evict(state, IP, NOW + 1)
    assert state.location_rows() == []
    assert list(state.index.locations()) == []
    assert state.event_time((IP, "evicted", "evicted")) == NOW + 1


def test_install_errors_are_forgotten_by_name(state: AppState) -> None:
    judge(state, envelope(ERROR), NOW)
    judge(state, envelope(ERROR | {"name": "B"}), NOW)
    forget_install_errors(state, "AppA", NOW)
    assert [row.name for row in state.install_errors()] == ["B"]
    assert [key[2] for key in state.copy_keys()] == ["B"]


def record(data: dict[str, Any], kind: str = "") -> BatchRecord:
    return BatchRecord(kind, envelope(data), received_at_ms=NOW - 7)


def test_an_empty_list_without_history_is_stored_by_sync_only(state: AppState) -> None:
    empty = envelope(running())
    assert judge(state, empty, NOW).changes == ()
    outcome = judge_chunk(state, "apprunning", [record(running(), "apprunning")], NOW, "p")
    assert outcome.stored == 1
    assert state.event_time((IP, "apprunning", "v2")) == NOW
    assert state.rows_at(IP) == []


def test_a_chunk_over_the_limit_is_ignored_whole(state: AppState) -> None:
    records = [record(running("A"), "apprunning")] * 2501
    outcome = judge_chunk(state, "apprunning", records, NOW, "peer")
    assert not outcome.accepted
    assert outcome.changes == ()
    assert set(state.counts().values()) == {0}


@pytest.mark.parametrize(
    ("kind", "bad", "stop", "reason"),
    [
        ("apprunning", record(SIGTERM, "apprunning"), "validate", "type_mismatch"),
        ("apprunning", record(running("A"), "sigterm"), "validate", "type_mismatch"),
        ("apprunning", record(running("A"), "ipchanged"), "validate", "type_mismatch"),
        ("apprunning", record(REMOVED | {"version": 2}, "appremoved"), "validate", "version_unknown"),
        ("apprunning", record(running(*map(str, range(201))), "apprunning"), "validate", "too_many_apps"),
        ("apprunning", record(running("A"), "other"), "dispatch", "unknown_type"),
        ("apprunning", BatchRecord("evicted", None, IP), "validate", "eviction_without_ip_or_time"),
        ("apprunning", BatchRecord("evicted", None, "x\ud800", NOW), "validate", "ip_not_unicode"),
        ("apprunning", BatchRecord("evicted", None, IP, NOW - 7_500_001), "age", "eviction_stale"),
        ("appinstalling", record(ERROR), "validate", "type_mismatch"),
        ("appinstalling", BatchRecord("", None), "validate", "no_envelope"),
        ("apperrors", record(INSTALLING), "validate", "type_mismatch"),
        (
            "apperrors",
            record(ERROR | {"broadcastedAt": NOW + 120_001}),
            "validate",
            "broadcasted_at_in_future",
        ),
    ],
)
def test_a_bad_record_leaves_no_trace_and_stops_nobody(
    state: AppState, kind: Any, bad: BatchRecord, stop: str, reason: str
) -> None:
    good = {
        "apprunning": record(running("Good", ip=OTHER), "apprunning"),
        "appinstalling": record(INSTALLING | {"ip": OTHER}),
        "apperrors": record(ERROR | {"ip": OTHER}),
    }[kind]
    outcome = judge_chunk(state, kind, [bad, good], NOW, "peer")
    assert outcome.refused == ((0, stop, reason),)
    assert (outcome.verified, outcome.stored) == (1, 1)
    assert state.index.source(IP) is None
    assert state.location_rows() == [row for row in state.location_rows() if row.ip == OTHER]
    data = {"syncType": kind, "peer": "peer", "verified": 1, "stored": 1}
    assert outcome.published == (("sync:chunkVerified", data),)


def test_an_eviction_of_the_future_is_taken_as_now(state: AppState) -> None:
    judge_chunk(state, "apprunning", [BatchRecord("evicted", None, IP, NOW + 10**9)], NOW, "peer")
    assert state.event_time((IP, "evicted", "evicted")) == NOW


def test_an_older_synced_eviction_does_not_replace_a_newer_one(state: AppState) -> None:
    evict(state, IP, NOW)
    outcome = judge_chunk(state, "apprunning", [BatchRecord("evicted", None, IP, NOW - 1)], NOW, "peer")
    assert outcome.refused == ((0, "guard", "not_newer"),)
    assert state.event_time((IP, "evicted", "evicted")) == NOW


def test_synced_messages_change_only_older_rows(state: AppState) -> None:
    judge(state, envelope(running("Old", at_ms=NOW - 10)), NOW)
    judge(state, envelope(v1(name="AppA")), NOW)
    records = [
        record(REMOVED | {"broadcastedAt": NOW - 5}, "appremoved"),
        record(SIGTERM | {"broadcastedAt": NOW - 4}, "sigterm"),
    ]
    judge_chunk(state, "apprunning", records, NOW, "peer")
    expiry = {row.name: row.expire_at_ms for row in state.location_rows()}
    assert expiry == {"Old": NOW - 4 + 420_000, "AppA": NOW + 7_500_000}


def test_scaled_windows_leave_gossip_ages_alone() -> None:
    windows = Windows.from_settings(AppStateSettings(time_scale=0.01))
    assert windows.running_ms == windows.evicted_ms == 75_000
    assert (windows.sigterm_grace_ms, windows.installing_ms) == (4_200, 9_000)
    assert (windows.install_error_ms, windows.location_ms) == (864_000, 39_000)
    assert (windows.validity_ms, windows.relay_ms, windows.dispatch_ms) == (300_000, 240_000, 300_000)
    assert windows.future_ms == 120_000
