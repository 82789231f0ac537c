"""Worlds: what starting, stopping, killing and power cuts look like to the other nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from trionode.config.tree import Settings, StoreSettings
from trionode.sim.conditions import Conditions
from trionode.sim.scenario import Scenario, run_scenario
from trionode.sim.world import World, WorldPlan, address_of


def play(story: Callable[[World], Awaitable[None]], plan: WorldPlan) -> None:
    run_scenario(Scenario(name="test", summary="", story=story, plan=plan, min_nodes=1), seed=2)


def closings(world: World, about: str) -> list[tuple[int | None, str]]:
    """Close codes (None: connection lost) of the ends of links with one node, at the others."""
    return [
        (record.code, record.reason)
        for node in world.up()
        for record in node.running.peers.table.history
        if record.event == "disconnect" and record.ip == about
    ]


def test_every_node_has_a_provider_of_its_own() -> None:
    prefixes = {address_of(number).rsplit(".", 2)[0] for number in range(1000)}
    assert len(prefixes) == 1000


@pytest.mark.parametrize(("how", "code"), [("kill", None), ("stop", 1001)])
def test_how_a_process_ends_is_what_its_peers_see(how: str, code: int | None) -> None:
    async def story(world: World) -> None:
        await world.start_all()
        await world.until(lambda: all(world.peers(node) >= 3 for node in world.nodes), 300, "links")
        victim = world.nodes[0]
        before = world.now_s
        await (world.kill(victim) if how == "kill" else world.stop(victim))
        assert not victim.is_running
        await world.sleep(0.5)
        codes = {found for found, _ in closings(world, victim.ip)}
        assert codes == {code}
        assert world.now_s - before < 5

    play(story, WorldPlan(nodes=6))


def test_a_power_cut_is_noticed_by_silence() -> None:
    async def story(world: World) -> None:
        await world.start_all()
        await world.until(lambda: all(world.peers(node) >= 3 for node in world.nodes), 300, "links")
        victim = world.nodes[0]
        await world.power_cut(victim)
        await world.sleep(4)
        assert closings(world, victim.ip) == []
        await world.sleep(60)
        assert closings(world, victim.ip)
        assert all(peer.ip != victim.ip for node in world.up() for peer in node.running.peers.table)
        await world.start(victim)
        await world.until(lambda: world.peers(victim) >= 3, 600, "the node is back among its peers")

    play(story, WorldPlan(nodes=6))


def test_a_hung_program_is_found_by_missed_pongs() -> None:
    async def story(world: World) -> None:
        await world.start_all()
        await world.until(lambda: all(world.peers(node) >= 3 for node in world.nodes), 300, "links")
        deaf = world.nodes[0]
        for node in world.nodes[1:]:
            world.network.block(node.ip, deaf.ip, "vanish")
        await world.sleep(50)
        assert sum(node.running.counters["peers.dead"] for node in world.nodes) >= 3
        assert all(peer.ip != deaf.ip for node in world.nodes[1:] for peer in node.running.peers.table)

    play(story, WorldPlan(nodes=6))


def test_a_one_way_partition_splits_and_heals() -> None:
    async def story(world: World) -> None:
        await world.stand_up()
        half = len(world.nodes) // 2
        world.partition(world.nodes[:half], world.nodes[half:], one_way=True)
        await world.sleep(300)
        crossing = [
            peer
            for node in world.nodes[:half]
            for peer in node.running.peers.table
            if peer.ip in {other.ip for other in world.nodes[half:]}
        ]
        assert crossing == []
        world.heal()
        await world.until(
            lambda: all(world.peers(node) >= 12 for node in world.nodes), 900, "the links are back"
        )

    play(story, WorldPlan(nodes=14))


def test_bandwidth_and_skewed_clocks_do_not_keep_nodes_from_agreeing() -> None:
    async def story(world: World) -> None:
        await world.stand_up()

    slow = Conditions(bandwidth_bytes_s=20_000, latency_min_ms=100, latency_max_ms=400)
    play(story, WorldPlan(nodes=14, conditions=slow, clock_skew_ms=30_000))


@pytest.mark.parametrize("means", ["vanish", "retransmit", "reset"])
def test_every_meaning_of_loss_lets_nodes_agree_in_the_end(means: str) -> None:
    async def story(world: World) -> None:
        await world.start_all()
        await world.sleep(600)
        world.heal()
        await world.until(lambda: all(world.peers(node) >= 12 for node in world.nodes), 900, "links")
        world.start_apps(*world.nodes)
        await world.until(world.knows_all, 120, "all agree in calm weather")

    weather = Conditions(loss=0.05, loss_means=means)  # type: ignore[arg-type]
    play(story, WorldPlan(nodes=14, conditions=weather))


def test_the_settings_of_the_store_reach_the_event_log() -> None:
    settings = Settings(store=StoreSettings(queue_batches=1, commit_batch_changes=7))

    async def story(world: World) -> None:
        await world.start_all()
        log = world.nodes[0].running.log
        assert (log.queue_batches, log.batch_changes) == (1, 7)

    play(story, WorldPlan(nodes=1, settings=settings))
