"""EventBus: bounded, slow readers are told what they lost, replay has neither gap nor duplicate."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trionode.runtime.bus import EventBus, Subscription


async def _drain(subscription: Subscription) -> list[tuple[int, int]]:
    """(id, lost) of everything that can be received without waiting."""
    seen: list[tuple[int, int]] = []
    # On a mock clock this time passes only when nothing else can happen.
    with trio.move_on_after(0.01):
        while True:
            event = await subscription.receive()
            seen.append((event.id, event.lost))
    return seen


@pytest.mark.trio
async def test_events_arrive_in_order_with_ids_from_one(autojump_clock: trio.abc.Clock) -> None:
    bus = EventBus()
    with bus.subscribe() as news:
        bus.publish("a", {"x": 1})
        bus.publish("b")
        first, second = await news.receive(), await news.receive()
    assert (first.id, first.name, first.data, first.lost) == (1, "a", {"x": 1}, 0)
    assert (second.id, second.name, second.data) == (2, "b", {})
    assert bus.last_id == 2


@pytest.mark.trio
async def test_only_wanted_names(autojump_clock: trio.abc.Clock) -> None:
    bus = EventBus()
    with bus.subscribe("b") as news:
        for name in "abcb":
            bus.publish(name)
        assert await _drain(news) == [(2, 0), (4, 0)]


@pytest.mark.trio
async def test_slow_subscriber_loses_the_oldest_and_is_told(autojump_clock: trio.abc.Clock) -> None:
    bus = EventBus()
    with bus.subscribe(buffer=3) as slow, bus.subscribe(buffer=100) as quick:
        for _ in range(10):
            bus.publish("n")
        assert await _drain(slow) == [(8, 7), (9, 0), (10, 0)]
        assert len(await _drain(quick)) == 10
        bus.publish("n")
        assert await _drain(slow) == [(11, 0)]


@pytest.mark.trio
async def test_waiting_reader_wakes(autojump_clock: trio.abc.Clock) -> None:
    bus = EventBus()
    got: list[int] = []
    with bus.subscribe() as news:

        async def read() -> None:
            async for event in news:
                got.append(event.id)  # noqa: PERF401 - watched while it grows

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for expected in ([1], [1, 2], [1, 2, 3]):
                await wait_all_tasks_blocked()
                bus.publish("n")
                await wait_all_tasks_blocked()
                assert got == expected
            nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_two_readers_of_one_subscription_both_wake() -> None:
    bus = EventBus()
    got: list[int] = []
    with bus.subscribe() as news:

        async def read() -> None:
            got.append((await news.receive()).id)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(read)
                await wait_all_tasks_blocked()
                bus.publish("n")
                bus.publish("n")
    assert sorted(got) == [1, 2]


@pytest.mark.trio
async def test_cancelled_receive_loses_nothing() -> None:
    bus = EventBus()
    with bus.subscribe() as news:
        bus.publish("n")
        with trio.CancelScope() as scope:
            scope.cancel()
            await news.receive()
        assert scope.cancelled_caught
        assert (await news.receive()).id == 1


@pytest.mark.trio
async def test_nothing_after_the_with_block(autojump_clock: trio.abc.Clock) -> None:
    bus = EventBus()
    with bus.subscribe() as news:
        bus.publish("n")
    bus.publish("n")
    assert await _drain(news) == [(1, 0)]


@pytest.mark.trio
async def test_replay_then_live_without_gap_or_duplicate(autojump_clock: trio.abc.Clock) -> None:
    bus = EventBus()
    for _ in range(5):
        bus.publish("n")
    with bus.subscribe(replay_after_id=2) as news:
        bus.publish("n")
        assert await _drain(news) == [(3, 0), (4, 0), (5, 0), (6, 0)]


@pytest.mark.trio
async def test_replay_tells_what_the_ring_no_longer_has(autojump_clock: trio.abc.Clock) -> None:
    bus = EventBus(ring=3)
    for _ in range(10):
        bus.publish("n")
    with bus.subscribe(replay_after_id=4) as news:
        assert await _drain(news) == [(8, 3), (9, 0), (10, 0)]
    with bus.subscribe(replay_after_id=99) as news:
        assert await _drain(news) == []


@given(
    ring=st.integers(1, 20),
    buffer=st.integers(1, 20),
    before=st.integers(0, 40),
    after_id=st.integers(0, 40),
    live=st.integers(0, 20),
)
def test_ids_received_plus_lost_account_for_everything(
    ring: int, buffer: int, before: int, after_id: int, live: int
) -> None:
    bus = EventBus(ring=ring)
    for _ in range(before):
        bus.publish("n")

    async def main() -> list[tuple[int, int]]:
        with bus.subscribe(buffer=buffer, replay_after_id=after_id) as news:
            for _ in range(live):
                bus.publish("n")
            return await _drain(news)

    seen = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    expected_next = min(after_id, before) + 1
    for number, lost in seen:
        assert number == expected_next + lost
        expected_next = number + 1
    assert expected_next == before + live + 1
