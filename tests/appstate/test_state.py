"""AppState: exact expiry of every kind of record, and the same state after any reload."""

from __future__ import annotations

import random
from typing import Any

import pytest
from examples import examples
from histories import WINDOWS, events
from hypothesis import given, settings
from hypothesis import strategies as st

from trionode.appstate.changes import PutCopy, PutEvent, PutInstallError, PutInstalling, PutLocation
from trionode.appstate.decision import Decision
from trionode.appstate.documents import (
    EventRow,
    InstallErrorRow,
    InstallingRow,
    LocationRow,
    Row,
    Signed,
    SignedCopy,
)
from trionode.appstate.facts import fact_of
from trionode.appstate.judge import judge
from trionode.appstate.state import AppState
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings
from trionode.store.memory import MemoryStore
from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import stringify

SIGNED = Signed(1, 1, "pk", "s")
IPS = ("1.1.1.1", "2.2.2.2")
moments = st.integers(1, 60)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    ip, name, expire_at_ms = draw(st.sampled_from(IPS)), draw(st.sampled_from("AB")), draw(moments)
    match draw(st.sampled_from(("event", "location", "installing", "error", "copy"))):
        case "event":
            row = draw(events())
            return EventRow(
                ip,
                row.type,
                row.dedup_key,
                expire_at_ms,
                row.broadcasted_at_ms,
                row.created_at_ms,
                data_text=row.data_text,
            )
        case "location":
            return LocationRow(draw(st.integers(1, 9)), name, "h", ip, 0, expire_at_ms, None, None, None)
        case "installing":
            return InstallingRow(name, ip, 0, expire_at_ms)
        case "error":
            return InstallErrorRow(name, "h", ip, "e", 0, expire_at_ms)
    return SignedCopy("installing", ip, name, "", 0, expire_at_ms, None, "{}", SIGNED)


def change_of(row: Row) -> Any:
    if isinstance(row, EventRow):
        return PutEvent(row, fact_of(row))
    kinds = {LocationRow: PutLocation, InstallingRow: PutInstalling, InstallErrorRow: PutInstallError}
    return PutCopy(row) if isinstance(row, SignedCopy) else kinds[type(row)](row)


@given(st.lists(st.one_of(rows(), moments), max_size=40))
@settings(max_examples=examples(120), deadline=None)
def test_everything_expires_exactly_at_its_moment(steps: list[Row | int]) -> None:
    """State and a store fed the same changes and deletions hold the same, and nothing past its time."""
    state, store, now_ms = AppState(WINDOWS, 0), MemoryStore(), 0
    where: dict[int, tuple[str, str]] = {}
    for step in steps:
        if isinstance(step, int):
            now_ms = max(now_ms, step)
            deadline_ms = state.next_deadline_ms()
            before = len(store.rows())
            store.commit_now(state.advance(now_ms))
            if deadline_ms is None or deadline_ms > now_ms:
                assert len(store.rows()) == before
        else:
            if isinstance(step, LocationRow) and where.setdefault(step.row_id, (step.name, step.ip)) != (
                step.name,
                step.ip,
            ):
                continue  # the rules delete a row before they put it elsewhere
            if isinstance(step, EventRow) and step.type != "evicted":
                stored_ms = state.event_time(step.key)
                if stored_ms is not None and stored_ms >= step.at_ms:
                    continue  # nor do they ever put an older event
            change = change_of(step)
            state.apply(change)
            store.commit_now([change])
        if isinstance(step, int):
            assert all(row.expire_at_ms > now_ms for row in store.rows())
        counts = state.counts()
        held = [row for row in store.rows() if isinstance(row, LocationRow)]
        assert sorted(state.location_rows(), key=repr) == sorted(held, key=repr)
        assert counts["installing"] == sum(isinstance(row, InstallingRow) for row in store.rows())
        assert counts["install_errors"] == sum(isinstance(row, InstallErrorRow) for row in store.rows())
        assert counts["signed_copies"] == sum(isinstance(row, SignedCopy) for row in store.rows())
    store.commit_now(state.advance(10**6))
    assert store.rows() == []
    assert set(state.counts().values()) == {0}
    assert state.next_deadline_ms() is None
    assert state._addresses == {}


def _random_message(rng: random.Random, now_ms: int) -> dict[str, Any]:
    ip, at_ms = rng.choice(IPS), now_ms - rng.randrange(200_000)
    base: dict[str, Any] = {"version": 1, "ip": ip, "broadcastedAt": at_ms}
    name = rng.choice("ABC")
    kind = rng.choice(("v2", "v2", "v1", "removed", "ipchanged", "sigterm", "installing", "error"))
    if kind == "v2":
        apps = [{"name": app, "hash": "h"} for app in "ABC" if rng.random() < 0.5]
        return base | {"type": "fluxapprunning", "version": 2, "apps": apps}
    if kind == "v1":
        return base | {"type": "fluxapprunning", "name": name, "hash": "h", "osUptime": 5}
    if kind == "removed":
        return base | {"type": "fluxappremoved", "appName": name}
    if kind == "ipchanged":
        return base | {"type": "fluxipchanged", "oldIP": ip, "newIP": IPS[ip == IPS[0]]}
    if kind == "sigterm":
        return base | {"type": "fluxnodesigterm"}
    if kind == "installing":
        return base | {"type": "fluxappinstalling", "name": name}
    return base | {"type": "fluxappinstallingerror", "name": name, "hash": "h", "error": "e"}


@pytest.mark.parametrize("seed", range(20))
def test_a_reloaded_state_decides_as_the_one_that_ran(seed: int) -> None:
    """After any history: rebuilt from the store, the state answers and judges alike."""
    rng = random.Random(seed)
    windows = Windows.from_settings(AppStateSettings(time_scale=0.05))
    now_ms = 1_760_000_000_000
    state, store = AppState(windows, now_ms), MemoryStore()
    for _ in range(150):
        now_ms += rng.choice((0, 1, 1000, 20_000))
        store.commit_now(state.advance(now_ms))
        data = _random_message(rng, now_ms)
        sealed = Envelope(1, now_ms, "pk", "s", data, stringify(data))
        again = AppState.from_rows(windows, store.rows(), now_ms)
        assert again.counts() == state.counts()
        assert _sorted(again.index.locations()) == _sorted(state.index.locations())
        assert _sorted(again.location_rows()) == _sorted(state.location_rows())
        decision = judge(state, sealed, now_ms)
        other = judge(again, sealed, now_ms)
        assert (other.accepted, other.stop, other.reason) == (
            decision.accepted,
            decision.stop,
            decision.reason,
        )
        assert (other.relay, other.published) == (decision.relay, decision.published)
        assert len(other.changes) == len(decision.changes)
        store.commit_now(decision.changes)


def _verdict(decision: Decision) -> tuple[Any, ...]:
    return (
        decision.accepted,
        decision.stop,
        decision.reason,
        decision.relay,
        decision.published,
        len(decision.changes),
    )


def _sorted(found: Any) -> list[Any]:
    return sorted(found, key=repr)
