"""The own connection: when it is doubted, and what a check concludes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trionode.config.tree import PeerSettings
from trionode.peers.health import (
    Health,
    HealthState,
    NetworkHealth,
    after_check,
    after_connect,
    after_loss,
    wants_check,
)
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.wire.nodelist import NodeEntry, NodeList

SETTINGS = PeerSettings()


def with_losses(
    count: int, *, age_s: float = 60.0, code: int | None = 1006, every_s: float = 1.0
) -> HealthState:
    state = after_connect(HealthState(), 1, 0.0, SETTINGS)
    for number in range(count):
        state = after_loss(state, age_s, code, 200 + number * every_s, SETTINGS)
    return state


@pytest.mark.parametrize(
    ("state", "now_s", "wanted"),
    [
        (with_losses(5), 205, True),
        (with_losses(4), 205, False),
        (with_losses(5, age_s=29.9), 205, False),
        (with_losses(5, code=1001), 205, False),
        (with_losses(5, code=4019), 205, False),
        (with_losses(5, code=None), 205, True),
        (with_losses(5, every_s=20), 281, False),
        (with_losses(5), 265, False),
        (HealthState(Health.HEALTHY, 100.0, (200.0,) * 5), 205, False),
        (HealthState(Health.HEALTHY, 0.0, (200.0,) * 5, checked_s=190), 205, False),
        (HealthState(Health.HEALTHY, 0.0, (200.0,) * 5, checked_s=175), 205, True),
        (HealthState(Health.NETWORK_LOSS, 0.0, (), checked_s=175), 205, True),
        (HealthState(Health.NETWORK_LOSS, 0.0, (), checked_s=180), 205, False),
    ],
)
def test_when_a_check_is_wanted(state: HealthState, now_s: float, wanted: bool) -> None:
    assert wants_check(state, now_s, SETTINGS) is wanted


@pytest.mark.parametrize(
    ("answered", "peers", "others", "health"),
    [
        (3, 3, False, Health.NOT_AFFECTED),
        (1, 3, True, Health.DEGRADED),
        (0, 3, True, Health.IP_CHANGE),
        (0, 3, False, Health.NETWORK_LOSS),
        (0, 0, True, Health.IP_CHANGE),
        (0, 0, False, Health.NETWORK_LOSS),
    ],
)
def test_what_a_check_concludes(answered: int, peers: int, others: bool, health: Health) -> None:
    state = HealthState(Health.HEALTHY, 1.0, (10.0, 30.0))
    found = after_check(state, answered=answered, peers=peers, others_answer=others, since_s=20, now_s=40)
    assert found == HealthState(health, 1.0, (30.0,), 40)


@given(st.lists(st.one_of(st.integers(1, 20), st.none()), max_size=30))
def test_losses_are_bounded_and_five_peers_mean_healthy(steps: list[int | None]) -> None:
    state = HealthState(Health.NETWORK_LOSS)
    for now_s, step in enumerate(steps):
        if step is None:
            state = after_loss(state, 60, 1006, now_s, SETTINGS)
        else:
            state = after_connect(state, step, now_s, SETTINGS)
            if step >= 5:
                assert state.health is Health.HEALTHY
        assert len(state.losses) <= SETTINGS.health_losses


class FakePeer:
    """As much of a peer as a check needs."""

    def __init__(self, number: int, answers: bool) -> None:
        self.key = f"1.1.{number}.1:16127"
        self.connected_at_ms = 0
        self.close_code = 1006
        self.answers = answers
        self.pinger = self

    async def answers_within(self, timeout_s: float) -> bool:
        await trio.sleep(0.1 if self.answers else timeout_s)
        return self.answers


class Rig:
    """A table of fake peers, a node list, and who answers over HTTP."""

    own_address = "1.1.0.1"

    def __init__(self) -> None:
        self.peers: dict[str, FakePeer] = {}
        self.bus = EventBus()
        self.asked: list[str] = []
        self.reachable = False
        self.nodes = NodeList(NodeEntry(ip=f"1.1.{number}.1", pubkey=str(number)) for number in range(40))
        self.listener: Any = None
        clock = VirtualClock(0)
        self.watch = NetworkHealth(
            SETTINGS,
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            self.bus,
            Counters(),
            clock,
            random.Random(4),
            reaches=self.reaches,
        )

    def on_change(self, listener: Any) -> None:
        self.listener = listener

    def __iter__(self) -> Any:
        return iter(list(self.peers.values()))

    def __len__(self) -> int:
        return len(self.peers)

    def __contains__(self, key: str) -> bool:
        return key in self.peers

    async def reaches(self, ip: str, port: int) -> bool:
        self.asked.append(ip)
        await trio.sleep(1)
        return self.reachable

    def connect(self, *numbers: int, answers: bool = True) -> None:
        for number in numbers:
            peer = FakePeer(number, answers)
            self.peers[peer.key] = peer
            self.listener("added", peer)

    def lose(self, *numbers: int) -> None:
        for number in numbers:
            peer = self.peers.pop(f"1.1.{number}.1:16127")
            self.listener("removed", peer)

    def told(self) -> list[str]:
        return [event.data["state"] for event in self.bus.replay() if event.name == "network:health"]


@asynccontextmanager
async def watching() -> AsyncIterator[Rig]:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.watch.run)
        yield rig
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_others_had_the_trouble(autojump_clock: MockClock) -> None:
    async with watching() as rig:
        rig.connect(*range(1, 11))
        await trio.sleep(130)
        rig.lose(1, 2, 3, 4, 5)
        assert not rig.watch.is_sound, "until the check is over nothing is trusted"
        await trio.sleep(3)
        assert rig.told() == ["NOT_AFFECTED"]
        assert rig.watch.is_sound
        rig.connect(1)
        assert rig.told() == ["NOT_AFFECTED", "HEALTHY"]
        snapshot = rig.watch.snapshot()
        assert snapshot["status"] == "HEALTHY"
        assert snapshot["inSteadyState"] is True
        assert [(row["status"], row["answered"]) for row in snapshot["history"]] == [("NOT_AFFECTED", 5)]


@pytest.mark.trio
@pytest.mark.parametrize(("reachable", "state"), [(True, "IP_CHANGE"), (False, "NETWORK_LOSS")])
async def test_nobody_answers(reachable: bool, state: str, autojump_clock: MockClock) -> None:
    async with watching() as rig:
        rig.reachable = reachable
        rig.connect(*range(1, 11), answers=False)
        await trio.sleep(130)
        rig.lose(1, 2, 3, 4, 5)
        await trio.sleep(5)
        assert rig.told() == [state]
        assert not rig.watch.is_sound
        connected = {f"1.1.{number}.1" for number in range(6, 11)} | {rig.own_address}
        assert len(rig.asked) == 3
        assert not set(rig.asked) & connected
        # it looks again by itself
        for peer in rig:
            peer.answers = True
        await trio.sleep(35)
        assert rig.told() == [state, "NOT_AFFECTED"]
        assert rig.watch.is_sound


@pytest.mark.trio
async def test_before_the_steady_state_nothing_is_doubted(autojump_clock: MockClock) -> None:
    async with watching() as rig:
        rig.connect(*range(1, 11), answers=False)
        await trio.sleep(100)
        rig.lose(1, 2, 3, 4, 5)
        await wait_all_tasks_blocked()
        assert rig.told() == []


@pytest.mark.trio
async def test_without_any_peer_nothing_is_trusted(autojump_clock: MockClock) -> None:
    async with watching() as rig:
        assert not rig.watch.is_sound
        rig.connect(1)
        assert rig.watch.is_sound
