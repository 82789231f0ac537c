"""What is under way is known as long as it is, and not longer, however it ends (lifecycle.md §12, D-9)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from appworld import AppWorld, Life, base, settled
from trio.testing import MockClock

from trionode.containers.operations import Busy, Operations, Work
from trionode.plans.redeploy import Depth, UpdatePlan


def test_one_at_a_time_unless_beside() -> None:
    operations, told = Operations(), []
    operations.on_change(lambda: told.append(operations.names()))
    with operations.doing(Work.INSTALL, "shop"):
        with pytest.raises(Busy, match="installation of shop"), operations.doing(Work.REMOVE, "other"):
            pass
        with operations.doing(Work.REMOVE, "other", beside=True):
            assert operations.names() == {"shop", "other"}
        assert operations.current is not None
        assert operations.current.app == "shop"
    assert not operations.is_busy
    assert told == [{"shop"}, {"shop", "other"}, {"shop"}, frozenset()]


@pytest.mark.parametrize("error", [ValueError("a defect"), KeyboardInterrupt()])
def test_whatever_is_raised_ends_it(error: BaseException) -> None:
    operations = Operations()
    with pytest.raises(type(error)), operations.doing(Work.INSTALL, "shop"):
        raise error
    with pytest.raises(type(error)), operations.holding("shop"):
        raise error
    assert not operations.is_busy
    assert operations.held == frozenset()


Act = Callable[[Life], Awaitable[Any]]
UPDATE = UpdatePlan(Depth.SOFT, "the test")
ACTS: dict[str, Act] = {
    "install": lambda life: life.actions.install(base(), reason="the test"),
    "removal": lambda life: life.actions.remove("base", reason="the test"),
    "redeploy": lambda life: life.actions.redeploy("base", hard=False, reason="the test"),
    "component": lambda life: life.actions.redeploy_component("core_base", hard=True, reason="the test"),
    "recreation": lambda life: life.actions.recreate("base", "core_base", keeps_volume=True, start=True),
    "update": lambda life: life.actions.update({**base(), "height": 9}, UPDATE, reason="the test"),
}


@pytest.mark.trio
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("how", ["defect", "cancelled"])
async def test_the_next_operation_is_not_kept_waiting(autojump_clock: MockClock, act: str, how: str) -> None:
    world = AppWorld()
    life = await (world.life() if act == "install" else settled(world))

    async def breaks(*args: object, **more: object) -> object:
        if how == "defect":
            raise ValueError("a defect")
        return await trio.sleep_forever()

    for part in ("inspect", "info", "containers"):
        setattr(world.engine, part, breaks)
    with trio.move_on_after(5):
        try:
            await ACTS[act](life)
        except ValueError:
            assert how == "defect"
    assert not life.operations.is_busy
    with life.operations.doing(Work.INSTALL, "next"):
        pass
