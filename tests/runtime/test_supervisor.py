"""Supervisor: start order, readiness, crashes and restarts. Stopping: test_supervisor_stop.py."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from trionode.config.tree import SupervisorSettings
from trionode.errors import ChainError, StartupError, StoreError
from trionode.runtime.counters import Counters
from trionode.runtime.supervisor import ServiceCrashLoop, ServiceStatus, Supervisor

Ready = trio.TaskStatus[None]
Life = Callable[[Ready], Awaitable[None]]


class Probe:
    """A service whose life is a function; `journal` is shared by all probes of a test."""

    def __init__(self, name: str, journal: list[str], life: Life) -> None:
        self.name = name
        self.journal = journal
        self.life = life
        self.starts: list[float] = []

    async def run(self, *, task_status: Ready = trio.TASK_STATUS_IGNORED) -> None:
        self.starts.append(trio.current_time())
        self.journal.append(f"{self.name} starts")
        await self.life(task_status)


async def steady(ready: Ready) -> None:
    ready.started()
    await trio.sleep_forever()


def slow_start(seconds: float) -> Life:
    async def life(ready: Ready) -> None:
        await trio.sleep(seconds)
        ready.started()
        await trio.sleep_forever()

    return life


def crashing(after_s: float, error: Callable[[], Exception] = lambda: OSError("disk full")) -> Life:
    async def life(ready: Ready) -> None:
        ready.started()
        await trio.sleep(after_s)
        raise error()

    return life


def supervisor(settings: SupervisorSettings | None = None) -> Supervisor:
    return Supervisor(Counters(), random.Random(1), settings=settings)


def status_of(tested: Supervisor, name: str) -> ServiceStatus:
    return next(row for row in tested.status() if row.name == name)


@pytest.mark.trio
async def test_starts_in_order_each_after_the_one_before_is_ready(autojump_clock: MockClock) -> None:
    journal: list[str] = []
    tested = supervisor()
    first, second, third = (Probe(n, journal, slow_start(s)) for n, s in (("a", 2), ("b", 3), ("c", 0)))
    for probe in (first, second, third):
        tested.add(probe, essential=True)
    async with trio.open_nursery() as nursery:
        begin = trio.current_time()
        await nursery.start(tested.run)
        assert journal == ["a starts", "b starts", "c starts"]
        assert [probe.starts[0] - begin for probe in (first, second, third)] == [0, 2, 5]
        assert {row.state for row in tested.status()} == {"ready"}
        tested.stop("test over")


@pytest.mark.trio
async def test_not_ready_before_the_last_service_is(autojump_clock: MockClock) -> None:
    tested = supervisor()
    tested.add(Probe("a", [], steady), essential=True)
    tested.add(Probe("b", [], slow_start(10)), essential=True)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(9) as scope:
            nursery.start_soon(tested.run)
            await trio.sleep(5)
            assert [row.state for row in tested.status()] == ["ready", "starting"]
            assert status_of(tested, "a").ready_for_s == 5
            assert status_of(tested, "b").ready_for_s is None
        assert not scope.cancelled_caught
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_crash_is_logged_whole_counted_shown_and_restarted(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    tested = Supervisor(counters, random.Random(1))
    other = Probe("other", [], steady)
    flaky = Probe("flaky", [], crashing(10))
    tested.add(other, essential=True)
    tested.add(flaky, essential=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        await trio.sleep(10.5)
        row = status_of(tested, "flaky")
        assert (row.state, row.crashes, row.last_error) == ("backoff", 1, "OSError: disk full")
        assert row.restart_in_s is not None
        assert 0 < row.restart_in_s <= 0.5
        assert row.last_crash_ago_s == pytest.approx(0.5)
        await trio.sleep(1)
        row = status_of(tested, "flaky")
        assert (row.state, row.crashes, row.restart_in_s) == ("ready", 1, None)
        assert len(other.starts) == 1, "a crash must not touch other services"
        tested.stop("test over")
    assert counters.snapshot("service.") == {"service.crashed.flaky": 1, "service.restarted.flaky": 1}
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info is None, "structlog carries the exception in the event"
    assert isinstance(errors[0].msg, dict)
    assert isinstance(errors[0].msg["exc_info"], OSError)
    assert errors[0].msg["exc_info"].__traceback__ is not None


@pytest.mark.trio
async def test_delays_double_with_jitter_up_to_the_cap(autojump_clock: MockClock) -> None:
    settings = SupervisorSettings(restart_delay_s=1, restart_delay_max_s=8)
    tested = supervisor(settings)
    flaky = Probe("flaky", [], crashing(0))
    tested.add(flaky, essential=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        await trio.sleep(60)
        tested.stop("test over")
    gaps = [later - earlier for earlier, later in zip(flaky.starts, flaky.starts[1:], strict=False)]
    for gap, nominal in zip(gaps, [1, 2, 4, 8, 8, 8], strict=False):
        assert 0.75 * nominal <= gap <= nominal
    assert len(set(gaps)) == len(gaps), "without jitter nodes would restart in step"


@pytest.mark.trio
async def test_a_stable_run_forgives_earlier_crashes(autojump_clock: MockClock) -> None:
    settings = SupervisorSettings(stable_s=60, crash_limit=3, crash_window_s=10_000)
    tested = supervisor(settings)
    lives = iter([0, 0, 61, 0, 10**9])

    async def life(ready: Ready) -> None:
        await crashing(next(lives))(ready)

    flaky = Probe("flaky", [], life)
    tested.add(flaky, essential=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        await trio.sleep(300)
        row = status_of(tested, "flaky")
        # Four crashes in one window, but never three without a stable run between them.
        assert (row.state, row.crashes) == ("ready", 4)
        tested.stop("test over")
    gaps = [later - earlier for earlier, later in zip(flaky.starts, flaky.starts[1:], strict=False)]
    assert gaps[2] - 61 <= 1, "the delay starts again at its base"


@pytest.mark.trio
async def test_crashes_outside_the_window_are_no_loop(autojump_clock: MockClock) -> None:
    settings = SupervisorSettings(crash_limit=2, crash_window_s=30, stable_s=1000)
    tested = supervisor(settings)
    flaky = Probe("flaky", [], crashing(40))
    tested.add(flaky, essential=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        await trio.sleep(500)
        assert status_of(tested, "flaky").crashes > 5
        tested.stop("test over")


@pytest.mark.trio
async def test_returning_counts_as_a_crash(autojump_clock: MockClock) -> None:
    async def ends(ready: Ready) -> None:
        ready.started()
        await trio.sleep(1)

    tested = supervisor()
    probe = Probe("ends", [], ends)
    tested.add(probe, essential=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        await trio.sleep(1.5)
        row = status_of(tested, "ends")
        assert row.crashes == 1
        assert row.last_error == "ServiceEnded: the ends service ended by itself"
        await trio.sleep(1)
        assert len(probe.starts) == 2
        tested.stop("test over")


@pytest.mark.trio
async def test_crash_loop_of_an_essential_service_ends_the_node(autojump_clock: MockClock) -> None:
    journal: list[str] = []
    tested = supervisor(SupervisorSettings(crash_limit=4, crash_window_s=300))
    tested.add(Probe("steady", journal, steady), essential=True)
    tested.add(Probe("store", journal, crashing(0.1)), essential=True, remedy="free some disk space")
    with pytest.raises(ServiceCrashLoop) as caught:
        await tested.run()
    line = caught.value.one_line()
    assert "store service crashed 4 times within 300 s" in line
    assert "OSError: disk full" in line
    assert line.endswith("free some disk space")
    assert caught.value.code == "crash_loop"
    assert journal.count("store starts") == 4
    assert [row.state for row in tested.status()] == ["stopped", "stopped"]


@pytest.mark.trio
async def test_crash_loop_ends_with_the_remedy_of_the_last_error(autojump_clock: MockClock) -> None:
    full = crashing(0, lambda: StoreError("the disk is full", remedy="free some of it"))
    tested = supervisor(SupervisorSettings(crash_limit=2))
    tested.add(Probe("store", [], full), essential=True)
    with pytest.raises(ServiceCrashLoop) as caught:
        await tested.run()
    assert caught.value.one_line().endswith("the disk is full - free some of it")


@pytest.mark.trio
async def test_crash_loop_of_another_service_goes_on_for_ever(autojump_clock: MockClock) -> None:
    tested = supervisor(SupervisorSettings(crash_limit=2, restart_delay_max_s=10))
    flaky = Probe("flaky", [], crashing(0))
    tested.add(flaky, essential=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        await trio.sleep(1000)
        assert 100 <= status_of(tested, "flaky").crashes <= 140
        tested.stop("test over")


@pytest.mark.trio
async def test_crash_loop_while_another_service_is_still_starting(autojump_clock: MockClock) -> None:
    tested = supervisor(SupervisorSettings(crash_limit=2))
    tested.add(Probe("loops", [], crashing(0)), essential=True)
    tested.add(Probe("slow", [], slow_start(10**6)), essential=True)
    with trio.fail_after(100):
        with pytest.raises(ServiceCrashLoop):
            await tested.run()


@pytest.mark.trio
async def test_crash_before_ready_surfaces_to_the_caller(autojump_clock: MockClock) -> None:
    async def broken(ready: Ready) -> None:
        await trio.sleep(1)
        raise ValueError("bad thing")

    journal: list[str] = []
    tested = supervisor()
    tested.add(Probe("a", journal, steady), essential=True)
    tested.add(Probe("b", journal, broken), essential=False)
    tested.add(Probe("c", journal, steady), essential=True)
    with pytest.raises(StartupError, match="the b service could not start: ValueError: bad thing") as caught:
        await tested.run()
    assert isinstance(caught.value.__cause__, ValueError)
    assert journal == ["a starts", "b starts"], "nothing starts after a failed one, nothing is retried"
    assert [row.state for row in tested.status()] == ["stopped", "stopped", "waiting"]


@pytest.mark.trio
async def test_errors_made_for_people_surface_as_they_are(autojump_clock: MockClock) -> None:
    error = ChainError("no daemon", remedy="start it")

    async def broken(ready: Ready) -> None:
        async with trio.open_nursery():
            raise error

    tested = supervisor()
    tested.add(Probe("chain", [], broken), essential=True)
    with pytest.raises(ChainError) as caught:
        await tested.run()
    assert caught.value is error


@pytest.mark.trio
async def test_returning_before_ready_surfaces_too(autojump_clock: MockClock) -> None:
    async def ends(ready: Ready) -> None:
        await trio.sleep(1)

    tested = supervisor()
    tested.add(Probe("ends", [], ends), essential=True)
    with pytest.raises(StartupError, match="the ends service could not start: ServiceEnded"):
        await tested.run()


@pytest.mark.trio
async def test_failed_start_reaches_who_started_the_supervisor(autojump_clock: MockClock) -> None:
    async def broken(ready: Ready) -> None:
        raise StartupError("port in use", remedy="free it")

    tested = supervisor()
    tested.add(Probe("api", [], broken), essential=True)
    with pytest.RaisesGroup(pytest.RaisesExc(StartupError, match="port in use"), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(tested.run)


@pytest.mark.trio
async def test_failure_before_ready_after_a_restart_is_a_crash_not_a_start_error(
    autojump_clock: MockClock,
) -> None:
    starts = 0

    async def life(ready: Ready) -> None:
        nonlocal starts
        starts += 1
        if starts == 2:
            raise OSError("not yet")
        await crashing(1 if starts == 1 else 10**6)(ready)

    tested = supervisor()
    tested.add(Probe("p", [], life), essential=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        await trio.sleep(10)
        assert (starts, status_of(tested, "p").crashes, status_of(tested, "p").state) == (3, 2, "ready")
        tested.stop("test over")


@pytest.mark.trio
async def test_group_of_errors_is_described_by_its_leaves(autojump_clock: MockClock) -> None:
    async def two(ready: Ready) -> None:
        ready.started()
        await trio.sleep(1)
        raise ExceptionGroup("both", [OSError("one"), ExceptionGroup("inner", [ValueError("two")])])

    tested = supervisor()
    tested.add(Probe("p", [], two), essential=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        await trio.sleep(1.5)
        assert status_of(tested, "p").last_error == "OSError: one; ValueError: two"
        tested.stop("test over")


def test_names_are_unique() -> None:
    tested = supervisor()
    tested.add(Probe("a", [], steady), essential=True)
    with pytest.raises(ValueError, match="two services are named 'a'"):
        tested.add(Probe("a", [], steady), essential=True)


@pytest.mark.trio
async def test_runs_once_and_takes_no_service_later(autojump_clock: MockClock) -> None:
    tested = supervisor()
    tested.stop("never mind")
    await tested.run()
    with pytest.raises(RuntimeError, match="runs once"):
        await tested.run()
    with pytest.raises(RuntimeError, match="after the supervisor had started"):
        tested.add(Probe("a", [], steady), essential=True)
