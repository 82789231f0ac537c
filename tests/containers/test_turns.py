"""One app that breaks whatever is done to it costs every service a turn, and the other apps nothing.

The error is one nobody foresaw; the services run bare, so it would come out here.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
from appworld import app, base, part
from fakeactions import FakeActions
from hostworld import HostWorld
from spawnrig import Net, Registry, app_spec
from spawnrig import Node as SpawnNode
from test_electionwatch import URLS, World, holding
from trio.testing import MockClock, wait_all_tasks_blocked

from trionode.config.tree import (
    BootSettings,
    ExplorerSettings,
    HostingSettings,
    ImageSettings,
    InstallerSettings,
    MonitorSettings,
    ResourceSettings,
)
from trionode.containers.actions import Outcome
from trionode.containers.engine import Engine
from trionode.containers.health.localstate import AGAIN_S, LocalState
from trionode.containers.install.records import AppRecord
from trionode.containers.monitors.expiry import ExpiredApps
from trionode.containers.monitors.hardware import HardwareWatch
from trionode.containers.monitors.imagecompliance import BlockedImages, ImageCompliance
from trionode.containers.monitors.imageupdates import ImageUpdates
from trionode.containers.monitors.storage import StorageWatch
from trionode.containers.monitors.surplus import BLOCK, SurplusWatch
from trionode.containers.monitors.updates import SpecUpdates
from trionode.containers.operations import Operations
from trionode.containers.spawning import candidatelist
from trionode.hosting.removal import AppRemoval
from trionode.lifecycle.limits import Machine, Need
from trionode.lifecycle.local import Component, InstalledApp
from trionode.plans.candidates import SpecRow
from trionode.plans.parts import Part
from trionode.plans.rootsize import ROOT_BYTES
from trionode.plans.spawnneeds import Instance
from trionode.registry.constants import MAINNET
from trionode.registry.rows import CurrentSpec
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate

pytestmark = pytest.mark.trio

BAD, GOOD = "abad", "good"
OWN = "198.51.100.1:16127"


class Boom(UnicodeError):
    """What nobody foresaw."""


class Breaking(FakeActions):
    """Everything goes well, but for one app."""

    async def _do(self, what: str, name: str, *, force: bool = False) -> Outcome:
        if name == BAD:
            raise Boom("label empty or too long")
        return await super()._do(what, name, force=force)

    async def update(self, spec: Mapping[str, Any], plan: object, *, reason: str) -> Outcome:
        return await self._do("update", str(spec["name"]))


class Everything:
    """Two apps that give every monitor a reason to act."""

    own_address: str | None = OWN
    synced = True

    def rows(self) -> list[Any]:
        return [cast("Any", InstalledApp(name, "aa", ())) for name in (BAD, GOOD)]

    def installed(self) -> list[InstalledApp]:
        return [InstalledApp(name, "aa", (Component(f"db_{name}", "/d"),)) for name in (BAD, GOOD)]

    def installed_names(self) -> tuple[str, ...]:
        return BAD, GOOD

    def names(self) -> frozenset[str]:
        return frozenset({BAD, GOOD})

    def wanted(self, app: str) -> int | None:
        return 1

    def running(self, app: str) -> tuple[Instance, ...]:
        return Instance("198.51.100.2:16127", 1_000), Instance(OWN, 2_000)

    async def machine(self) -> Machine | None:
        return Machine(1, 1_000, 100)

    async def needs(self) -> list[Need]:
        return self.needs_now()

    def needs_now(self) -> list[Need]:
        return [Need(BAD, 200, 2, 4_000, 10), Need(GOOD, 100, 2, 4_000, 10)]

    async def root_bytes(self, container: str) -> int:
        return 2 * ROOT_BYTES

    async def get_json(self, url: str) -> Any:
        return ["bad/miner"] if "blocked" in url else []

    async def opened(self, name: str) -> Mapping[str, Any] | None:
        return self.opened_now(name)

    def opened_now(self, name: str) -> Mapping[str, Any] | None:
        return {"name": name, "version": 3, "owner": "1Owner", "repotag": "bad/miner:1", "hash": "aa"}

    def obsolete(self) -> list[str]:
        return [BAD, GOOD]

    async def installed_spec(self, app: str) -> Mapping[str, Any] | None:
        return {"name": app, "version": 3, "hash": "aa", "hdd": 5, "repotag": "a:1"}

    async def current_spec(self, app: str) -> tuple[Mapping[str, Any], bool] | None:
        return {"name": app, "version": 3, "hash": "bb", "hdd": 5, "repotag": "a:2"}, True

    def both_now(self, app: str) -> None:
        return None

    async def updatable(self, app: str) -> list[tuple[Part, None]]:
        if app == BAD:
            raise Boom("label empty or too long")
        return []


@asynccontextmanager
async def running(*services: Any) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for service in services:
            await nursery.start(service.run)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "name", ["surplus", "storage", "hardware", "compliance", "expiry", "updates", "imageupdates"]
)
async def test_a_monitor_goes_on_with_the_others(autojump_clock: MockClock, name: str) -> None:
    world: Any = Everything()
    broken, bus, counters = Breaking(), EventBus(), Counters()
    actions: Any = broken
    settled, explorer = Gate(is_open=True), ExplorerSettings()
    lists = BlockedImages(ImageSettings(), HostingSettings(), "http://lists/", world)
    made: dict[str, Any] = {
        "surplus": lambda: SurplusWatch(
            explorer, InstallerSettings(), places=world, actions=actions, bus=bus, counters=counters
        ),
        "storage": lambda: StorageWatch(
            MonitorSettings(),
            BootSettings(),
            installed=world,
            engine=cast("Engine", world),
            actions=actions,
            boot_settled=settled,
            counters=counters,
        ),
        "hardware": lambda: HardwareWatch(
            MonitorSettings(),
            ResourceSettings(),
            BootSettings(),
            room=world,
            actions=actions,
            boot_settled=settled,
            counters=counters,
        ),
        "compliance": lambda: ImageCompliance(
            ImageSettings(), blocked=lists, apps=world, actions=actions, counters=counters
        ),
        "expiry": lambda: ExpiredApps(
            InstallerSettings(),
            world,
            actions,
            counters,
            constants=MAINNET,
            life=lambda app: None,
            scanned_height=lambda: 0,
        ),
        "updates": lambda: SpecUpdates(
            explorer,
            InstallerSettings(redeploy_one_in=1),
            specs=world,
            updater=actions,
            bus=bus,
            counters=counters,
            rng=random.Random(1),
        ),
        "imageupdates": lambda: ImageUpdates(
            ImageSettings(),
            apps=world,
            digests=cast("Any", world),
            engine=cast("Engine", world),
            actions=actions,
            operations=Operations(),
            bus=bus,
            counters=counters,
            rng=random.Random(1),
        ),
    }
    service: Any = made[name]()
    async with running(service):
        for height in (2_100_032, 2_100_076):
            bus.publish(BLOCK, {"height": height})
            await wait_all_tasks_blocked()
        if name == "expiry":
            await service.remove([BAD, GOOD])
        await trio.sleep(8 * 3600)
    assert counters[f"unforeseen.{name}"] >= 1
    if name == "imageupdates":
        assert {event.data.get("appsChecked") for event in bus.replay() if event.name != BLOCK} == {2}
    else:
        assert GOOD in {app for _, app in broken.done}


async def test_a_removal_of_all_goes_on(autojump_clock: MockClock) -> None:
    class Host:
        removed: list[str] = []  # noqa: RUF012

        def installed(self) -> list[InstalledApp]:
            return Everything().installed()

        async def remove(self, app: str, *, reason: str) -> None:
            if app == BAD:
                raise Boom("label empty or too long")
            self.removed.append(app)

    host = Host()
    found = await AppRemoval(cast("Any", host), Counters()).remove_all("the test")
    assert found.removed == (GOOD,)
    assert found.failed == ((BAD, "an unforeseen error (Boom)"),)


async def test_an_election_goes_on(autojump_clock: MockClock) -> None:
    class OneBreaks(World):
        async def stop(self, container: str, grace_s: float) -> None:
            if not self.done:
                self.done.append("boom")
                raise Boom("label empty or too long")
            await super().stop(container, grace_s)

    world = OneBreaks("fluxdb_shop", "fluxweb_shop")
    world.managers["http://two"] = ["198.51.100.99"]
    async with holding(world, Operations()):
        await trio.sleep(100)
    assert "stop fluxdb_shop" in world.done
    assert URLS


async def test_what_was_left_half_done_is_ended_but_for_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = HostWorld()
    async with world.process() as node:
        counters = Counters()
        await node.life.records.put(AppRecord(BAD, "installing"))
        await node.life.records.put(AppRecord(GOOD, "installing"))
        remove = node.life.actions._uninstaller.remove

        async def break_for_one(name: str, **given: Any) -> Outcome:
            if name == BAD:
                raise Boom("label empty or too long")
            return await remove(name, **given)

        monkeypatch.setattr(node.life.actions._uninstaller, "remove", break_for_one)
        async with running(LocalState(node.life.actions, Gate(is_open=True), counters)):
            await trio.sleep(AGAIN_S)
        assert [record.app for record in node.life.records.unfinished()] == [BAD]


async def test_health_puts_one_off_and_heals_the_others(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = HostWorld()
    async with world.process() as node:
        bad = app(BAD, part("db"))
        for spec in (base(), bad):
            assert (await node.life.actions.install(spec, reason="the test")).ok
        recreate = node.life.actions.recreate

        async def break_for_one(name: str, identifier: str, **given: Any) -> Outcome:
            if name == BAD:
                raise Boom("label empty or too long")
            return await recreate(name, identifier, **given)

        monkeypatch.setattr(node.life.actions, "recreate", break_for_one)
        world.engine.vanish(f"fluxdb_{BAD}")
        world.engine.vanish("fluxcore_base")
        await trio.sleep(100)
        assert node.counters["unforeseen.health"] >= 2, "it is looked at again, a minute later"
        assert world.state("fluxcore_base") == "running"
        assert node.life.installed.get(BAD) is not None


class Unprintable:
    def __str__(self) -> str:
        raise Boom("label empty or too long")


async def test_a_row_that_cannot_be_read_hides_none(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node:
        for spec in (base(), app(BAD, part("db"))):
            assert (await node.life.actions.install(spec, reason="the test")).ok
        row = node.life.installed.get(BAD)
        assert row is not None
        row.spec["compose"][0]["repotag"] = Unprintable()
        node.host.rows_changed()
        world.engine.vanish("fluxcore_base")
        await trio.sleep(100)
        assert world.state("fluxcore_base") == "running"
        assert [found.name for found in node.host.installed()] == [BAD, "base"]


async def test_the_spawner_goes_on_with_the_next_app(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Net(Registry(app_spec(BAD), app_spec(GOOD, port=32000)))
    node = SpawnNode(net)
    answer = node.spawner._world.answer

    async def break_for_one(wanted: Any) -> Any:
        if type(wanted).__name__ == "VerifyImages" and wanted.spec["name"] == BAD:
            raise Boom("label empty or too long")
        return await answer(wanted)

    monkeypatch.setattr(node.spawner._world, "answer", break_for_one)
    async with net.run():
        await trio.sleep(6 * 3600)
        assert set(node.apps) == {GOOD}
        assert node.counters["unforeseen.spawner"] >= 1


async def test_an_app_that_cannot_be_read_is_no_candidate_and_hides_none(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Net(Registry(app_spec(BAD), app_spec(GOOD, port=32000)))
    node = SpawnNode(net)
    read = candidatelist.spec_row

    def break_for_one(stored: CurrentSpec) -> SpecRow:
        if stored.name == BAD:
            raise Boom("label empty or too long")
        return read(stored)

    monkeypatch.setattr(candidatelist, "spec_row", break_for_one)
    async with net.run():
        await trio.sleep(3600)
        assert set(node.apps) == {GOOD}


async def test_an_engine_whose_follower_crashed_is_not_believed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = HostWorld()
    nodes = []

    async def live() -> None:
        async with world.process() as node:
            nodes.append(node)
            assert (await node.life.actions.install(base(), reason="the test")).ok
            await trio.sleep(1)

            def broken(*given: Any, **more: Any) -> None:
                raise Boom("label empty or too long")

            monkeypatch.setattr(node.host.table, "replace", broken)
            node.host._lost_ms = 1
            node.host._wanted.set()
            await trio.sleep(10)

    with pytest.raises(ExceptionGroup):
        await live()
    (node,) = nodes
    assert not node.reachable.is_open
    assert "crashed" in node.host.problem
    await trio.sleep(world.hosting.engine_away_s)
    assert node.host.apps() is None
