"""The present plan tells what would be done, and asking for it does nothing."""

from __future__ import annotations

import pytest
import trio
from appworld import app, base, part
from hostworld import HostWorld
from trio.testing import MockClock

from trionode.config.tree import BootSettings, MonitorSettings
from trionode.containers.health.linking import Linker
from trionode.containers.health.orphans import Orphans
from trionode.containers.health.prunes import Pruner
from trionode.containers.present import Planner
from trionode.plans.createoptions import CreateOptions


@pytest.mark.trio
async def test_every_kind_of_action_is_told_and_none_is_done(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process(settled=False) as node:
        life = node.life
        for spec in (base(), app("shop", part("web"), part("db"), description="networkWith: [base]")):
            assert (await life.actions.install(spec, reason="the test")).ok
        await world.engine.disconnect("fluxweb_shop", "fluxDockerNetwork_base")
        await world.engine.create(
            CreateOptions(
                name="fluxold_gone",
                app="gone",
                identifier="old_gone",
                image="library/web:1",
                hostname="h",
                network="default",
            )
        )
        world.engine.crash("fluxcore_base")
        world.engine.vanish("fluxdb_shop")
        await trio.sleep(1)

        async def ever_known(name: str) -> bool:
            return False

        async def prune() -> None:
            return None

        pruner = Pruner(world.engine, life.installed, life.records, life.operations, node.counters)
        planner = Planner(
            health=node.health,
            mounts=node.mounts,
            links=Linker(world.engine, life.installed, node.counters),
            pruner=pruner,
            orphans=Orphans(
                BootSettings(),
                MonitorSettings(),
                engine=world.engine,
                installed=life.installed,
                actions=life.actions,
                operations=life.operations,
                ever_known=ever_known,
                listed=lambda app: False,
                prune=prune,
                boot_settled=node.settled,
                counters=node.counters,
            ),
        )
        before = (world.engine.everything(), list(world.engine.actions))
        plan = [(step.kind, step.app, step.component) for step in await planner.plan()]
        assert plan == [
            ("start", "base", "core_base"),
            ("recreate", "shop", "db_shop"),
            ("connect", "shop", "fluxweb_shop"),
            ("remove_orphan", "gone", "fluxold_gone"),
            ("prune", "", "container fluxold_gone"),
        ]
        assert all(step.reason for step in await planner.plan())
        assert (world.engine.everything(), list(world.engine.actions)) == before
