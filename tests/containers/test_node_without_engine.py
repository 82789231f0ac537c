"""A whole node whose container engine is away: no service of it fails, no app is lost, and all comes back."""

from __future__ import annotations

import pytest

from trionode.sim.appspecs import AppPlan, PartPlan
from trionode.sim.scenario import Scenario, run_scenario
from trionode.sim.scenarios.hosting import BLOCK_S, Stage, box_of, world_plan
from trionode.sim.world import World

SHOP = AppPlan(name="shop", parts=(PartPlan(name="web"), PartPlan(name="db", data="/data")))


async def story(world: World) -> None:
    """Services run bare in the simulator: one that fails ends the story."""
    stage = Stage(world)
    await stage.ready()
    await stage.register(SHOP)
    hosts = await stage.hosted(SHOP)
    restarted, running = hosts[0], hosts[1]

    core = running.running
    assert core.containers is not None
    looking_after = core.containers.services()
    assert [core.is_essential(service) for service in core.services()] == [
        service not in looking_after for service in core.services()
    ], "who looks after apps and crashes does not take the node, and with it all apps, from the network"
    assert looking_after

    # the process starts again while the engine is away
    await world.kill(restarted)
    for node in (restarted, running):
        box_of(node).engine.unreachable = True
    await world.start(restarted)
    await world.sleep(40 * BLOCK_S)
    for node in (restarted, running):
        containers = node.running.containers
        assert containers is not None
        assert containers.engine_problem
        assert node.running.host.apps() is None, "what nobody can see is not announced"
        assert await stage.installed_on(node) == {"shop"}

    # it comes back after a machine's reboot, with everything stopped
    await world.power_cut(restarted)
    await world.sleep(60)
    await world.start(restarted)
    await world.sleep(1000)
    assert restarted.running.boot.settled.is_open, "the rest of the node does not wait for ever"
    for node in (restarted, running):
        box_of(node).engine.unreachable = False
    await world.sleep(300)
    for node in (restarted, running):
        assert node.running.containers is not None
        assert node.running.containers.engine_problem == ""
    assert set(SHOP.containers) <= set(box_of(running).running())
    await stage.hosted(SHOP)
    await stage.settle(600)


@pytest.mark.timeout(900)
def test_the_node_lives_on_without_its_engine() -> None:
    run_scenario(
        Scenario(name="without-engine", summary="engines away", story=story, plan=world_plan(5)), seed=3
    )
