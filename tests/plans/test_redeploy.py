"""Updates of installed apps, and who goes when an app runs too often."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.plans.redeploy import Depth, plan_surplus, plan_update
from trionode.plans.spawnneeds import Instance

BASE: dict[str, Any] = {
    "version": 8,
    "name": "a",
    "description": "d",
    "owner": "o",
    "hash": "h1",
    "height": 1,
    "instances": 3,
    "compose": [{"name": "web", "hdd": 5, "repotag": "r:1"}, {"name": "db", "hdd": 5, "repotag": "r:1"}],
}


def changed(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(BASE), "hash": "h2", **fields}


def compose(**fields: Any) -> list[dict[str, Any]]:
    return [{**BASE["compose"][0], **fields}, BASE["compose"][1]]


OLD = {"version": 3, "name": "a", "hdd": 5, "repotag": "r:1", "hash": "h0"}


@pytest.mark.parametrize(
    ("installed", "current", "depth"),
    [
        (BASE, BASE, Depth.NOTHING),
        (BASE, changed(), Depth.ROW),
        (BASE, changed(description="x", owner="p", instances=5, expire=9), Depth.ROW),
        (BASE, changed(compose=compose(repotag="r:2")), Depth.SOFT),
        (BASE, changed(compose=compose(hdd=6)), Depth.HARD),
        (BASE, changed(compose=compose(name="api")), Depth.HARD),
        (BASE, changed(contacts=["x"]), Depth.ROW),
        (OLD, {**OLD, "hash": "h", "repotag": "r:2"}, Depth.SOFT),
        (OLD, {**OLD, "hash": "h", "hdd": 9}, Depth.HARD),
        (OLD, changed(), Depth.HARD),
    ],
)
def test_how_much_is_made_anew(installed: dict[str, Any], current: dict[str, Any], depth: Depth) -> None:
    assert plan_update(installed, current).depth is depth


def test_only_changed_components_are_touched_and_links_are_noticed() -> None:
    plan = plan_update(BASE, changed(compose=compose(repotag="r:2")))
    assert [part.identifier for part in plan.parts] == ["web_a"]
    assert plan_update(BASE, changed(description="networkWith:[b]")).links_changed


def test_what_cannot_be_opened_goes_elsewhere() -> None:
    hidden = changed(enterprise="x", compose=[])
    assert plan_update(BASE, hidden, opened=False).depth is Depth.LEAVE


@given(
    st.lists(
        st.tuples(st.integers(1, 20), st.none() | st.integers(0, 5)), min_size=1, unique_by=lambda p: p[0]
    ),
    st.integers(1, 5),
)
def test_exactly_one_node_goes_at_a_time(places: list[tuple[int, int | None]], required: int) -> None:
    rows = [Instance(f"{number}.0.0.1:16127", since) for number, since in places]
    leaving = [
        row
        for row in rows
        if plan_surplus("a", rows, required, row.address, synced=True, known=True) is not None
    ]
    assert len(leaving) == (1 if len(rows) > required else 0)
    assert not any(plan_surplus("a", rows, required, r.address, synced=False, known=True) for r in rows)
