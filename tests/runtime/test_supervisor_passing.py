"""Supervisor: a service that ends because something it needs is away has not crashed."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from trionode.config.tree import SupervisorSettings
from trionode.errors import StoreAway, StoreError
from trionode.runtime.counters import Counters
from trionode.runtime.supervisor import ServiceCrashLoop, Supervisor


def away() -> Exception:
    return StoreAway("cannot write: no space", remedy="free some space")


class Needing:
    """A service that ends again and again, with what `error` makes of the number of the try."""

    name = "log"

    def __init__(self, error: Callable[[int], Exception | None], after_s: float = 0.05) -> None:
        self._error = error
        self._after_s = after_s
        self.starts = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.starts += 1
        task_status.started()
        await trio.sleep(self._after_s)
        error = self._error(self.starts)
        if error is not None:
            raise error
        await trio.sleep_forever()


@pytest.mark.trio
@pytest.mark.parametrize("after_s", [0.05, 75.0])
async def test_however_long_it_takes_the_node_lives_and_goes_on(
    after_s: float, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tries = int(3600 / (after_s + 5))
    counters = Counters()
    tested = Supervisor(counters, random.Random(1), settings=SupervisorSettings(crash_limit=2))
    service = Needing(lambda number: away() if number <= tries else None, after_s)
    tested.add(service, essential=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        await trio.sleep(after_s + 1)
        (row,) = tested.status()
        assert (row.state, row.crashes) == ("backoff", 0)
        assert row.last_error == "StoreAway: cannot write: no space"
        await trio.sleep(3700)
        (row,) = tested.status()
        assert (row.state, row.crashes) == ("ready", 0)
        assert service.starts == tries + 1
        tested.stop("test over")
    assert counters["service.put_off.log"] == tries
    assert counters["service.crashed.log"] == 0
    assert not any(record.exc_info for record in caplog.records), "a traceback each time fills the disk"


@pytest.mark.trio
async def test_a_crash_between_counts_and_only_that(autojump_clock: MockClock) -> None:
    def error(number: int) -> Exception:
        return ValueError("a bug") if number % 10 == 0 else away()

    tested = Supervisor(Counters(), random.Random(1), settings=SupervisorSettings(crash_limit=3))
    service = Needing(error)
    tested.add(service, essential=True)
    with pytest.raises(ServiceCrashLoop, match="crashed 3 times") as caught:
        await tested.run()
    assert "ValueError" in caught.value.message
    assert service.starts == 30


@pytest.mark.trio
@pytest.mark.parametrize(
    "error",
    [
        ExceptionGroup("both", [away(), ValueError("a bug")]),
        StoreError("the file is damaged", remedy="move it away"),
    ],
)
async def test_what_is_not_all_passing_counts(error: Exception, autojump_clock: MockClock) -> None:
    tested = Supervisor(Counters(), random.Random(1), settings=SupervisorSettings(crash_limit=3))
    tested.add(Needing(lambda _: error), essential=True)
    with pytest.raises(ServiceCrashLoop):
        await tested.run()


@pytest.mark.trio
async def test_a_group_of_nothing_else_passes(autojump_clock: MockClock) -> None:
    def error(number: int) -> Exception | None:
        return ExceptionGroup("both", [away(), away()]) if number < 9 else None

    tested = Supervisor(Counters(), random.Random(1), settings=SupervisorSettings(crash_limit=3))
    service = Needing(error)
    tested.add(service, essential=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(tested.run)
        await trio.sleep(120)
        assert service.starts == 9
        tested.stop("test over")
