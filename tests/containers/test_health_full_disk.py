"""A full disk costs no app: what vanished or ended is put right when there is room (lifecycle.md §9)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from appworld import base
from hostworld import HostWorld
from trio.testing import MockClock

from trionode.containers.docker.answers import error_of
from trionode.containers.engine import EngineError, EngineFull
from trionode.containers.machine.linuxdisk import _is_full

CORE = "fluxcore_base"
Fault = Callable[[HostWorld], None]


def engine_full(world: HostWorld) -> None:
    world.engine.disk_full = True


def start_finds_no_space(world: HostWorld) -> None:
    error = EngineFull("cannot start it: no space left on device", status=500)
    world.engine.fail_next("start", error, times=1000)


def both_full(world: HostWorld) -> None:
    """As on one disk for all: the engine's and the store's."""
    engine_full(world)
    world.store.failing |= {"put", "delete", "put_meta"}


def again(world: HostWorld) -> None:
    world.engine.disk_full = False
    world.engine.planned.clear()
    world.store.failing.clear()


@pytest.mark.trio
@pytest.mark.parametrize("breaks", [engine_full, start_finds_no_space, both_full])
async def test_what_vanished_waits_for_space(autojump_clock: MockClock, breaks: Fault) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(base(), reason="the test")).ok
        await trio.sleep(5)
        breaks(world)
        world.engine.vanish(CORE)
        await trio.sleep(300)
        assert node.life.installed.get("base") is not None
        assert node.counters["containers.health.put_off"] >= 2, "tried again"
        assert not node.counters["containers.health.removed"]
        again(world)
        await trio.sleep(70)
        assert world.state(CORE) == "running"


@pytest.mark.trio
async def test_what_cannot_be_started_waits_for_space(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(base(), reason="the test")).ok
        await trio.sleep(5)
        start_finds_no_space(world)
        world.engine.crash(CORE)
        await trio.sleep(1800)
        assert node.life.installed.get("base") is not None
        assert not node.counters["containers.health.removed"]
        again(world)
        await trio.sleep(120)
        assert world.state(CORE) == "running"


@pytest.mark.trio
async def test_with_only_the_store_full_it_is_made_again_at_once(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(base(), reason="the test")).ok
        await trio.sleep(5)
        world.store.failing |= {"put", "delete", "put_meta"}
        world.engine.vanish(CORE)
        await trio.sleep(70)
        assert world.state(CORE) == "running"
        assert node.life.installed.get("base") is not None


@pytest.mark.parametrize("status", [500, 400])
def test_an_engine_says_that_its_disk_is_full(status: int) -> None:
    said = b'{"message": "mkdir /var/lib/docker/overlay2/x: no space left on device"}'
    error = error_of(status, said, doing="create web_shop")
    assert isinstance(error, EngineFull)
    assert "free some space" in error.remedy
    other = error_of(status, b'{"message": "no such device"}', doing="create web_shop")
    assert type(other) is EngineError


def test_a_full_disk_is_told_by_its_number() -> None:
    assert _is_full(OSError(28, "x"))
    assert _is_full(OSError(122, "x"))
    assert not _is_full(OSError(5, "no space left on device"))
