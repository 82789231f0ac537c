"""LocationIndex equals the pure view, whatever happens in whatever order."""

from __future__ import annotations

from typing import Any

import pytest
from examples import examples
from histories import IPS, WINDOWS, events, ips, names, times
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trionode.appstate.documents import EventRow
from trionode.appstate.facts import fact_of
from trionode.appstate.index import LocationIndex, LocationView
from trionode.appstate.view import ViewRow, documents_of, view
from trionode.wire.jsjson import stringify


def content(rows: Any) -> list[tuple[Any, ...]]:
    found = [
        (r.name, r.hash, r.ip, r.broadcasted_at_ms, r.running_since, r.os_uptime, r.static_ip) for r in rows
    ]
    assert len({(row[0], row[2]) for row in found}) == len(found), "a place is listed twice"
    return sorted(found, key=repr)


class IndexAgainstView(RuleBasedStateMachine):
    """The index fed event by event and the view over the same documents are asked the same."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.index = LocationIndex(WINDOWS, self.now_ms)
        self.rows: dict[tuple[str, str, str], EventRow] = {}

    @rule(rows=st.lists(events(), min_size=1, max_size=6))
    def put(self, rows: list[EventRow]) -> None:
        for row in rows:
            self.rows[row.key] = row
            self.index.put(row.key, fact_of(row))

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.rows:
            key = data.draw(st.sampled_from(sorted(self.rows)))
            del self.rows[key]
            self.index.remove(key)

    @rule(key=st.tuples(ips, st.sampled_from(("apprunning", "appremoved", "sigterm", "ipchanged")), names))
    def remove_unknown(self, key: tuple[str, str, str]) -> None:
        if key not in self.rows and (key[0], key[1], key[1]) not in self.rows:
            if key[1] == "appremoved":
                key = (key[0], key[1], f"appremoved:{key[2]}")
            self.rows.pop(key, None)
            self.index.remove(key)

    @rule(step_ms=st.sampled_from((0, 10, 10, 20, 40)))
    def advance(self, step_ms: int) -> None:
        self.now_ms += step_ms
        self.index.advance(self.now_ms)

    @rule()
    def advance_to_the_deadline(self) -> None:
        deadline_ms = self.index.next_deadline_ms()
        if deadline_ms is not None and deadline_ms > self.now_ms:
            before = content(self.index.locations())
            self.now_ms = deadline_ms - 1
            self.index.advance(self.now_ms)
            assert content(self.index.locations()) == before, "changed before its deadline"
            self.now_ms = deadline_ms
            self.index.advance(self.now_ms)

    def expected(self, **filters: str) -> list[tuple[Any, ...]]:
        found: list[ViewRow] = view(
            documents_of(self.rows.values()), self.now_ms, grace_ms=WINDOWS.sigterm_grace_ms, **filters
        )
        return content(found)

    @invariant()
    def whole_list(self) -> None:
        assert content(self.index.locations()) == self.expected()
        assert len(self.index) == len(self.index.locations())
        assert set(self.index.names()) == {row.name for row in self.index.locations()}

    @invariant()
    def filters(self) -> None:
        for name in ("appa", "AppB", "", "x"):
            assert content(self.index.locations(name)) == self.expected(appname=name)
        for ip in IPS:
            assert content(self.index.locations(ip=ip)) == self.expected(ip=ip)
            assert content(self.index.locations("APPA", ip)) == self.expected(appname="APPA", ip=ip)

    @invariant()
    def rows_live_until_they_say(self) -> None:
        assert all(row.expire_at_ms > self.now_ms for row in self.index.locations() if self._plain(row))

    def _plain(self, row: LocationView) -> bool:
        """Documents whose own expireAt is artificial do not count."""
        return all(
            stored.expire_at_ms - stored.at_ms == WINDOWS.running_ms
            for stored in self.rows.values()
            if stored.at_ms == row.broadcasted_at_ms
        )


IndexAgainstView.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=25, deadline=None
)
TestIndexAgainstView = IndexAgainstView.TestCase


@given(st.lists(events(), max_size=12), times)
@settings(max_examples=examples(100), deadline=None)
def test_the_order_of_arrival_does_not_matter_for_distinct_keys(rows: list[EventRow], now_ms: int) -> None:
    unique = {row.key: row for row in rows}
    forward, backward = LocationIndex(WINDOWS, now_ms), LocationIndex(WINDOWS, 0)
    for row in unique.values():
        forward.put(row.key, fact_of(row))
    for row in reversed(unique.values()):
        backward.put(row.key, fact_of(row))
    backward.advance(now_ms)
    assert _places(forward.locations()) == _places(backward.locations())


def _places(rows: Any) -> list[tuple[str, str, int]]:
    return sorted((row.name, row.ip, row.broadcasted_at_ms) for row in rows)


def running(ip: str, at_ms: int, *names_: str, **members: Any) -> EventRow:
    data = {"apps": [{"name": name, "hash": "h"} for name in names_], **members}
    return EventRow(ip, "apprunning", "v2", at_ms + 100, broadcasted_at_ms=at_ms, data_text=stringify(data))


def put(index: LocationIndex, row: EventRow) -> None:
    index.put(row.key, fact_of(row))


def test_expire_at_and_running_since_as_the_routes_need_them() -> None:
    index = LocationIndex(WINDOWS, 0)
    put(index, running("1.1.1.1", 50, "AppA", runningSince="1970-01-01T00:00:00.007Z"))
    put(index, running("2.2.2.2", 50, "AppA"))
    put(index, running("3.3.3.3", 50, "AppA", runningSince="nonsense"))
    rows = {row.ip: row for row in index.locations("appa")}
    assert rows["1.1.1.1"].running_since == "1970-01-01T00:00:00.007Z"
    assert [rows[ip].running_since_ms for ip in sorted(rows)] == [7, 50, 50]
    assert {row.expire_at_ms for row in rows.values()} == {150}
    put(index, EventRow("1.1.1.1", "sigterm", "sigterm", 160, broadcasted_at_ms=60, data_text="{}"))
    rows = {row.ip: row for row in index.locations("appa")}
    assert [rows[ip].expire_at_ms for ip in sorted(rows)] == [80, 150, 150]
    assert index.next_deadline_ms() == 80
    index.advance(79)
    assert len(index) == 3
    index.advance(80)
    assert sorted(row.ip for row in index.locations()) == ["2.2.2.2", "3.3.3.3"]
    index.advance(150)
    assert index.locations() == ()
    assert index.next_deadline_ms() is None


def test_time_does_not_go_back() -> None:
    index = LocationIndex(WINDOWS, 0)
    put(index, running("1.1.1.1", 50, "AppA"))
    index.advance(150)
    assert index.advance(10) == 0
    assert index.now_ms == 150
    assert index.locations() == ()


def test_answers_are_shared_until_they_change() -> None:
    index = LocationIndex(WINDOWS, 0)
    put(index, running("1.1.1.1", 1, "AppA"))
    put(index, running("2.2.2.2", 1, "AppB"))
    first, whole = index.locations("AppA"), index.locations()
    put(index, running("2.2.2.2", 2, "AppB"))
    assert index.locations("appa") is first
    assert index.locations() is not whole
    assert index.locations() is index.locations()


def test_deadlines_do_not_pile_up() -> None:
    index = LocationIndex(WINDOWS, 0)
    for at_ms in range(1, 90):
        put(index, running("1.1.1.1", at_ms, "AppA"))
    assert len(index._deadlines) == 1


@pytest.mark.parametrize("name", ["", None])
def test_falsy_filters_mean_none(name: str | None) -> None:
    index = LocationIndex(WINDOWS, 0)
    put(index, running("1.1.1.1", 1, "AppA"))
    assert len(index.locations(name, name)) == 1
