"""Supervisor: orderly stop, its deadline, cutting it short, and cancellation from outside."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from trionode.runtime.counters import Counters
from trionode.runtime.supervisor import StopCutShort, Supervisor

Ready = trio.TaskStatus[None]


class Stopper:
    """A service that takes `stop_s` to stop, shielded, and writes down when it began and ended to."""

    def __init__(self, name: str, journal: list[tuple[str, float]], stop_s: float = 0) -> None:
        self.name = name
        self.journal = journal
        self.stop_s = stop_s

    async def run(self, *, task_status: Ready = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.journal.append((f"{self.name} stopping", trio.current_time()))
            with trio.CancelScope(shield=True):
                await trio.sleep(self.stop_s)
            self.journal.append((f"{self.name} stopped", trio.current_time()))


class Service:
    """A service whose life is a function."""

    def __init__(self, name: str, life: Callable[[Ready], Awaitable[None]]) -> None:
        self.name = name
        self.life = life

    async def run(self, *, task_status: Ready = trio.TASK_STATUS_IGNORED) -> None:
        await self.life(task_status)


def supervisor(*services: Stopper | Service, grace_s: float = 5) -> Supervisor:
    tested = Supervisor(Counters(), random.Random(1), grace_s=grace_s)
    for service in services:
        tested.add(service, essential=True)
    return tested


def messages(caplog: pytest.LogCaptureFixture) -> dict[str, dict[str, object]]:
    return {str(r.msg["event"]): r.msg for r in caplog.records if isinstance(r.msg, dict)}


@pytest.mark.trio
async def test_stops_one_by_one_in_reverse_order(autojump_clock: MockClock) -> None:
    journal: list[tuple[str, float]] = []
    tested = supervisor(*(Stopper(name, journal, 1) for name in "abc"))
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        begin = trio.current_time()
        tested.stop("SIGTERM")
        tested.stop("something else")
    assert [(event, when - begin) for event, when in journal] == [
        ("c stopping", 0),
        ("c stopped", 1),
        ("b stopping", 1),
        ("b stopped", 2),
        ("a stopping", 2),
        ("a stopped", 3),
    ]
    assert tested.stop_reason == "SIGTERM"
    assert {row.state for row in tested.status()} == {"stopped"}


@pytest.mark.trio
async def test_at_the_deadline_the_rest_is_cancelled_at_once_and_named(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    journal: list[tuple[str, float]] = []
    counters = Counters()
    tested = Supervisor(counters, random.Random(1), grace_s=5)
    for service in (Stopper("a", journal), Stopper("b", journal), Stopper("c", journal, stop_s=12)):
        tested.add(service, essential=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        begin = trio.current_time()
        tested.stop("SIGTERM")
    # c shields itself for 12 s; a and b do not wait for it longer than the grace.
    times = {event: when - begin for event, when in journal}
    assert times["c stopping"] == 0
    assert times["a stopping"] == times["b stopping"] == 5
    assert times["c stopped"] == 12
    line = messages(caplog)["the grace of an orderly stop is over"]
    assert line["services"] == ["c", "b", "a"]
    assert counters["service.stop_overdue"] == 3


@pytest.mark.trio
async def test_a_quick_stop_names_nobody(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    tested = supervisor(Stopper("a", [], 1))
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        tested.stop("SIGTERM")
    assert not [record for record in caplog.records if record.levelname != "INFO"]


@pytest.mark.trio
async def test_second_request_cuts_it_short(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    journal: list[tuple[str, float]] = []
    tested = supervisor(Stopper("a", journal), Stopper("b", journal), Stopper("c", journal, 3), grace_s=60)

    async def second_signal() -> None:
        await trio.sleep(1)
        tested.cut_short("second SIGINT")

    begin = trio.current_time()
    with pytest.RaisesGroup(pytest.RaisesExc(StopCutShort, match="second SIGINT")):
        async with trio.open_nursery() as nursery:
            await nursery.start(tested.run)
            nursery.start_soon(second_signal)
            tested.stop("SIGINT")
    times = {event: when - begin for event, when in journal}
    assert times["a stopping"] == times["b stopping"] == 1
    assert messages(caplog)["stop cut short"]["services"] == ["c", "b", "a"]


@pytest.mark.trio
async def test_cut_short_without_a_stop_before(autojump_clock: MockClock) -> None:
    journal: list[tuple[str, float]] = []
    tested = supervisor(*(Stopper(name, journal, 1) for name in "ab"))
    begin = trio.current_time()
    with pytest.RaisesGroup(StopCutShort):
        async with trio.open_nursery() as nursery:
            await nursery.start(tested.run)
            tested.cut_short("now")
    assert trio.current_time() - begin == 1


@pytest.mark.trio
async def test_stop_while_starting(autojump_clock: MockClock) -> None:
    journal: list[tuple[str, float]] = []

    async def never_ready(ready: Ready) -> None:
        await trio.sleep_forever()

    tested = supervisor(Stopper("a", journal), Service("b", never_ready), Stopper("c", journal))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tested.run)
        await trio.sleep(3)
        tested.stop("SIGTERM")
    assert [event for event, _ in journal] == ["a stopping", "a stopped"]
    assert [row.state for row in tested.status()] == ["stopped", "stopped", "waiting"]


@pytest.mark.trio
async def test_stop_while_starting_under_nursery_start(autojump_clock: MockClock) -> None:
    async def never_ready(ready: Ready) -> None:
        await trio.sleep_forever()

    tested = supervisor(Service("b", never_ready))
    async with trio.open_nursery() as nursery:

        async def stop_soon() -> None:
            await trio.sleep(3)
            tested.stop("SIGTERM")

        nursery.start_soon(stop_soon)
        with trio.fail_after(10):
            await nursery.start(tested.run)
    assert tested.stop_reason == "SIGTERM"


@pytest.mark.trio
async def test_stop_during_backoff_does_not_wait_for_the_restart(autojump_clock: MockClock) -> None:
    starts = 0

    async def crashes(ready: Ready) -> None:
        nonlocal starts
        starts += 1
        ready.started()
        await trio.sleep(1)
        raise OSError("x")

    tested = supervisor(Service("b", crashes))
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        await trio.sleep(1.1)
        tested.stop("SIGTERM")
    assert trio.current_time() - begin == pytest.approx(1.1)
    assert starts == 1


@pytest.mark.trio
async def test_a_service_that_fails_while_stopping_is_told_and_not_restarted(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    journal: list[tuple[str, float]] = []
    starts = 0

    async def fails(ready: Ready) -> None:
        nonlocal starts
        starts += 1
        ready.started()
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("could not say goodbye")

    tested = supervisor(Stopper("a", journal), Service("b", fails))
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        tested.stop("SIGTERM")
    assert starts == 1
    assert "service failed while stopping" in messages(caplog)
    assert [event for event, _ in journal] == ["a stopping", "a stopped"], "the others still stop"


@pytest.mark.trio
async def test_cancellation_from_outside_stops_in_order_and_is_not_swallowed(
    autojump_clock: MockClock,
) -> None:
    journal: list[tuple[str, float]] = []
    tested = supervisor(*(Stopper(name, journal, 1) for name in "ab"))
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(tested.run)
            scope.cancel()
            await trio.sleep(100)
    assert scope.cancelled_caught
    assert [event for event, _ in journal] == ["b stopping", "b stopped", "a stopping", "a stopped"]
    assert tested.stop_reason == "cancelled from outside"


@pytest.mark.trio
async def test_cancellation_while_starting_is_not_swallowed(autojump_clock: MockClock) -> None:
    journal: list[tuple[str, float]] = []

    async def never_ready(ready: Ready) -> None:
        await trio.sleep_forever()

    tested = supervisor(Stopper("a", journal), Service("b", never_ready))
    with trio.move_on_after(3) as scope:
        await tested.run()
        pytest.fail("run returned although it was cancelled")
    assert scope.cancelled_caught
    assert [event for event, _ in journal] == ["a stopping", "a stopped"]


@pytest.mark.trio
async def test_keyboard_interrupt_inside_a_service_still_stops_the_others_in_order(
    autojump_clock: MockClock,
) -> None:
    journal: list[tuple[str, float]] = []

    async def interrupted(ready: Ready) -> None:
        ready.started()
        await trio.sleep(1)
        raise KeyboardInterrupt

    tested = supervisor(
        Stopper("a", journal, 1), Service("b", interrupted), Stopper("c", journal, 1), grace_s=10
    )
    with pytest.raises(BaseExceptionGroup) as caught:
        await tested.run()
    assert caught.value.split(KeyboardInterrupt)[1] is None
    assert [event for event, _ in journal] == ["c stopping", "c stopped", "a stopping", "a stopped"]


@pytest.mark.trio
async def test_the_farewell_comes_first_and_may_ask_for_more_time(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    journal: list[tuple[str, float]] = []

    async def farewell(reason: str) -> None:
        journal.append((f"farewell {reason}", trio.current_time()))
        assert tested.extend_grace(20) == 20
        await trio.sleep(8)
        assert tested.extend_grace(1) == 12, "never less"

    tested = Supervisor(Counters(), random.Random(1), grace_s=5, farewell=farewell)
    tested.add(Stopper("a", journal, stop_s=4), essential=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        begin = trio.current_time()
        tested.stop("SIGTERM")
    times = {event: when - begin for event, when in journal}
    assert times == {"farewell SIGTERM": 0, "a stopping": 8, "a stopped": 12}
    tested.cut_short()
    assert tested.extend_grace(30) is None
    assert not [record for record in caplog.records if record.levelname != "INFO"]


@pytest.mark.trio
async def test_a_farewell_that_hangs_is_cut_off_at_the_deadline(autojump_clock: MockClock) -> None:
    journal: list[tuple[str, float]] = []

    async def farewell(reason: str) -> None:
        await trio.sleep_forever()

    tested = Supervisor(Counters(), random.Random(1), grace_s=5, farewell=farewell)
    tested.add(Stopper("a", journal), essential=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        begin = trio.current_time()
        tested.stop("SIGTERM")
    assert {event: when - begin for event, when in journal} == {"a stopping": 5, "a stopped": 5}


@pytest.mark.trio
async def test_a_farewell_that_fails_does_not_keep_services_running(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()

    async def farewell(reason: str) -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("no words")

    journal: list[tuple[str, float]] = []
    tested = Supervisor(counters, random.Random(1), farewell=farewell)
    tested.add(Stopper("a", journal), essential=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        tested.stop("SIGTERM")
    assert [event for event, _ in journal] == ["a stopping", "a stopped"]
    assert counters["service.farewell_failed"] == 1
    assert "no words" in caplog.text
