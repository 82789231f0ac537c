"""Trouble of others costs an app neither its place nor its volume, and patience ends only with the app's own.

What vanished or crashed meanwhile is made again or started when the trouble is over (lifecycle.md §9, §16).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import trio
from appworld import app, base, part
from hostworld import HostWorld
from trio.testing import MockClock

from trionode.containers.engine import EngineError, EngineFull
from trionode.containers.health.tampering import TAMPERING
from trionode.containers.images.registry import ImageFault
from trionode.containers.install.troubles import StorageAway, StorageError
from trionode.errors import StoreAway
from trionode.plans.requirements import NodeFacts

pytestmark = pytest.mark.trio

DB = "fluxdb_keeps"
KEEPS = app(
    "keeps",
    part("col", image="library/worker:1", environmentParameters=["LOG=COLLECT"]),
    part("db", environmentParameters=["LOG=SEND", "F_S_ENV=https://storage.test/env"]),
)
Trouble = Callable[[HostWorld], None]


def storage_away(world: HostWorld) -> None:
    world.storage.fails = StorageAway("the storage at storage.test did not answer within 20 s")


def registry_away(world: HostWorld) -> None:
    world.refuse_image("library/db:1", ImageFault.UNREACHABLE)


def rate_limited(world: HostWorld) -> None:
    world.refuse_image("library/db:1", ImageFault.RATE_LIMITED)


def pull_fails(world: HostWorld) -> None:
    world.engine.failing.add(("pull", "library/db:1"))


def mount_fails(world: HostWorld) -> None:
    world.disk.failing["mount"] = None
    world.disk.lose_mount(DB)


def no_identity(world: HostWorld) -> None:
    world.node.facts_now = msgspec.structs.replace(world.node.facts_now, collateral="")


def engine_full(world: HostWorld) -> None:
    world.engine.disk_full = True


def store_away(world: HostWorld) -> None:
    vars(world.node)["facts"] = _away


async def _away() -> NodeFacts:
    raise StoreAway("database or disk is full")


def over(world: HostWorld) -> None:
    world.storage.fails = None
    world.refuse_image("library/db:1", None)
    world.engine.failing.clear()
    world.disk.failing.clear()
    world.engine.disk_full = False
    vars(world.node).pop("facts", None)
    world.node.facts_now = msgspec.structs.replace(world.node.facts_now, collateral=f"{'c' * 64}:0")


@pytest.mark.parametrize(
    ("begins", "without_image"),
    [
        (storage_away, False),
        (rate_limited, True),
        (registry_away, True),
        (pull_fails, True),
        (mount_fails, False),
        (no_identity, False),
        (engine_full, False),
        (store_away, False),
    ],
)
async def test_what_vanished_is_made_again_when_the_trouble_is_over(
    autojump_clock: MockClock, begins: Trouble, without_image: bool
) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(KEEPS, reason="the test")).ok
        await trio.sleep(5)
        world.disk.held[DB].used_bytes = 4711
        world.engine.vanish(DB)
        if without_image:
            await world.engine.remove_image("library/db:1")
        begins(world)
        await trio.sleep(12 * 3600)
        assert node.life.installed.get("keeps") is not None
        assert node.counters["containers.health.put_off"] >= 3, "tried again and again"
        over(world)
        await trio.sleep(601)
        assert world.state(DB) == "running"
        assert world.disk.held[DB].used_bytes == 4711
        assert [data["kind"] for data in node.told(TAMPERING)] == ["container_vanished"]
        assert world.news.removals == []


@pytest.mark.parametrize("begins", [mount_fails, engine_full])
async def test_what_crashed_is_started_when_the_trouble_is_over(
    autojump_clock: MockClock, begins: Trouble
) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(KEEPS, reason="the test")).ok
        begins(world)
        if begins is engine_full:
            world.engine.disk_full = False
            for _ in range(9):
                world.engine.fail_next("start", EngineFull("no space left on device"), target=DB)
        world.engine.crash(DB)
        await trio.sleep(8 * 60 if begins is engine_full else 12 * 3600)
        assert node.life.installed.get("keeps") is not None
        over(world)
        await trio.sleep(121)
        assert world.state(DB) == "running"


async def test_who_is_far_is_not_asked_every_minute(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(KEEPS, reason="the test")).ok
        storage_away(world)
        world.storage.asked = 0
        world.engine.vanish(DB)
        await trio.sleep(24 * 3600)
        assert 100 < world.storage.asked < 160, "every ten minutes in the end"


async def test_a_port_that_is_taken_once_costs_a_try(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(KEEPS, reason="the test")).ok
        taken = EngineError("driver failed programming external connectivity: port is already allocated")
        world.engine.fail_next("start", taken, target=DB)
        world.engine.vanish(DB)
        await trio.sleep(1)
        assert world.state(DB) is None
        await trio.sleep(40)
        assert world.state(DB) == "running"
        for _ in range(4):  # and is forgiven when it was made
            world.engine.fail_next("start", taken, target=DB)
        world.engine.vanish(DB)
        await trio.sleep(3600)
        assert world.state(DB) == "running"
        assert node.life.installed.get("keeps") is not None


@pytest.mark.parametrize("fault", [ImageFault.MISSING, ImageFault.UNAUTHORIZED, "answer"])
async def test_what_is_the_apps_own_ends_with_its_removal(
    autojump_clock: MockClock, fault: ImageFault | str
) -> None:
    """The specification: a recreation that fails removes the app; here after as many tries as a start."""
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(base(), reason="the test")).ok
        assert (await node.life.actions.install(KEEPS, reason="the test")).ok
        world.engine.vanish(DB)
        if isinstance(fault, ImageFault):
            await world.engine.remove_image("library/db:1")
            world.refuse_image("library/db:1", fault)
        else:
            world.storage.fails = StorageError("the storage at storage.test answered 404")
        await trio.sleep(2000)
        assert node.life.installed.get("keeps") is not None
        await trio.sleep(2000)
        assert node.life.installed.names() == {"base"}
        assert [data["kind"] for data in node.told(TAMPERING)] == ["container_vanished", "recreation_failed"]
