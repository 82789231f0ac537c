"""The present plan tells what would be done, and asking for it does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from appworld import app, base, part
from hostworld import HostWorld
from trio.testing import MockClock

from trionode.config.tree import BootSettings, MonitorSettings
from trionode.containers.health.linking import Linker
from trionode.containers.health.orphans import Orphans
from trionode.containers.health.prunes import Pruner
from trionode.containers.operations import Operations, Work
from trionode.containers.planned import PlannedAction
from trionode.containers.present import Planner, PlanSources
from trionode.hosting.removal import Leaving
from trionode.lifecycle.boot import BootAction, BootDecision, BootWait
from trionode.lifecycle.local import Container
from trionode.lifecycle.reconcile import LeaveApp, ReconcileStep, RemoveApp, StartApp
from trionode.plans.createoptions import CreateOptions
from trionode.registry.constants import MAINNET
from trionode.runtime.clock import VirtualClock
from trionode.runtime.gate import Gate

HEIGHT = 2_100_000


class Says:
    """A service with this plan."""

    def __init__(self, *steps: PlannedAction) -> None:
        self.steps = steps
        self.asked: list[object] = []

    def plan(self, about: object = None) -> tuple[PlannedAction, ...]:
        self.asked.append(about)
        return self.steps


class Booting:
    """A boot decision that is not carried out."""

    def __init__(self, decision: BootDecision | None, waits_for: BootWait | None = None) -> None:
        self.pending, self.waits_for = decision, waits_for
        self.asked: list[Container] = []

    def steps(self, containers: Sequence[Container]) -> tuple[ReconcileStep, ...]:
        self.asked += containers
        return (
            StartApp("mail", ("web_mail", "db_mail")),
            RemoveApp("shop", "the network no longer lists it here"),
            LeaveApp("wiki", "election"),
        )


class Silent:
    """Everything that is asked with patience, and has nothing to do."""

    next_s: float | None = None

    async def containers(self) -> tuple[()]:
        return ()

    async def plan(self, app: str = "") -> tuple[()]:
        return ()

    async def planned(self) -> tuple[()]:
        return ()


def sources(**others: Any) -> PlanSources:
    """Nobody has anything to do, but for `others`."""
    silent = Silent()
    usual: dict[str, Any] = {
        "engine": silent,
        "boot": lambda: Booting(None),
        "operations": Operations(),
        "installed": lambda: ["mail", "shop"],
        "leaving": tuple,
        "departing": lambda: False,
        "is_complete": lambda: True,
        "boot_settled": Gate(is_open=True),
        "health": silent,
        "mounts": silent,
        "links": silent,
        "orphans": silent,
        "pruner": silent,
        "by_containers": (),
        "monitors": (),
        "spawner": Says(),
        "height": lambda: HEIGHT,
        "constants": MAINNET,
        "clock": VirtualClock(1_000_000),
    }
    return PlanSources(**usual | others)


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
        orphans = Orphans(
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
        )
        planner = Planner(
            sources(
                engine=world.engine,
                operations=life.operations,
                boot_settled=node.settled,
                health=node.health,
                mounts=node.mounts,
                links=Linker(world.engine, life.installed, node.counters),
                pruner=pruner,
                orphans=orphans,
            )
        )
        before = (world.engine.everything(), list(world.engine.actions))
        plan = [(step.kind, step.app, step.component) for step in await planner.plan()]
        assert plan == [
            ("wait", "", "node"),
            ("start", "base", "core_base"),
            ("recreate", "shop", "db_shop"),
            ("connect", "shop", "fluxweb_shop"),
            ("remove_orphan", "gone", "fluxold_gone"),
            ("prune", "", "container fluxold_gone"),
        ]
        assert all(step.reason for step in await planner.plan())
        assert (world.engine.everything(), list(world.engine.actions)) == before


@pytest.mark.trio
async def test_moments_become_wall_time(autojump_clock: MockClock) -> None:
    await trio.sleep(100)
    now_ms = 1_100_000
    steps = Says(
        PlannedAction("leave", "shop", "", "", 5_000_000),
        PlannedAction("remove", "shop", "", "", due_s=130.5),
        PlannedAction("remove", "shop", "", "", due_s=99.0),
        PlannedAction("remove", "shop", "", "", height=HEIGHT + 10),
        PlannedAction("remove", "shop", "", "", height=HEIGHT),
        PlannedAction("remove", "shop", "", ""),
    )
    plan = await Planner(sources(monitors=(steps,))).plan()
    assert [(step.when_ms, step.height) for step in plan] == [
        (5_000_000, None),
        (now_ms + 30_500, None),
        (None, None),
        (now_ms + 300_000, HEIGHT + 10),
        (None, HEIGHT),
        (None, None),
    ]
    before = Planner(sources(monitors=(steps,), height=lambda: HEIGHT - 1_000_000))
    assert [step.when_ms for step in await before.plan()][4] == now_ms + 1_000_000 * 120_000


@pytest.mark.trio
async def test_what_holds_apps_back_comes_first() -> None:
    operations = Operations()
    held_back = sources(
        operations=operations,
        departing=lambda: True,
        boot_settled=Gate(),
        is_complete=lambda: False,
        monitors=(Says(PlannedAction("remove", "mail", "", "it has ended")),),
    )
    with operations.holding("db_shop"), operations.doing(Work.SOFT_REDEPLOY, "mail"):
        plan = await Planner(held_back).plan()
    assert [(step.kind, step.app, step.component) for step in plan] == [
        ("wait", "", "node"),
        ("wait", "", "node"),
        ("wait", "", "node"),
        ("under_way", "mail", ""),
        ("leave", "shop", "db_shop"),
        ("remove", "mail", ""),
    ]
    assert plan[3].reason.startswith("soft redeploy")


@pytest.mark.trio
async def test_a_node_that_loses_its_standing_says_when_each_app_goes(autojump_clock: MockClock) -> None:
    await trio.sleep(10)
    reasons = [Leaving("not confirmed", pause_s=60), Leaving("daemon not synced", 40.0, 180)]
    plan = await Planner(sources(leaving=lambda: reasons, clock=VirtualClock(0))).plan()
    assert [(step.kind, step.app, step.when_ms) for step in plan] == [
        ("remove", "mail", None),
        ("remove", "shop", 70_000),
        ("remove", "mail", 40_000),
        ("remove", "shop", 220_000),
    ]
    assert plan[0].reason == "all apps have to go: not confirmed"
    assert plan[3].reason == "all apps have to go if this lasts: daemon not synced"


@pytest.mark.trio
async def test_one_app_in_any_letter_case() -> None:
    spawner = Says(
        PlannedAction("choose", "", "spawner", "draws"), PlannedAction("defer", "Shop", "", "later")
    )
    steps = Says(PlannedAction("remove", "shop", "", "ended"), PlannedAction("remove", "mail", "", "ended"))
    planner = Planner(sources(monitors=(steps,), spawner=spawner, boot_settled=Gate()))
    plan = await planner.plan("SHOP")
    assert [(step.kind, step.app) for step in plan] == [("wait", ""), ("remove", "shop"), ("defer", "Shop")]
    assert spawner.asked == ["SHOP"]


@pytest.mark.trio
async def test_the_boot_decision_is_told_before_it_is_made_and_while_it_is_carried_out() -> None:
    async def plan(boot: Booting) -> list[tuple[str, str, str, str]]:
        steps = await Planner(sources(boot=lambda: boot, boot_settled=Gate())).plan()
        return [(step.kind, step.app, step.component, step.reason) for step in steps]

    ((kind, _, _, reason),) = await plan(Booting(None, BootWait.STATUS))
    assert kind == "wait"
    assert "it waits for the confirmation" in reason
    back = BootDecision(7, BootAction.RECONCILE, "the power was cut for 3 min")
    assert (await plan(Booting(back)))[1:] == [
        ("start", "mail", "web_mail, db_mail", "boot: the power was cut for 3 min"),
        ("remove", "shop", "", "boot: the network no longer lists it here"),
        ("leave", "wiki", "", "boot: its election decides which node runs it"),
    ]
    over = BootDecision(5, BootAction.REMOVE_ALL, "the machine was down for too long")
    assert [step[:2] for step in (await plan(Booting(over)))[1:]] == [("remove", "mail"), ("remove", "shop")]
    assert len(await plan(Booting(BootDecision(0, BootAction.NOTHING, "no app is installed")))) == 1
