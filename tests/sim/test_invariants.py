"""The invariants can fail: each of them is shown a world that breaks it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from trionode.appstate.changes import DeleteEvent, PutEvent
from trionode.appstate.facts import fact_of
from trionode.hosting.port import APPS_CHANGED, RunningApp
from trionode.peers.outbox import Tier
from trionode.registry.messages import message_document
from trionode.sim.scenario import RunFailed, Scenario, ScenarioError, run_scenario
from trionode.sim.scenarios import scenario_named
from trionode.sim.scenarios.registering import app_messages
from trionode.sim.world import World, WorldPlan
from trionode.wire.envelope import seal
from trionode.wire.frames import HashPresent
from trionode.wire.keys import NodeKey

PLAN = WorldPlan(nodes=6)


def failure_of(story: Callable[[World], Awaitable[None]], plan: WorldPlan = PLAN, seed: int = 9) -> RunFailed:
    scenario = Scenario(name="broken", summary="", story=story, plan=plan, min_nodes=2)
    with pytest.raises(RunFailed) as caught:
        run_scenario(scenario, seed=seed)
    return caught.value


def running(address: str, at_ms: int) -> dict[str, object]:
    return {
        "type": "fluxapprunning",
        "version": 2,
        "apps": [{"name": "web", "hash": "0" * 64}],
        "ip": address,
        "broadcastedAt": at_ms,
        "osUptime": 1,
        "staticIp": False,
    }


async def linked(world: World) -> None:
    await world.start_all()
    await world.until(lambda: all(world.peers(node) for node in world.nodes), 300, "links")


def test_the_report_says_where_when_and_how_to_replay() -> None:
    async def story(world: World) -> None:
        await world.start_all()
        await world.until(lambda: False, 30, "pigs fly")

    error = failure_of(story)
    assert "seed 9" in error.message
    assert "6 nodes" in error.message
    assert "virtual second 33.0" in error.message
    assert "pigs fly" in error.message
    assert "`trionode sim run broken --seed 9 --nodes 6`" in error.remedy
    assert len(error.trace) > 20


def test_an_announcement_twice_over_one_link() -> None:
    async def story(world: World) -> None:
        await linked(world)
        service = world.nodes[0].running.peers
        peer = next(iter(service.table))
        frame = service.forms.frame(HashPresent("ab" * 20))
        for _ in range(2):
            frame.send(peer, Tier.GOSSIP)
        await world.sleep(1)

    error = failure_of(story)
    assert "node0" in error.message
    assert "announced " + "ab" * 20 + " twice" in error.message


def test_a_full_text_that_nobody_asked_for_again() -> None:
    async def story(world: World) -> None:
        await linked(world)
        node = world.nodes[0]
        service = node.running.peers
        peer = next(iter(service.table))
        text = seal(running(node.address, node.clock.now_ms()), node.key, node.clock.now_ms()).text
        for _ in range(2):
            service.send_text(peer, text)
        await world.sleep(1)

    assert "2 times over the link" in failure_of(story).message


async def ask_and_answer(world: World, times: int, pause_s: float) -> None:
    """One node asks another for the same message again and again, and is told it each time."""
    await linked(world)
    asking, asked = world.nodes[:2]
    message = app_messages(world, 1)[0]
    await asked.running.registry.ingest_temporary(message_document(message))
    service = asking.running.peers
    peer = next(peer for peer in service.table if peer.ip == asked.ip)
    question = {"type": "fluxapprequest", "version": 2, "hashes": [message.hash]}
    for _ in range(times):
        service.send_text(peer, seal(question, asking.key, asking.clock.now_ms()).text)
        await world.sleep(pause_s)


def test_a_question_again_that_nobody_reads() -> None:
    async def story(world: World) -> None:
        await ask_and_answer(world, 2, 30)

    error = failure_of(story)
    assert "node0" in error.message
    assert "for the same 1 app messages again after 30.0 s" in error.message


def test_an_answer_to_each_question_is_no_relay() -> None:
    async def story(world: World) -> None:
        await ask_and_answer(world, 4, 430)
        assert world.nodes[1].running.counters["apprequests.answered"] == 4

    run_scenario(Scenario(name="asking", summary="", story=story, plan=PLAN, min_nodes=2), seed=9)


def test_an_app_message_again_that_nobody_asked_for() -> None:
    async def story(world: World) -> None:
        await linked(world)
        node = world.nodes[0]
        service = node.running.peers
        peer = next(iter(service.table))
        document = message_document(app_messages(world, 1)[0])
        for _ in range(2):
            service.send_text(peer, seal(document, node.key, node.clock.now_ms()).text)
        await world.sleep(1)

    assert "2 times over the link" in failure_of(story).message


@pytest.mark.parametrize("fault", ["wrong key", "bad signature"])
def test_unverified_content_in_the_store(fault: str) -> None:
    async def story(world: World) -> None:
        await linked(world)
        node, victim = world.nodes[0], world.nodes[1]
        now_ms = node.clock.now_ms()
        key = NodeKey.generate(random.Random(3)) if fault == "wrong key" else victim.key
        envelope = seal(running(victim.address, now_ms), key, now_ms)
        if fault == "bad signature":
            envelope = msgspec.structs.replace(envelope, timestamp=now_ms + 1)
        # Past the peers, straight into the log, as a node without a signature check would.
        await node.running.log.ingest(envelope, received_at_ms=now_ms)
        await world.sleep(1)

    expected = "not by its listed key" if fault == "wrong key" else "does not verify"
    assert expected in failure_of(story).message


@pytest.mark.parametrize("fault", ["lost", "invented"])
def test_an_index_that_is_not_the_fold_of_its_log(fault: str) -> None:
    async def story(world: World) -> None:
        await linked(world)
        world.start_apps(world.nodes[0])
        await world.until(lambda: len(world.locations(world.nodes[3])) > 0, 60, "apps are known")
        node = world.nodes[3]
        row = node.store.event_rows(world.nodes[0].address)[0]
        if fault == "lost":
            node.running.log.state.apply(DeleteEvent(row.key))
        else:
            # at a listed address, else the next eviction sweep would mend the index
            invented = msgspec.structs.replace(row, ip=world.nodes[5].address)
            node.running.log.state.apply(PutEvent(invented, fact_of(invented)))
        await world.sleep(700)

    message = failure_of(story).message
    assert "node3" in message
    assert "a fold of the stored log gives" in message


def test_a_crashed_node_ends_the_run_with_its_name() -> None:
    async def story(world: World) -> None:
        await linked(world)

        def broken() -> tuple[RunningApp, ...]:
            raise ZeroDivisionError("a bug in the engine")

        world.start_apps(*world.nodes)
        node = world.nodes[2]
        node.apps.apps = broken  # type: ignore[method-assign]
        node.running.bus.publish(APPS_CHANGED, {"names": []})
        await world.sleep(60)

    message = failure_of(story).message
    assert "a bug in the engine" in message
    assert "node2" in message


def test_a_story_that_finds_fault() -> None:
    async def story(world: World) -> None:
        await world.sleep(5)
        raise ScenarioError("that must not be")

    assert "virtual second 5.000: that must not be" in failure_of(story).message


def test_checks_can_be_left_out() -> None:
    scenario = scenario_named("restart")
    plan = msgspec.structs.replace(scenario.plan, checks=False)
    report = run_scenario(msgspec.structs.replace(scenario, plan=plan), seed=4, nodes=14)
    assert report.checks == 0
