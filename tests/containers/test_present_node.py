"""The present plan of whole nodes: who would take an app, who is its primary, what an update asks for."""

from __future__ import annotations

import msgspec
import pytest

from trionode.containers.planned import PlannedAction
from trionode.sim.appspecs import AppPlan, PartPlan
from trionode.sim.node import SimNode
from trionode.sim.scenario import Scenario, run_scenario
from trionode.sim.scenarios.hosting import BLOCK_S, Stage, box_of, containers_of, world_plan
from trionode.sim.world import World

WEB, DB = PartPlan(name="web"), PartPlan(name="db", data="g:/data")
SHOP = AppPlan(name="shop", parts=(WEB, DB))
LATER = msgspec.structs.replace(SHOP, parts=(msgspec.structs.replace(WEB, cpu=0.2), DB))


async def plan_of(node: SimNode) -> list[PlannedAction]:
    """Asking for it changes nothing, and asks nobody but the engine."""
    containers, engine = containers_of(node), box_of(node).engine
    before = engine.everything(), list(engine.actions), containers.spawning.spawner.memory.skipped()
    plan = list(await containers.present_plan())
    assert (engine.everything(), list(engine.actions)) == before[:2]
    assert containers.spawning.spawner.memory.skipped() == before[2]
    assert all(step.reason and step.due_s is None for step in plan)
    return [step for step in plan if step.app == "shop"]


async def story(world: World) -> None:
    stage = Stage(world)
    await stage.ready()
    await stage.register(SHOP)
    for node in world.nodes:
        (step,) = await plan_of(node)
        assert step.kind == "choose"
        assert step.when_ms is not None
    await world.until(lambda: len(hosts(world)) == 3, 4 * 3600, "three nodes have it")
    await world.sleep(600)

    said = {}
    for node in hosts(world):
        elections = [step for step in await plan_of(node) if step.kind == "elect"]
        assert [step.component for step in elections] == ["db_shop"]
        said[node.name] = elections[0].reason
    assert sorted("it runs here" in reason for reason in said.values()) == [False, False, True], said

    await stage.update(LATER)
    waiting = [step for node in hosts(world) for step in await plan_of(node) if step.kind == "redeploy_soft"]
    assert waiting, "one look in two makes it, and that was some blocks ago"
    for step in waiting:
        assert step.component == "web_shop"
        assert step.reason.startswith("its specification changed")
        assert step.height is not None
    await world.until(lambda: all(is_new(node) for node in hosts(world)), 500 * BLOCK_S, "all are updated")
    await world.sleep(60)
    for node in hosts(world):
        assert not [step for step in await plan_of(node) if step.kind == "redeploy_soft"]

    behind, *_ = hosts(world)
    world.chain.fail(behind.ip)
    await world.sleep(900)
    (removal,) = [step for step in await plan_of(behind) if step.kind == "remove"]
    assert removal.reason == "all apps have to go if this lasts: daemon not synced"
    assert removal.when_ms is not None
    assert 6000 < (removal.when_ms - behind.clock.now_ms()) / 1000 < 7200
    world.chain.recover(behind.ip)
    await world.sleep(900)
    assert not [step for step in await plan_of(behind) if step.kind == "remove"]


def is_new(node: SimNode) -> bool:
    return not containers_of(node).hosted.obsolete()


def hosts(world: World) -> list[SimNode]:
    return [node for node in world.nodes if "shop" in containers_of(node).installed.names()]


@pytest.mark.timeout(300)
def test_a_node_says_what_it_would_do() -> None:
    run_scenario(Scenario(name="plan", summary="present plans", story=story, plan=world_plan(5)), seed=3)
