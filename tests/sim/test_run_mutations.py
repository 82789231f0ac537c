"""A node with a defect does not get through a randomised run: each invariant sees what it is there for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio

from trionode.hosting.announcer import Announcer
from trionode.lifecycle import orchestrator
from trionode.peers import gossip
from trionode.peers.broadcast import Broadcaster
from trionode.peers.dispatch import Dispatcher, Verified
from trionode.peers.receive import Receiver
from trionode.sim.runs.carry import carry_out
from trionode.sim.runs.plan import AnyStep, Apps, Down, LiarPlan, RunPlan
from trionode.sim.scenario import RunFailed
from trionode.store.eventlog import EventLog
from trionode.sync import stateverify
from trionode.wire.origin import OriginVerdict

PLAN = RunPlan(
    seed=5,
    nodes=6,
    outbound=3,
    time_scale=0.06,
    apps=(("a",), ("a", "b"), ("b",), ("c",)),
    weather_s=160.0,
    steps=(Apps(at_s=100.0, node=0, names=("a", "d")),),
)


def changed(*steps: AnyStep, liars: tuple[LiarPlan, ...] = ()) -> RunPlan:
    return msgspec.structs.replace(PLAN, steps=(*PLAN.steps, *steps), liars=liars)


def problem_of(plan: RunPlan) -> str:
    with pytest.raises(RunFailed) as caught:
        carry_out(plan)
    return caught.value.message


GOODBYE = changed(Down(at_s=120.0, node=1, how="sigterm", for_s=None))


@pytest.mark.parametrize("plan", [PLAN, GOODBYE])
def test_without_a_defect_it_passes(plan: RunPlan) -> None:
    assert carry_out(plan).checks > 100


def test_a_node_that_believes_forged_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip, "verify_envelope", lambda *args, **kwargs: OriginVerdict.OK)
    plan = changed(liars=(LiarPlan(number=0, tricks=("forge",)),))
    assert "stored" in problem_of(plan)


def test_a_node_that_believes_forged_records_of_a_state_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        stateverify, "verify_records", lambda records, nodes: [OriginVerdict.OK] * len(records)
    )
    plan = changed(
        Down(at_s=110.0, node=2, how="kill", for_s=20.0, disk_lost=True),
        liars=(LiarPlan(number=0, tricks=("forge",)), LiarPlan(number=1, tricks=("forge",))),
    )
    assert "stored" in problem_of(plan)


def test_a_node_that_relays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "_relay", lambda self, message: None)
    monkeypatch.setattr(Broadcaster, "paced", _only_to_one(Broadcaster.paced))
    assert "has not heard within" in problem_of(PLAN)


def _only_to_one(paced: Callable[..., int]) -> Callable[..., int]:
    """An own message goes to one peer; the rest must hear of it from that one."""

    def to_one(self: Broadcaster, text: str, *args: Any, **kwargs: Any) -> int:
        peers = self._table._peers
        kept = dict(peers)
        for key in list(peers)[1:]:
            del peers[key]
        try:
            return paced(self, text, *args, **kwargs)
        finally:
            peers.clear()
            peers.update(kept)

    return to_one


def test_a_node_that_relays_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = Dispatcher._relay

    def twice(self: Dispatcher, message: Verified) -> None:
        relay(self, message)
        relay(self, message)

    monkeypatch.setattr(Dispatcher, "_relay", twice)
    assert "twice over the link" in problem_of(PLAN)


def test_a_node_that_forgets_to_wake_for_what_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lazily(self: EventLog) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(EventLog, "_expire_forever", lazily)
    assert "grace" in problem_of(GOODBYE)


def test_a_node_that_is_ready_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    table = tuple(
        msgspec.structs.replace(row, guard=lambda state, facts: True) for row in orchestrator.TRANSITIONS
    )
    monkeypatch.setattr(orchestrator, "TRANSITIONS", table)
    assert "READY after" in problem_of(PLAN)


def test_a_node_that_keeps_everything_it_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Receiver.frame

    def keep(self: Any, peer: Any, what: Any) -> None:
        vars(self).setdefault("diary", []).extend([what] * 5)
        frame(self, peer, what)

    monkeypatch.setattr(Receiver, "frame", keep)
    assert "Receiver.diary holds" in problem_of(PLAN)


def test_a_node_that_announces_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def rest(self: Announcer, *args: Any) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Announcer, "_pause", rest)
    assert "has not announced" in problem_of(PLAN)
