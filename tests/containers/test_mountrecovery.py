"""Volumes are mounted before anything starts on them, and who started too early starts again (§19)."""

from __future__ import annotations

import pytest
import trio
from appworld import base
from hostworld import HostWorld
from trio.testing import MockClock

from trionode.containers.disk import VolumeRequest
from trionode.containers.health.tampering import TAMPERING

CORE = "fluxcore_base"


@pytest.fixture
def world() -> HostWorld:
    world = HostWorld()
    world.disk._clock = world.engine.clock
    return world


async def installed(world: HostWorld) -> None:
    async with world.process() as node:
        outcome = await node.life.actions.install(base(), reason="the test")
        assert outcome.ok


@pytest.mark.trio
async def test_at_the_start_volumes_are_mounted_and_early_containers_restarted(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    await installed(world)
    await trio.sleep(100)
    world.disk.lose_mount(CORE)
    async with world.process(settled=False) as node:
        assert world.disk.held[CORE].is_mounted, "before the service is ready"
        await trio.sleep(60)
        assert node.counters["containers.mounts.restarted"] == 0, "the boot decision comes first"
        assert [step.identifier for step in await node.mounts.plan()] == ["core_base"]
        with node.life.operations.holding("base"):
            assert await node.mounts.plan() == (), "it would be passed over"
        node.settled.open()
        await trio.sleep(1)
        assert node.counters["containers.mounts.restarted"] == 1
        await trio.sleep(10)
        world.disk.lose_mount(CORE)
        await node.mounts.ensure(CORE)
        assert await node.mounts.stale()
        assert await node.mounts.plan() == (), "that is done once, after the start"
        assert world.state(CORE) == "running"
        await trio.sleep(5000)
        assert node.counters["containers.mounts.restarted"] == 1
        assert not node.health.crashes


@pytest.mark.trio
async def test_nothing_is_restarted_without_need(autojump_clock: MockClock, world: HostWorld) -> None:
    await installed(world)
    await trio.sleep(100)
    async with world.process() as node:
        await trio.sleep(100)
        assert node.counters["containers.mounts.restarted"] == 0
        assert node.counters["containers.mounts.mounted"] == 0


@pytest.mark.trio
async def test_a_mount_that_fails_is_noted_and_the_node_goes_on(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    await installed(world)
    world.disk.lose_mount(CORE)
    world.disk.failing["mount"] = None
    async with world.process() as node:
        assert [data["kind"] for data in node.told(TAMPERING)] == ["mount_vanished"]
        assert node.life.installed.names() == {"base"}


@pytest.mark.trio
async def test_a_disk_that_hangs_holds_up_the_start_for_a_while_only(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    await installed(world)
    world.disk.lose_mount(CORE)
    world.disk.hanging.add("mount")
    began_s = trio.current_time()
    async with world.process() as node:
        assert trio.current_time() - began_s <= 301
        assert node.counters["containers.mounts.slow"] == 1


@pytest.mark.trio
async def test_lines_that_somebody_wiped_are_written_again_and_noted(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    await installed(world)
    world.disk.wipe_lines()
    async with world.process() as node:
        assert [(data["name"], data["kind"]) for data in node.told(TAMPERING)] == [
            ("__system__", "crontab_wiped")
        ]
        assert world.disk.held[CORE].survives_reboot
        assert node.counters["containers.mounts.restarted"] == 0


@pytest.mark.trio
async def test_volumes_of_apps_that_left_are_not_mounted_at_boot(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    await installed(world)
    await world.disk.create_volume(VolumeRequest("fluxweb_gone", 1))
    async with world.process():
        assert not world.disk.held["fluxweb_gone"].survives_reboot
        assert world.disk.held[CORE].survives_reboot
