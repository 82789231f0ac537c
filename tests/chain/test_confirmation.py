"""Confirmation: the recorded traces, and properties of the pure transitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trionode.chain.confirmation import Confirmation
from trionode.config.tree import ChainSettings
from trionode.errors import ChainError
from trionode.lifecycle.confirmation import (
    Answered,
    ConfirmationFacts,
    ConfirmationState,
    LookedUp,
    Unanswered,
    step,
)
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters

VECTORS = Path(__file__).parents[1] / "vectors" / "lifecycle.json"
TRACES = json.loads(VECTORS.read_text(encoding="utf-8"))["e_confirmation"]
LISTENERS = {"confirmation:changed": "confirmation", "chain:capability": "capability", "chain:stale": "stale"}


class TracedWorld:
    """The collaborators of a trace: a daemon, an own key (read once) and the listed key."""

    def __init__(self) -> None:
        self.rpc = "CONFIRMED"
        self.pubkey: str | None = "04aa"
        self.node_pubkey: str | None = "04aa"
        self._own_key: str | None = None

    async def call(self, method: str, params: Any = (), *, fresh: bool = False) -> Any:
        assert method == "getzelnodestatus"
        assert fresh, "the node status is never taken from a cache"
        await trio.lowlevel.checkpoint()
        if self.rpc in ("throw", "error"):
            raise ChainError("no answer")
        return None if self.rpc == "nodata" else {"status": self.rpc}

    async def batch(self, calls: Any) -> list[Any]:
        raise AssertionError("no batches here")

    async def is_listed(self) -> bool:
        await trio.lowlevel.checkpoint()
        if self._own_key is None and self.pubkey != "ERR":
            self._own_key = self.pubkey
        return self._own_key is not None and self._own_key == self.node_pubkey


@pytest.mark.trio
@pytest.mark.parametrize("trace", TRACES, ids=[trace["name"] for trace in TRACES])
async def test_recorded_traces(trace: dict[str, Any], autojump_clock: MockClock) -> None:
    world, bus = TracedWorld(), EventBus()
    confirmation = Confirmation(ChainSettings(), world, bus, Counters(), world.is_listed)
    waiter_resolved = started = False

    async def waiter() -> None:
        nonlocal waiter_resolved
        await confirmation.confirmed.wait()
        waiter_resolved = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter)
        for line in trace["trace"]:
            seen = bus.last_id
            step = line.get("step", {})
            match step.get("op"):
                case "set":
                    for key, value in step["arg"].items():
                        setattr(world, {"nodePubkey": "node_pubkey"}.get(key, key), value)
                case "start" if not started:
                    started = True
                    nursery.start_soon(confirmation.run)
                case "advanceMs":
                    await trio.sleep(step["arg"] / 1000)
            await wait_all_tasks_blocked()
            state = confirmation.state
            assert state.confirmed == line["isConfirmed"], line
            assert state.can_send == line["canSendMessages"], line
            assert state.stale == line["isDaemonStale"], line
            assert confirmation.known.is_open == line.get("statusGateOpen", False)
            assert waiter_resolved == line.get("confirmedWaiterResolved", False)
            events = [(e.name, dict(e.data)) for e in bus.replay(seen)]
            public = [{"event": n, "data": d} for n, d in events if not n.startswith("chain:")]
            assert public == line.get("published", [])
            told = [[LISTENERS[n], *d.values()] for n, d in events if n in LISTENERS]
            assert told == line.get("listeners", [])
        nursery.cancel_scope.cancel()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["CONFIRMED", "EXPIRED", "STARTED", None, "failure"]),
        st.booleans(),
        st.integers(1, 30_000),
    ),
    max_size=30,
)


@given(STEPS)
def test_every_path_keeps_the_levels_consistent(steps: list[tuple[str | None, bool, int]]) -> None:
    state, now_s = ConfirmationState(), 0.0
    published: dict[str, Any] = {}

    def take(event: Answered | Unanswered | LookedUp) -> None:
        nonlocal state
        before = state
        state, told = step(before, event, ConfirmationFacts(now_s))
        published.update({news.name: news.data for news in told})
        assert step(state, LookedUp(state.can_send), ConfirmationFacts(now_s)) == (state, ())

    for status, is_listed, pause_s in steps:
        now_s += pause_s
        before = state
        if status == "failure":
            take(Unanswered())
            age_s = None if before.last_success_s is None else now_s - before.last_success_s
            assert state.last_success_s == before.last_success_s
            if age_s is None:
                assert state == before
            else:
                assert state.stale == (before.stale or age_s > 7500)
                assert state.confirmed == (before.confirmed and age_s <= 19_200)
        else:
            take(Answered(status))
            assert not state.stale
            assert state.confirmed == (status == "CONFIRMED")
        assert state.confirmed or not state.can_send
        take(LookedUp(is_listed))
        assert state.can_send == (state.confirmed is True and is_listed)
        if state.confirmed is not None:
            assert published["confirmation:changed"] == {"confirmed": state.confirmed}
        assert published.get("chain:capability", {"capable": False}) == {"capable": state.can_send}
