"""The rules that keep apps out of private networks come back by themselves (lifecycle.md §1.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from appworld import app, base, part
from hostworld import HostWorld, Node
from trio.testing import MockClock

from trionode.config.tree import MonitorSettings
from trionode.containers.health.privateguard import PrivateGuard, guard_bridges
from trionode.sim.appspecs import AppPlan
from trionode.sim.scenario import Scenario, run_scenario
from trionode.sim.scenarios.hosting import Stage, box_of, world_plan
from trionode.sim.world import World

INTERVAL_S = MonitorSettings().port_restore_interval_s


@asynccontextmanager
async def guarded(world: HostWorld, node: Node) -> AsyncIterator[None]:
    guard = PrivateGuard(
        MonitorSettings(),
        engine=world.engine,
        firewall=world.firewall,
        engine_ready=node.reachable,
        bus=node.bus,
        counters=node.counters,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(guard.run)
        yield
        nursery.cancel_scope.cancel()


async def bridge_there(world: HostWorld) -> tuple[str, ...]:
    """An app is here, whose rules a reboot took away; its bridge."""
    async with world.process() as node:
        assert (await node.life.actions.install(base(), reason="the test")).ok
    bridges, world.firewall.guarded = world.firewall.guarded, ()
    assert len(bridges) == 1
    return bridges


@pytest.mark.trio
async def test_they_are_there_before_anything_starts(autojump_clock: MockClock) -> None:
    world = HostWorld()
    bridges = await bridge_there(world)
    async with world.process(settled=False) as node, guarded(world, node):
        assert world.firewall.guarded == bridges
        world.firewall.guarded = ()
        await trio.sleep(INTERVAL_S + 1)
        assert world.firewall.guarded == bridges


@pytest.mark.trio
async def test_an_engine_that_comes_later_is_waited_for(autojump_clock: MockClock) -> None:
    world = HostWorld()
    bridges = await bridge_there(world)
    world.engine.unreachable = True
    async with world.process(settled=False) as node, guarded(world, node):
        await trio.sleep(30)
        assert world.firewall.guarded == ()
        world.engine.unreachable = False
        await trio.sleep(10)
        assert world.firewall.guarded == bridges


@pytest.mark.trio
async def test_what_fails_is_tried_again_soon(autojump_clock: MockClock) -> None:
    world = HostWorld()
    bridges = await bridge_there(world)
    world.firewall.failing["guard"] = 1
    async with world.process(settled=False) as node, guarded(world, node):
        assert node.counters["containers.privateguard.failed"] == 1
        await trio.sleep(70)
        assert world.firewall.guarded == bridges


@pytest.mark.trio
async def test_a_machine_without_apps_is_let_alone(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node, guarded(world, node):
        await trio.sleep(2 * INTERVAL_S)
    assert world.firewall.steps == []


@pytest.mark.trio
async def test_a_network_made_meanwhile_is_not_forgotten(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(base(), reason="the test")).ok
        apply = world.firewall.guard_private

        async def slowly(interfaces: list[str]) -> None:
            await trio.sleep(100)
            await apply(interfaces)

        monkeypatch.setattr(world.firewall, "guard_private", slowly)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guard_bridges, world.engine, world.firewall)
            await trio.sleep(1)
            monkeypatch.setattr(world.firewall, "guard_private", apply)
            assert (await node.life.actions.install(app("shop", part("web")), reason="the test")).ok
        assert len(world.firewall.guarded) == 2


SHOP = AppPlan(name="shop")


async def reboot(world: World) -> None:
    stage = Stage(world)
    await stage.ready()
    await stage.register(SHOP)
    node = (await stage.hosted(SHOP))[0]
    box = box_of(node)
    assert len(box.firewall.guarded) == 1
    await world.power_cut(node)
    box.firewall.guarded = ()
    await world.start(node)
    await world.sleep(30)
    assert len(box.firewall.guarded) == 1


@pytest.mark.timeout(900)
def test_a_whole_node_brings_them_back_after_a_reboot() -> None:
    run_scenario(Scenario(name="guard", summary="a reboot", story=reboot, plan=world_plan(4)), seed=3)
