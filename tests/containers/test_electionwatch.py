"""Elections carried out: who is stopped, who starts, and what a missing answer must not do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
import trio.testing

from trionode.config.tree import MonitorSettings
from trionode.containers.disk import Disk, DiskError
from trionode.containers.engine import ContainerRow, Engine, EngineUnreachable
from trionode.containers.monitors.election import ElectionWatch
from trionode.containers.operations import Operations, Work
from trionode.containers.planned import PlannedAction
from trionode.lifecycle.local import Component, InstalledApp
from trionode.lifecycle.names import container_name
from trionode.plans.election import Member
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate

OWN, OTHER = "198.51.100.1:16127", "198.51.100.2:16127"
URLS = ("http://one", "http://two")
APP = InstalledApp("shop", "aa", (Component("db_shop", "g:/data"), Component("web_shop", "/data")))

PLAIN = InstalledApp("plain", "bb", (Component("web_plain", "/data"),))


class World:
    """Engine, disk, managers and other nodes in one."""

    own_address: str | None = OWN

    def __init__(self, *running: str) -> None:
        self.running_here = set(running)
        self.managers: dict[str, list[str] | None] = {}
        self.nodes: dict[str, list[str]] = {}
        self.done: list[str] = []
        self.away = False
        self.chmod_fails = False
        self.mounted: set[str] = set()
        self.mount_fails = False
        self.departing = False
        self.asked = 0

    async def installed(self) -> list[InstalledApp]:
        return self.installed_now()

    def installed_now(self) -> list[InstalledApp]:
        return [APP, PLAIN]

    def members(self, app: str) -> list[Member]:
        return [Member(OWN, 1_000), Member(OTHER, 2_000)]

    async def listed(self, url: str) -> Collection[str] | None:
        self.asked += 1
        return self.managers.get(url)

    async def running(self, address: str) -> Collection[str] | None:
        return self.nodes.get(address)

    async def containers(self) -> tuple[ContainerRow, ...]:
        if self.away:
            raise EngineUnreachable("the engine is away")
        return tuple(
            ContainerRow(id=name, name=name, image="i", image_id="i", state="running")
            for name in sorted(self.running_here)
        )

    async def stop(self, container: str, grace_s: float) -> None:
        self.running_here.discard(container)
        self.done.append(f"stop {container}")

    async def start(self, identifier: str) -> None:
        container = container_name(identifier)
        assert container in self.mounted
        self.running_here.add(container)
        self.done.append(f"start {container}")

    async def ensure(self, container: str) -> None:
        if self.mount_fails:
            raise DiskError("its file is gone")
        self.mounted.add(container)

    async def open_folder(self, name: str) -> None:
        if self.chmod_fails:
            raise DiskError("no such folder")
        assert name in self.mounted
        self.done.append(f"open {name}")


@asynccontextmanager
async def holding(
    world: World,
    operations: Operations,
    *,
    let_alone: bool = False,
    is_stopped: Callable[[str], bool] | None = None,
    settled: Gate | None = None,
) -> AsyncIterator[ElectionWatch]:
    watch = ElectionWatch(
        MonitorSettings(),
        apps=world,
        electorate=world,
        engine=cast("Engine", world),
        host=world,
        disk=cast("Disk", world),
        volumes=world,
        operations=operations,
        boot_settled=settled or Gate(is_open=True),
        clock=VirtualClock(0),
        counters=Counters(),
        urls=lambda app: URLS,
        let_alone=is_stopped or (lambda app: let_alone),
        departing=lambda: world.departing,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        yield watch
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_another_primary_stops_the_whole_app_here(autojump_clock: trio.testing.MockClock) -> None:
    world = World("fluxdb_shop", "fluxweb_shop")
    world.managers["http://two"] = [OTHER]
    async with holding(world, Operations()) as watch:
        await trio.sleep(1)
        assert world.done == ["stop fluxweb_shop", "stop fluxdb_shop"]
        await trio.sleep(40)
        assert len(world.done) == 2
        assert "is the primary" in watch.results["shop"]


@pytest.mark.trio
async def test_the_first_starts_when_nobody_runs_it(autojump_clock: trio.testing.MockClock) -> None:
    world = World("fluxweb_shop")
    world.managers = {url: [] for url in URLS}
    async with holding(world, Operations()):
        await trio.sleep(1)
        assert world.done == [
            "open fluxdb_shop",
            "stop fluxdb_shop",
            "start fluxdb_shop",
            "stop fluxweb_shop",
            "start fluxweb_shop",
        ]


@pytest.mark.trio
async def test_silence_of_all_managers_is_not_nobody(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    async with holding(world, Operations()) as watch:
        await trio.sleep(1000)
        assert world.done == []
        assert "not known is not nobody" in watch.results["shop"]


@pytest.mark.trio
async def test_a_folder_that_cannot_be_opened_ends_the_start(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    world.managers, world.chmod_fails = {url: [] for url in URLS}, True
    async with holding(world, Operations()):
        await trio.sleep(1)
        assert world.done == []
        world.chmod_fails = False
        await trio.sleep(30)
        assert "start fluxdb_shop" in world.done


@pytest.mark.trio
async def test_operations_backups_and_operators_come_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world, operations = World("fluxdb_shop"), Operations()
    world.managers["http://one"] = [OTHER]
    async with holding(world, operations):
        await trio.sleep(1)
        assert world.done == ["stop fluxweb_shop", "stop fluxdb_shop"]  # the first cycle came before
        world.running_here.add("fluxdb_shop")
        with operations.doing(Work.INSTALL, "web"):
            await trio.sleep(60)
        with operations.holding("db_shop"):
            await trio.sleep(60)
        assert len(world.done) == 2
    async with holding(world, operations, let_alone=True):
        await trio.sleep(60)
        assert len(world.done) == 2


@pytest.mark.trio
async def test_an_engine_that_is_away_costs_a_cycle(autojump_clock: trio.testing.MockClock) -> None:
    world = World("fluxdb_shop")
    world.managers["http://one"], world.away = [OTHER], True
    async with holding(world, Operations()):
        await trio.sleep(10)
        world.away = False
        await trio.sleep(30)
        assert world.done == ["stop fluxweb_shop", "stop fluxdb_shop"]


@pytest.mark.trio
async def test_nothing_is_started_beneath_its_mount(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    world.managers, world.mount_fails = {url: [] for url in URLS}, True
    async with holding(world, Operations()):
        await trio.sleep(100)
        assert world.done == []


@pytest.mark.trio
async def test_before_the_boot_decision_and_while_leaving_nobody_is_elected(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world, settled = World(), Gate()
    world.managers = {url: [] for url in URLS}
    async with holding(world, Operations(), settled=settled):
        await trio.sleep(1000)
        assert world.done == []
        world.departing = True
        settled.open()
        await trio.sleep(100)
        assert world.done == []
        world.departing = False
        await trio.sleep(100)
        assert "start fluxdb_shop" in world.done


@pytest.mark.trio
async def test_what_began_while_managers_were_asked_comes_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Slow(World):
        async def listed(self, url: str) -> Collection[str] | None:
            await trio.sleep(5)
            return [OTHER]

    world, operations = Slow("fluxdb_shop"), Operations()
    async with holding(world, operations):
        await trio.sleep(2)
        with operations.doing(Work.REMOVE, "shop"):
            await trio.sleep(10)
            assert world.done == []
        await trio.sleep(60)
        assert world.done == ["stop fluxweb_shop", "stop fluxdb_shop"]


async def planned(world: World, watch: ElectionWatch) -> PlannedAction:
    """What is planned for the one elected app; nobody is asked for it."""
    asked, done = world.asked, len(world.done)
    (step,) = watch.plan(await world.containers())
    assert (world.asked, len(world.done)) == (asked, done)
    return step


@pytest.mark.trio
async def test_the_plan_is_the_election_on_what_was_heard_last(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world, settled = World(), Gate()
    world.managers["http://one"] = [OTHER]
    async with holding(world, Operations(), settled=settled) as watch:
        step = await planned(world, watch)
        assert (step.kind, step.component) == ("elect", "db_shop")
        assert "to be asked" in step.reason
        settled.open()
        await trio.sleep(10)
        step = await planned(world, watch)
        assert (step.kind, step.reason) == ("elect", "198.51.100.2 is the primary")
        world.running_here.add("fluxdb_shop")
        step = await planned(world, watch)
        assert (step.kind, step.component, step.due_s) == (
            "stop",
            "web_shop, db_shop",
            trio.current_time() + 20,
        )
        await trio.sleep(21)
        assert world.done == ["stop fluxweb_shop", "stop fluxdb_shop"]


@pytest.mark.trio
async def test_the_plan_tells_a_start_that_fails_and_one_that_waits_its_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    world.managers, world.mount_fails = {url: [] for url in URLS}, True
    async with holding(world, Operations()) as watch:
        await trio.sleep(1)
        step = await planned(world, watch)
        assert (step.kind, step.component) == ("start_primary", "db_shop, web_shop")
        assert step.reason == "nobody ran it yet, and this node is first"

    class Second(World):
        def members(self, app: str) -> list[Member]:
            return [Member(OTHER, 1_000), Member(OWN, 2_000)]

    world = Second()
    world.managers = {url: [] for url in URLS}
    async with holding(world, Operations()) as watch:
        await trio.sleep(1)
        step = await planned(world, watch)
        assert (step.kind, step.reason) == ("elect", "a start is planned, at rank 1")
        assert step.when_ms is not None
        await trio.sleep(step.when_ms / 1000 - trio.current_time() - 1)
        assert world.done == []
        await trio.sleep(40)
        assert "start fluxdb_shop" in world.done


@pytest.mark.trio
async def test_the_plan_says_why_no_election_is_held(autojump_clock: trio.testing.MockClock) -> None:
    world, operations = World("fluxdb_shop"), Operations()
    world.managers["http://one"] = [OTHER]
    async with holding(world, operations, let_alone=True) as watch:
        assert (await planned(world, watch)).reason == "its operator stopped it"
        world.own_address = None
        assert (await planned(world, watch)).reason == "the own address is not known"
    world = World("fluxdb_shop")
    with operations.holding("db_shop"):
        async with holding(world, operations) as watch:
            assert (await planned(world, watch)).reason == "a backup or restore has the app"


@pytest.mark.trio
@pytest.mark.parametrize("at", ["the managers", "the folder"])
async def test_an_app_stopped_on_purpose_meanwhile_is_not_started(
    autojump_clock: trio.testing.MockClock, at: str
) -> None:
    stopped: list[str] = []

    class Slow(World):
        async def listed(self, url: str) -> Collection[str] | None:
            await trio.sleep(30)
            return await super().listed(url)

        async def open_folder(self, name: str) -> None:
            await trio.sleep(30)
            await super().open_folder(name)

    world = Slow()
    world.managers = {url: [] for url in URLS}
    async with holding(world, Operations(), is_stopped=lambda app: app in stopped):
        await trio.sleep(10 if at == "the managers" else 70)
        stopped.append("shop")
        await trio.sleep(1000)
        assert [step for step in world.done if not step.startswith("open")] == []
