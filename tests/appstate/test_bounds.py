"""A node that invents names keeps its oldest records out, not other nodes' memory full."""

from __future__ import annotations

import random

import pytest

from trionode.appstate import bounds, draft
from trionode.appstate.judge import judge
from trionode.appstate.state import AppState
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings
from trionode.wire.envelope import seal
from trionode.wire.jsjson import JsValue
from trionode.wire.keys import NodeKey

NOW_MS = 1_760_000_000_000
KEY = NodeKey.generate(random.Random(1))
IP = "20.1.10.1"


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> AppState:
    def tight(state: AppState, change: object) -> object:
        return bounds.surplus(state, change, 5)  # type: ignore[arg-type]

    monkeypatch.setattr(draft, "surplus", tight)
    return AppState(Windows.from_settings(AppStateSettings()), NOW_MS)


def say(state: AppState, kind: str, at_ms: int, **fields: JsValue) -> None:
    data: dict[str, JsValue] = {"type": kind, "version": 1, "ip": IP, "broadcastedAt": at_ms, **fields}
    assert judge(state, seal(data, KEY, at_ms), NOW_MS).accepted


@pytest.mark.parametrize(
    ("kind", "field", "more"),
    [
        ("fluxappremoved", "appName", {}),
        ("fluxapprunning", "name", {"hash": "0" * 64}),
        ("fluxappinstalling", "name", {}),
        ("fluxappinstallingerror", "name", {"hash": "0" * 64, "error": "no room"}),
    ],
)
def test_the_oldest_of_an_address_give_way(
    state: AppState, kind: str, field: str, more: dict[str, JsValue]
) -> None:
    for number in range(12):
        say(state, kind, NOW_MS + number, **{field: f"app{number}"}, **more)
    counts = state.counts()
    if kind == "fluxappremoved":
        assert counts["events"] == 5
        assert state.event_time((IP, "appremoved", "appremoved:app11")) is not None
        assert state.event_time((IP, "appremoved", "appremoved:app6")) is None
    elif kind == "fluxapprunning":
        assert (counts["events"], counts["locations"], counts["location_rows"]) == (5, 5, 5)
        assert {row.name for row in state.index.locations()} == {f"app{number}" for number in range(7, 12)}
    elif kind == "fluxappinstalling":
        assert [row.name for row in state.installing()] == [f"app{number}" for number in range(7, 12)]
        assert counts["signed_copies"] == 10
    else:
        assert [row.name for row in state.install_errors()] == [f"app{number}" for number in range(7, 12)]
        assert counts["signed_copies"] == 10


def test_an_update_pushes_nobody_out(state: AppState) -> None:
    for number in range(5):
        say(state, "fluxappremoved", NOW_MS + number, appName=f"app{number}")
    for number in range(5):
        say(state, "fluxappremoved", NOW_MS + 100 + number, appName=f"app{number}")
    assert state.counts()["events"] == 5
