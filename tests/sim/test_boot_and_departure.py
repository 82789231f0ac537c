"""A node's machine goes down and comes back, in a network of nodes with the times of the real one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from trionode.config.tree import EnterpriseSettings
from trionode.lifecycle.boot import BootAction
from trionode.sim.node import SimNode
from trionode.sim.scenario import Scenario, run_scenario
from trionode.sim.world import World, WorldPlan

GRACE_S = 420.0
NODES = 14
"""Enough for a node to reach its thresholds (12 peers), so that it gets ready by itself."""


def play(story: Callable[[World], Awaitable[None]]) -> None:
    plan = WorldPlan(nodes=NODES)
    run_scenario(Scenario(name="test", summary="", story=story, plan=plan, min_nodes=1), seed=3)


def listed(world: World, node: SimNode) -> list[int]:
    """How many apps of `node` each of the other running nodes lists."""
    return [
        sum(ip == node.address for _, ip in world.locations(other))
        for other in world.up()
        if other is not node
    ]


async def stand_up(world: World) -> tuple[SimNode, int]:
    """A running network; one of its nodes and how many apps that has."""
    await world.stand_up()
    victim = world.nodes[3]
    return victim, len(victim.apps.apps())


async def comes_back(world: World, node: SimNode) -> None:
    await world.start(node)
    await world.until(lambda: node.running.boot.settled.is_open, 900, "the boot decision is carried out")


def test_apps_of_a_machine_that_went_down_vanish_everywhere_when_the_grace_ends() -> None:
    async def story(world: World) -> None:
        victim, apps = await stand_up(world)
        await world.sigterm(victim)
        said_s = world.now_s
        await world.sleep(GRACE_S - 2 - (world.now_s - said_s))
        assert listed(world, victim) == [apps] * (NODES - 1), "listed until the grace is over"
        await world.sleep(4)
        assert listed(world, victim) == [0] * (NODES - 1)

        await comes_back(world, victim)
        context, decision = victim.running.boot.context, victim.running.boot.decision
        assert (context.machine_rebooted, context.clean_shutdown, context.first_boot) == (True, True, False)
        assert decision is not None
        assert (decision.rule, decision.action) == (2, BootAction.REMOVE_ALL)
        assert victim.apps.installed() == ()

    play(story)


def test_a_reboot_within_the_grace_starts_the_apps_again() -> None:
    async def story(world: World) -> None:
        victim, apps = await stand_up(world)
        await world.sigterm(victim)
        assert victim.apps.apps() == (), "their containers were stopped"
        await world.sleep(60)
        await comes_back(world, victim)
        decision = victim.running.boot.decision
        assert decision is not None
        assert decision.action is BootAction.RECONCILE, decision
        assert len(victim.running.boot.results.started) == apps == len(victim.apps.apps())
        await world.sleep(GRACE_S + 60)
        assert listed(world, victim) == [apps] * (NODES - 1), "announced anew, so nothing ends with the grace"

    play(story)


@pytest.mark.parametrize(
    ("away_s", "action"), [(1_800, BootAction.RECONCILE), (7_600, BootAction.REMOVE_ALL)]
)
def test_a_power_cut_is_forgiven_for_125_minutes(away_s: float, action: BootAction) -> None:
    async def story(world: World) -> None:
        victim, apps = await stand_up(world)
        await world.power_cut(victim)
        await world.sleep(away_s)
        await comes_back(world, victim)
        assert not victim.running.boot.context.clean_shutdown
        decision = victim.running.boot.decision
        assert decision is not None
        assert decision.action is action, decision
        assert len(victim.apps.apps()) == (apps if action is BootAction.RECONCILE else 0)

    play(story)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_restart_of_the_process_leaves_the_apps_alone(how: str) -> None:
    async def story(world: World) -> None:
        victim, apps = await stand_up(world)
        await (world.kill(victim) if how == "kill" else world.stop(victim))
        await world.sleep(GRACE_S + 60)
        await comes_back(world, victim)
        decision = victim.running.boot.decision
        assert not victim.running.boot.context.machine_rebooted
        assert decision is not None
        assert decision.rule == 1
        assert len(victim.apps.apps()) == apps

    play(story)


def test_an_enterprise_node_waits_for_fewer_blocks() -> None:
    async def story(world: World) -> None:
        special, plain = world.nodes[:2]
        enterprise = EnterpriseSettings(node_keys=(special.key.public_key,))
        special.settings = msgspec.structs.replace(special.settings, enterprise=enterprise)
        for node in (special, plain):
            await world.start(node)
        waits = [node.running.orchestrator for node in (special, plain)]
        await world.until(lambda: all(one.state.chain_read for one in waits), 600, "the chain is read")
        assert [one.status.waived_after_blocks for one in waits] == [124, 250]

    run_scenario(Scenario(name="test", summary="", story=story, plan=WorldPlan(nodes=2), min_nodes=1), seed=3)
