"""What a sudden death left half done is undone when the engine answers, not before (§12, §15)."""

from __future__ import annotations

import pytest
import trio
from appworld import AppWorld, base
from trio.testing import MockClock

from trionode.containers.health.localstate import AGAIN_S, LocalState
from trionode.containers.install.records import AppRecord, PartRecord
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate


@pytest.mark.trio
async def test_left_half_done_is_undone_when_the_engine_answers(autojump_clock: MockClock) -> None:
    world = AppWorld()
    life = await world.life()
    outcome = await life.actions.install(base(), reason="the test")
    assert outcome.ok
    record = AppRecord("half", "installing", (PartRecord("web_half", "library/web:1"),))
    await life.records.put(record)

    ready, counters = Gate(), Counters()
    state = LocalState(life.actions, ready, counters)
    async with trio.open_nursery() as nursery:
        await nursery.start(state.run)
        assert life.installed.names() == {"base"}
        await trio.sleep(1000)
        assert life.records.unfinished() == (record,), "not without the engine"
        world.engine.failing.add(("containers", "*"))
        ready.open()
        await trio.sleep(1)
        world.engine.failing.clear()
        await trio.sleep(AGAIN_S + 1)
        assert life.records.unfinished() == ()
        assert life.installed.names() == {"base"}
        nursery.cancel_scope.cancel()
