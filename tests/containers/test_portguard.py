"""A firewall that was switched on or reset later lets apps be reached all the same (lifecycle.md §20)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from appworld import base
from hostworld import HostWorld, Node
from trio.testing import MockClock

from trionode.config.tree import MonitorSettings
from trionode.containers.health.portguard import RETRY_S, PortGuard
from trionode.containers.operations import Work

INTERVAL_S = MonitorSettings().port_restore_interval_s


@asynccontextmanager
async def guarded(world: HostWorld, node: Node) -> AsyncIterator[None]:
    guard = PortGuard(
        MonitorSettings(),
        firewall=world.firewall,
        records=node.life.records,
        operations=node.life.operations,
        counters=node.counters,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(guard.run)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_what_is_missing_is_opened_again(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node, guarded(world, node):
        assert (await node.life.actions.install(base(), reason="the test")).ok
        ports = dict(world.firewall.open)
        assert ports
        steps = len(world.firewall.steps)
        await trio.sleep(INTERVAL_S + 1)
        assert {step for step, _ in world.firewall.steps[steps:]} == {"missing"}, "nothing to do"
        world.firewall.open.clear()
        await trio.sleep(INTERVAL_S + 1)
        assert world.firewall.open == ports
        assert node.counters["containers.portguard.restored"] == len(ports)


@pytest.mark.trio
async def test_a_firewall_that_does_not_answer_is_asked_again(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(base(), reason="the test")).ok
        ports = dict(world.firewall.open)
        world.firewall.open.clear()
        world.firewall.failing["missing"] = None
        async with guarded(world, node):
            await trio.sleep(1)
            assert world.firewall.open == {}
            world.firewall.failing.clear()
            await trio.sleep(RETRY_S)
            assert world.firewall.open == ports


@pytest.mark.trio
async def test_apps_in_other_hands_are_left_alone(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(base(), reason="the test")).ok
        world.firewall.open.clear()
        with node.life.operations.doing(Work.SOFT_REDEPLOY, "base"):
            async with guarded(world, node):
                await trio.sleep(INTERVAL_S + 1)
                assert world.firewall.open == {}
        await node.life.records.enter("base", "removing")
        async with guarded(world, node):
            await trio.sleep(INTERVAL_S + 1)
            assert world.firewall.open == {}


@pytest.mark.trio
async def test_an_app_that_leaves_meanwhile_takes_its_ports_along(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(base(), reason="the test")).ok
        world.firewall.open.clear()
        allow = world.firewall.allow

        async def slow(port: int, *, app: str) -> None:
            await node.life.actions.remove(app, reason="the test", force=True)
            await allow(port, app=app)

        world.firewall.allow = slow  # type: ignore[method-assign]
        async with guarded(world, node):
            await trio.sleep(1)
            assert world.firewall.open == {}
