"""Many app messages at once: each reaches every node by gossip alone (docs/spec/wire.md §5, §9, §14)."""

from __future__ import annotations

import pytest

from trionode.registry.messages import message_document
from trionode.sim.scenario import Scenario, ScenarioError, run_scenario
from trionode.sim.scenarios.registering import (
    BLOCK_S,
    SMALL_NETWORK,
    announce,
    app_messages,
    check_same,
    knows,
    pay,
    stand,
)
from trionode.sim.world import World, WorldPlan

MANY = 200
PLAN = WorldPlan(nodes=12, settings=SMALL_NETWORK, block_interval_s=BLOCK_S)


@pytest.mark.parametrize("announcers", [1, 4])
def test_many_apps_announced_at_once_are_known_to_all_before_they_are_paid(announcers: int) -> None:
    async def story(world: World) -> None:
        await stand(world, world.nodes)
        messages = app_messages(world, MANY)
        for number in range(announcers):
            await announce(world.nodes[number], messages[number::announcers])
        await world.sleep(20)
        for node in world.nodes:
            heard = {row.hash for row in await node.registry_store.temporaries()}
            if heard != {message.hash for message in messages}:
                raise ScenarioError(f"{node.name} has heard of {len(heard)} of {MANY} apps")
            if dropped := node.running.counters["peers.rate_limited"]:
                raise ScenarioError(f"{node.name} was sent {dropped} frames too fast")
        pay(world, messages)
        await world.until(
            lambda: all(knows(node, messages) for node in world.nodes), 120, "all know the apps"
        )
        await check_same(world, messages, world.nodes)

    run_scenario(Scenario(name="many", summary="", story=story, plan=PLAN, min_nodes=2), seed=7)


def test_payments_before_their_messages_are_asked_for_and_every_answer_counts() -> None:
    """All nodes but one miss the messages and ask each other, again and again."""

    async def story(world: World) -> None:
        await stand(world, world.nodes)
        messages = app_messages(world, 40)
        for message in messages:
            await world.nodes[0].running.registry.ingest_temporary(message_document(message))
        pay(world, messages)
        await world.until(
            lambda: all(knows(node, messages) for node in world.nodes), 3600, "all know the apps"
        )
        await check_same(world, messages, world.nodes)

    run_scenario(Scenario(name="asked", summary="", story=story, plan=PLAN, min_nodes=2), seed=7)
