"""A machine in trouble costs no app: what vanished is made again afterwards (lifecycle.md §9)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from appworld import base
from hostworld import HostWorld
from trio.testing import MockClock

from trionode.containers.health.tampering import TAMPERING

CORE = "fluxcore_base"
Fault = Callable[[HostWorld], None]


def node_unknown(world: HostWorld) -> None:
    world.node.problem = "the benchmark does not answer"


def firewall_fails(world: HostWorld) -> None:
    world.firewall.failing["allow"] = None


@pytest.mark.trio
@pytest.mark.parametrize("breaks", [node_unknown, firewall_fails])
async def test_what_vanished_waits_for_the_machine(autojump_clock: MockClock, breaks: Fault) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(base(), reason="the test")).ok
        await trio.sleep(5)
        breaks(world)
        world.engine.vanish(CORE)
        await trio.sleep(300)
        assert world.state(CORE) is None
        assert node.life.installed.get("base") is not None
        assert node.counters["containers.health.put_off"] >= 2, "tried again"
        assert not node.counters["containers.health.removed"]
        (step,) = await node.health.plan()
        assert (step.kind, step.app) == ("wait", "base")
        assert step.due_s is not None
        assert 0 < step.due_s - trio.current_time() <= 60
        world.node.problem = ""
        world.firewall.failing.clear()
        await trio.sleep(70)
        assert world.state(CORE) == "running"
        assert [data["kind"] for data in node.told(TAMPERING)] == ["container_vanished"]
