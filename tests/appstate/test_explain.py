"""explain says "listed" exactly where the view lists, and names the rule that hid the rest."""

from __future__ import annotations

from typing import Any

import pytest
from examples import examples
from histories import IPS, WINDOWS, events
from hypothesis import given, settings
from hypothesis import strategies as st

from trionode.appstate.documents import EventRow
from trionode.appstate.explain import Step, explain
from trionode.appstate.view import documents_of, view
from trionode.wire.jsjson import stringify


@given(st.lists(events(), max_size=10), st.sampled_from(range(0, 320, 10)), st.sampled_from((None, *IPS)))
@settings(max_examples=examples(120), deadline=None)
def test_listed_steps_are_the_rows_of_the_view(rows: list[EventRow], now_ms: int, ip: str | None) -> None:
    stored = list({row.key: row for row in rows}.values())
    steps = explain(stored, "appa", ip, now_ms, WINDOWS)
    listed = sorted((s.name, s.listed_ip, s.at_ms) for s in steps if s.effect == "listed")
    found = view(documents_of(stored), now_ms, appname="appa", ip=ip, grace_ms=WINDOWS.sigterm_grace_ms)
    assert listed == sorted((r.name, r.ip, r.broadcasted_at_ms) for r in found)
    for step in steps:
        assert (step.effect == "listed") == bool(step.listed_ip)
        assert step.effect in ("listed", "hidden", "hides", "remaps", "none")
        assert step.rule
        assert step.text


A, B = "1.1.1.1", "2.2.2.2"


def event(kind: str, at_ms: int, key: str = "", ip: str = A, **data: Any) -> EventRow:
    at = {"created_at_ms": at_ms} if kind == "evicted" else {"broadcasted_at_ms": at_ms}
    return EventRow(ip, kind, key or kind, at_ms + 100, data_text=stringify(data), **at)


def v2(at_ms: int, *names: str, ip: str = A) -> EventRow:
    return event("apprunning", at_ms, "v2", ip, apps=[{"name": name, "hash": "h"} for name in names])


def v1(at_ms: int, name: str) -> EventRow:
    return event("apprunning", at_ms, f"v1:{name}", name=name, hash="h")


def told(rows: list[EventRow], now_ms: int = 30) -> list[tuple[str, str, str]]:
    return [(s.type, s.effect, s.rule) for s in explain(rows, "AppA", None, now_ms, WINDOWS)]


@pytest.mark.parametrize(
    ("rows", "now_ms", "expected"),
    [
        ([v2(1, "AppA")], 30, [("apprunning", "listed", "current")]),
        ([v2(1, "AppB")], 30, [("apprunning", "hides", "not_in_list")]),
        ([v2(1, "AppA")], 101, [("apprunning", "hidden", "expired")]),
        (
            [v1(1, "AppA"), v2(2, "AppB")],
            30,
            [("apprunning", "hidden", "superseded_by_v2"), ("apprunning", "hides", "not_in_list")],
        ),
        (
            [v2(1, "AppA"), event("appremoved", 1, "appremoved:AppA", appName="AppA")],
            30,
            [("appremoved", "hides", "removed"), ("apprunning", "hidden", "removed")],
        ),
        (
            [v2(1, "AppA"), event("sigterm", 15)],
            34,
            [("apprunning", "listed", "sigterm_grace"), ("sigterm", "none", "sigterm_grace")],
        ),
        (
            [v2(1, "AppA"), event("sigterm", 15)],
            35,
            [("apprunning", "hidden", "sigterm"), ("sigterm", "hides", "sigterm")],
        ),
        (
            [v2(1, "AppA"), event("sigterm", 15), event("evicted", 16)],
            30,
            [
                ("apprunning", "hidden", "evicted"),
                ("sigterm", "none", "superseded"),
                ("evicted", "hides", "evicted"),
            ],
        ),
        (
            [v2(1, "AppA"), event("ipchanged", 2, newIP=B)],
            30,
            [("apprunning", "listed", "remapped"), ("ipchanged", "remaps", "ipchanged")],
        ),
        (
            [v2(1, "AppA"), event("ipchanged", 2, newIP=B), v2(3, "AppA", ip=B)],
            30,
            [
                ("apprunning", "hidden", "newer_at_same_place"),
                ("ipchanged", "remaps", "ipchanged"),
                ("apprunning", "listed", "current"),
            ],
        ),
    ],
)
def test_rules_are_named(rows: list[EventRow], now_ms: int, expected: list[tuple[str, str, str]]) -> None:
    assert told(rows, now_ms) == expected


def test_the_deciding_event_is_named() -> None:
    steps: list[Step] = explain([v1(1, "AppA"), v2(2, "AppB")], "appa", A, 30, WINDOWS)
    assert steps[0].by == (A, "apprunning", "v2")
    assert steps[1].by is None


def test_other_addresses_are_left_out_when_one_is_asked() -> None:
    assert {s.ip for s in explain([v2(1, "AppA"), v2(1, "AppA", ip=B)], "AppA", B, 30, WINDOWS)} == {B}
