"""A turn that goes wrong is told without its text, counted, and over; cancellation is no error."""

from __future__ import annotations

import pytest
import trio

from trionode.runtime.appturns import AppTurns
from trionode.runtime.counters import Counters


def test_an_error_ends_the_turn_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    with AppTurns("health", counters).of("shop") as turn:
        raise ExceptionGroup("several", [UnicodeEncodeError("utf-8", "hunter2\ud800", 7, 8, "surrogates")])
    assert turn.failed
    assert turn.problem == "an unforeseen error (UnicodeEncodeError)"
    assert counters["unforeseen.health"] == 1
    assert "shop" in caplog.text
    assert "hunter2" not in caplog.text


def test_where_it_came_from_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with AppTurns("health", Counters()).of("shop"):
        raise ValueError("hunter2")
    assert "test_appturns.py" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_turn_that_goes_well_leaves_no_trace() -> None:
    counters = Counters()
    with AppTurns("health", counters).of("shop") as turn:
        pass
    assert not turn.failed
    assert counters["unforeseen.health"] == 0


@pytest.mark.trio
async def test_cancellation_passes() -> None:
    turns = AppTurns("health", Counters())
    after = False
    with trio.CancelScope() as scope:
        scope.cancel()
        with turns.of("shop") as turn:
            await trio.sleep(1)
        after = True
    assert scope.cancelled_caught
    assert not after
    assert not turn.failed


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_who_wants_to_end_the_process_may(error: type[BaseException]) -> None:
    with pytest.raises(error), AppTurns("health", Counters()).of("shop"):
        raise error
