"""Containers without an installed app are removed, those of the operator are not (lifecycle.md §16)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from appworld import base
from hostworld import HostWorld, Node
from trio.testing import MockClock

from trionode.config.tree import BootSettings, MonitorSettings
from trionode.containers.health.orphans import Orphans
from trionode.containers.operations import Work
from trionode.plans.createoptions import CreateOptions

DELAY_S = 1800


class Scene:
    def __init__(self, world: HostWorld) -> None:
        self.world = world
        self.known: set[str] = set()
        self.pruned = 0

    async def ever_known(self, name: str) -> bool:
        return name in self.known

    async def prune(self) -> None:
        self.pruned += 1

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Node]:
        async with self.world.process() as node, trio.open_nursery() as nursery:
            outcome = await node.life.actions.install(base(), reason="the test")
            assert outcome.ok
            orphans = Orphans(
                BootSettings(),
                MonitorSettings(),
                engine=self.world.engine,
                installed=node.life.installed,
                actions=node.life.actions,
                operations=node.life.operations,
                ever_known=self.ever_known,
                listed=lambda app: False,
                prune=self.prune,
                boot_settled=node.settled,
                counters=node.counters,
            )
            await nursery.start(orphans.run)
            yield node
            nursery.cancel_scope.cancel()

    async def stray(self, name: str, owner: str = "") -> None:
        engine = self.world.engine
        await engine.create(
            CreateOptions(
                name=name, app=owner, identifier=name, image="library/web:1", hostname="h", network="default"
            )
        )
        if not owner:
            engine._containers[name].labels = {}


@pytest.fixture
def scene() -> Scene:
    return Scene(HostWorld())


@pytest.mark.trio
async def test_orphans_go_one_after_the_other(autojump_clock: MockClock, scene: Scene) -> None:
    scene.known = {"old"}
    async with scene.process() as node:
        await scene.stray("fluxweb_labelled", "labelled")
        await scene.stray("fluxweb_old")
        await scene.stray("fluxbox")
        await trio.sleep(DELAY_S + 10)
        states = [scene.world.state(name) for name in ("fluxweb_labelled", "fluxweb_old")]
        assert sorted(states, key=str) == [None, "created"] or states == [None, "created"]
        await trio.sleep(200)
        assert scene.world.state("fluxweb_old") is None
        assert scene.world.state("fluxbox") == "created", "the network never had an app of that name"
        assert scene.world.state("fluxcore_base") == "running"
        assert node.counters["containers.orphans.removed"] == 2
        assert scene.pruned == 1


@pytest.mark.trio
async def test_while_something_is_installed_nothing_is_an_orphan(
    autojump_clock: MockClock, scene: Scene
) -> None:
    async with scene.process() as node:
        await scene.stray("fluxweb_fresh", "fresh")
        with node.life.operations.doing(Work.INSTALL, "fresh"):
            await trio.sleep(DELAY_S + 100)
            assert scene.world.state("fluxweb_fresh") == "created"
            assert scene.pruned == 0
        await trio.sleep(7200)
        assert scene.world.state("fluxweb_fresh") is None


@pytest.mark.trio
async def test_an_engine_that_is_away_costs_a_round(autojump_clock: MockClock, scene: Scene) -> None:
    async with scene.process() as node:
        await scene.stray("fluxweb_gone", "gone")
        scene.world.engine.hub.away = True
        await trio.sleep(DELAY_S + 100)
        assert node.counters["containers.orphans.failed"] == 1
        scene.world.engine.hub.away = False
        await trio.sleep(7200)
        assert scene.world.state("fluxweb_gone") is None
