"""Going up step by step and down again: order, limits, cancellation (trionode/containers/steps.py)."""

from __future__ import annotations

import pytest
import trio

from trionode.containers.install.steps import Ladder, to_the_end
from trionode.errors import HostError

pytestmark = pytest.mark.trio


class Rung:
    def __init__(self, name: str, said: list[str], *, fails: str = "", takes_s: float = 0.0) -> None:
        self.name = name
        self._said = said
        self._fails = fails
        self._takes_s = takes_s

    async def do(self) -> None:
        await trio.sleep(self._takes_s)
        if self._fails == "do":
            raise HostError(f"{self.name} is broken")
        self._said.append(f"+{self.name}")

    async def undo(self) -> None:
        await trio.sleep(self._takes_s)
        if self._fails == "undo":
            raise HostError(f"{self.name} is stuck")
        self._said.append(f"-{self.name}")


async def test_the_step_that_failed_is_undone_too_last_first(autojump_clock: trio.abc.Clock) -> None:
    said: list[str] = []
    ladder = Ladder(undo_within_s=60)
    for name in "ab":
        await ladder.up(Rung(name, said), 10)
    with pytest.raises(HostError, match="c is broken"):
        await ladder.up(Rung("c", said, fails="do"), 10)
    assert ladder.at == "c"
    assert await ladder.down() == ()
    assert said == ["+a", "+b", "-c", "-b", "-a"]
    assert await ladder.down() == ()


async def test_what_cannot_be_undone_is_told_and_the_rest_is_undone(autojump_clock: trio.abc.Clock) -> None:
    said: list[str] = []
    ladder = Ladder(undo_within_s=60)
    for name in "abc":
        await ladder.up(Rung(name, said, fails="undo" if name == "b" else ""), 10)
    assert await ladder.down() == ("b: b is stuck",)
    assert said[3:] == ["-c", "-a"]


async def test_a_step_that_hangs_ends_with_its_limit(autojump_clock: trio.abc.Clock) -> None:
    ladder = Ladder(undo_within_s=60)
    with pytest.raises(HostError, match="slow: not done within 10 s"):
        await ladder.up(Rung("slow", [], takes_s=11), 10)


async def test_going_down_is_not_cancelled_but_has_a_limit(autojump_clock: trio.abc.Clock) -> None:
    said: list[str] = []
    ladder = Ladder(undo_within_s=25)
    for name in "abc":
        await ladder.up(Rung(name, said, takes_s=10), 20)
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await ladder.down() == ("not undone within 25 s: a",)
    assert said[3:] == ["-c", "-b"]


async def test_a_call_to_the_engine_is_waited_for_when_cancelled(autojump_clock: trio.abc.Clock) -> None:
    done = []

    async def call(takes_s: float) -> None:
        await trio.sleep(takes_s)
        done.append(trio.current_time())
        if takes_s == 3:
            raise HostError("it failed")

    started_s = trio.current_time()
    with trio.move_on_after(1) as scope:
        await to_the_end(call(5), 10)
    assert scope.cancelled_caught
    assert done == [started_s + 5]
    with trio.move_on_after(1) as scope:
        await to_the_end(call(1000), 10)
    assert scope.cancelled_caught
    assert trio.current_time() == started_s + 16
    with pytest.raises(HostError, match="it failed"):
        await to_the_end(call(3), 10)
    await to_the_end(call(0.5), 10)
    assert len(done) == 3
