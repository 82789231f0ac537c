"""Nobody but the node starts containers of apps."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from appworld import AppWorld, base

from trionode.containers.health.restartpolicy import RestartPolicies
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate

CORE = "fluxcore_base"


@pytest.mark.trio
async def test_a_policy_of_somebody_else_is_taken_away(autojump_clock: trio.testing.MockClock) -> None:
    world, counters, gate = AppWorld(), Counters(), Gate()
    outcome = await (await world.life()).actions.install(base(), reason="the test")
    assert outcome.ok
    world.engine._find(CORE).restarts = "unless-stopped"
    async with trio.open_nursery() as nursery:
        await nursery.start(RestartPolicies(world.engine, gate, counters).run)
        await trio.sleep(10)
        assert world.engine._find(CORE).restarts == "unless-stopped"
        world.engine.unreachable = True
        gate.open()
        await trio.sleep(30)
        world.engine.unreachable = False
        await trio.sleep(60)
        assert world.engine._find(CORE).restarts == "no"
        assert counters["containers.policies.changed"] == 1
        nursery.cancel_scope.cancel()
