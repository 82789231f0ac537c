"""The spawner as a service: gates, deferrals, caches, collisions, ranks, caps, and many of them at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio
import trio.lowlevel
from spawnrig import Net, Node, Registry, app_spec, tuned
from trio.testing import MockClock

from trionode.config.tree import SpawnerSettings
from trionode.containers.actions import Outcome
from trionode.errors import StoreError
from trionode.plans.deferrals import Kind
from trionode.registry.images import BlockLists
from trionode.sim.scenario import deterministic_scheduling
from trionode.wire.envelope import seal
from trionode.wire.keys import NodeKey

USUAL = SpawnerSettings()


def one(*specs: dict[str, Any], **more: Any) -> tuple[Net, Node]:
    """A network of one node that may take these apps."""
    net = Net(Registry(*(specs or (app_spec("shop"),))))
    return net, Node(net, **more)


def waiting(*specs: dict[str, Any]) -> tuple[Net, Node]:
    """The same, not READY before `node.go()`."""
    net, node = one(*specs)
    node.ready.close()
    return net, node


async def heard(node: Node, number: int, data: dict[str, Any]) -> None:
    """The node hears a message of some other node."""
    key = NodeKey.generate(random.Random(1000 + number))
    full = {"ip": f"99.{number}.0.1", **data, "broadcastedAt": node.clock.now_ms()}
    await node.log.ingest(seal(full, key, node.clock.now_ms()))


async def runs_on(node: Node, number: int, app: str = "shop") -> None:
    entry = {"name": app, "hash": f"hash-{app}"}
    await heard(node, number, {"type": "fluxapprunning", "version": 2, "apps": [entry], "osUptime": 1})


async def installs_on(node: Node, number: int, app: str = "shop") -> None:
    await heard(node, number, {"type": "fluxappinstalling", "version": 1, "name": app})


@pytest.mark.trio
async def test_a_round_announces_waits_installs_and_rests(autojump_clock: MockClock) -> None:
    net, node = one()
    async with net.run():
        await trio.sleep(200)
        waited, told = USUAL.collision_wait_s, [step for step in node.done if step[1] == "tell"]
        assert told[0] == (0.0, "tell", "fluxappinstalling shop")
        assert (waited + node.install_s, "install", "shop") in node.done
        status = node.spawner.status
        assert (status.doing, status.rounds, status.installed) == ("pausing", 1, 1)
        assert status.last[0].reason == "installed"
        # the only candidate: the long pause, of which 45 s have passed
        assert status.next_in_s == pytest.approx(USUAL.long_delay_s - 45)
        assert node.expired == 1


@pytest.mark.trio
async def test_nothing_is_chosen_before_the_node_is_ready(autojump_clock: MockClock) -> None:
    net, node = waiting()
    async with net.run():
        await trio.sleep(50_000)
        assert node.spawner.status.doing == "waiting"
        assert node.done == []
        node.go()
        await trio.sleep(100)
        assert "shop" in node.apps


@pytest.mark.trio
async def test_a_pause_ends_with_readiness_and_its_return_is_a_round(
    autojump_clock: MockClock,
) -> None:
    net, node = one()
    node.height = 0
    async with net.run():
        await trio.sleep(10)
        assert node.published("spawner:blocked") == [{"reason": "not_synced"}]
        node.ready.close()
        node.bus.publish("spawner:paused")
        await trio.sleep(10)
        assert node.spawner.status.doing == "waiting"
        node.height = node.scanned_height
        node.go()
        await trio.sleep(96)
        assert "shop" in node.apps


@pytest.mark.trio
async def test_readiness_that_blinks_does_not_shorten_a_pause(autojump_clock: MockClock) -> None:
    net, node = one()
    async with net.run():
        await trio.sleep(200)
        for _ in range(5):
            node.ready.close()
            node.bus.publish("spawner:paused")
            node.ready.open()
            node.bus.publish("spawner:resumed")
            await trio.sleep(1)
        assert node.spawner.status.rounds == 1


@pytest.mark.trio
async def test_a_node_that_is_no_longer_ready_does_not_install(autojump_clock: MockClock) -> None:
    net, node = one()
    async with net.run():
        await trio.sleep(30)
        node.ready.close()
        node.bus.publish("spawner:paused")
        await trio.sleep(500)
        assert node.apps == {}
        assert node.spawner.status.doing == "waiting"
        node.ready.open()
        await trio.sleep(100)
        assert "shop" in node.apps


def behind(node: Node) -> None:
    node.scanned_height = node.height - 6


def closed(node: Node) -> None:
    node.db_ready.close()


def penalised(node: Node) -> None:
    node.state = 100


def unconfirmed(node: Node) -> None:
    node.confirmed = False


@pytest.mark.trio
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(behind, "not_synced"), (closed, "db_not_ready"), (penalised, "dos"), (unconfirmed, "not_confirmed")],
)
async def test_gates(autojump_clock: MockClock, spoil: Callable[[Node], None], reason: str) -> None:
    net, node = one()
    spoil(node)
    async with net.run():
        await trio.sleep(USUAL.blocked_delay_s * 2.5)
        assert node.published("spawner:blocked") == [{"reason": reason}] * 3
        assert node.done == []


@pytest.mark.trio
async def test_five_blocks_behind_and_a_penalty_below_100_block_nothing(autojump_clock: MockClock) -> None:
    net, node = one()
    node.scanned_height = node.height - 5
    node.state = 99.9
    async with net.run():
        await trio.sleep(100)
        assert "shop" in node.apps


@pytest.mark.trio
async def test_after_a_loss_of_confirmation_the_node_rests(autojump_clock: MockClock) -> None:
    net, node = one()
    node.confirmed = False
    async with net.run():
        await trio.sleep(10)
        node.confirmed = True
        await trio.sleep(USUAL.blocked_delay_s + USUAL.reconfirm_delay_s - 20)
        assert node.done == []
        await trio.sleep(120)
        assert "shop" in node.apps


@pytest.mark.trio
async def test_a_node_that_does_not_know_itself_waits(autojump_clock: MockClock) -> None:
    net, node = one()
    node.silent = True
    async with net.run():
        await trio.sleep(10)
        assert node.spawner.status.last[-1].reason == "the benchmark does not answer"
        assert node.published("spawner:blocked") == []
        node.silent, node.own_address = False, None
        await trio.sleep(USUAL.blocked_delay_s)
        assert node.spawner.status.last[-1].reason == "the own address is not known"


@pytest.mark.trio
async def test_a_full_node_takes_nothing(autojump_clock: MockClock) -> None:
    net, node = one()
    node.containers = 200
    async with net.run():
        await trio.sleep(USUAL.long_delay_s * 3)
        assert node.done == []
        node.containers = 199
        await trio.sleep(USUAL.long_delay_s)
        assert "shop" in node.apps


@pytest.mark.trio
@pytest.mark.parametrize("counted", ["running", "installing"])
async def test_apps_that_run_often_enough_are_left_alone(autojump_clock: MockClock, counted: str) -> None:
    net, node = waiting()
    async with net.run():
        for number in range(2):
            await runs_on(node, number)
        for number in range(2, 4):
            await (runs_on if counted == "running" else installs_on)(node, number)
        node.go()
        await trio.sleep(100)
        assert node.done == []


@pytest.mark.trio
async def test_a_node_listed_with_and_without_its_port_is_one_node(autojump_clock: MockClock) -> None:
    """It was taken over by a version that writes its address in another form."""
    net, node = waiting()
    async with net.run():
        for number in range(2):
            for ip in (f"99.{number}.0.1", f"99.{number}.0.1:16127"):
                entry = {"name": "shop", "hash": "hash-shop"}
                running = {"type": "fluxapprunning", "version": 2, "apps": [entry], "osUptime": 1}
                await heard(node, number, {**running, "ip": ip})
        assert len(node.log.locations("shop")) == 4
        node.go()
        await trio.sleep(100)
        assert "shop" in node.apps


@pytest.mark.trio
async def test_whoever_announced_earlier_goes_first(autojump_clock: MockClock) -> None:
    """Running 2 of 3 and one other install begun: ours is one too many; the other came first."""
    net, node = one()
    async with net.run():
        await runs_on(node, 1)
        await runs_on(node, 2)
        await trio.lowlevel.checkpoint()
        assert node.done == [(0.0, "tell", "fluxappinstalling shop")]
        node.clock.skew_ms = -10_000  # another node, whose message is 10 s older than ours
        await installs_on(node, 3)
        node.clock.skew_ms = 0
        await trio.sleep(500)
        assert node.apps == {}
        assert node.spawner.status.last[0].reason == "others announced it earlier"


@pytest.mark.trio
async def test_whoever_announced_later_gives_way_to_us(autojump_clock: MockClock) -> None:
    net, node = one()
    async with net.run():
        await runs_on(node, 1)
        await runs_on(node, 2)
        await trio.sleep(1)
        await installs_on(node, 3)
        await trio.sleep(100)
        assert "shop" in node.apps


@pytest.mark.trio
async def test_the_latest_of_too_many_goes_again(autojump_clock: MockClock) -> None:
    net, node = one()
    async with net.run():
        await trio.sleep(USUAL.collision_wait_s + 1)  # while it installs, three others are done
        for number in range(3):
            await runs_on(node, number)
        await trio.sleep(100)
        assert [what for _, what, _ in node.done if what != "tell"] == ["install", "remove"]
        assert node.apps == {}
        assert "hash-shop" not in node.spawner.memory.tried


@pytest.mark.trio
async def test_the_oldest_of_too_many_stays(autojump_clock: MockClock) -> None:
    net, node = one()
    async with net.run():
        await trio.sleep(USUAL.collision_wait_s + node.install_s + 1)
        for number in range(3):
            await runs_on(node, number)
        await trio.sleep(100)
        assert "shop" in node.apps


@pytest.mark.trio
async def test_a_failed_install_is_told_once_and_remembered(autojump_clock: MockClock) -> None:
    net, node = one()
    node.outcome = Outcome(ok=False, problem="no such image", step="pull web_shop")
    async with net.run():
        await trio.sleep(86_400 * 6)
        assert node.published("spawner:installFailed") == [{"appName": "shop", "hash": "hash-shop"}]
        node.outcome = Outcome(ok=True)
        await trio.sleep(86_400 * 2)
        assert "shop" in node.apps


@pytest.mark.trio
async def test_errors_of_five_nodes_are_told_and_block_nothing(autojump_clock: MockClock) -> None:
    net, node = waiting()
    async with net.run():
        for number in range(5):
            error = {"type": "fluxappinstallingerror", "version": 1, "name": "shop", "error": "{}"}
            await heard(node, number, {**error, "hash": "hash-shop"})
            await heard(node, number, {**error, "hash": "an-older-one"})
        node.go()
        await trio.sleep(100)
        assert node.published("spawner:networkErrorSkip") == [
            {"appName": "shop", "hash": "hash-shop", "errorCount": 5}
        ]
        assert "shop" in node.apps


@pytest.mark.trio
async def test_a_busy_node_tries_again_soon(autojump_clock: MockClock) -> None:
    net, node = one()
    node.busy = True
    async with net.run():
        await trio.sleep(USUAL.collision_wait_s + 1)
        assert node.spawner.status.last[0].reason == "the node was not free to install it"
        assert node.published("spawner:installFailed") == []
        node.busy = False
        await trio.sleep(USUAL.short_delay_s + 100)
        assert "shop" in node.apps


@pytest.mark.trio
async def test_a_node_that_may_not_speak_installs_nothing(autojump_clock: MockClock) -> None:
    net, node = one()
    node.can_send = False
    async with net.run():
        await trio.sleep(1000)
        assert node.done == []


def no_port(node: Node) -> None:
    node.port_problem = "Port 31000 cannot be reached from outside."


def no_image(node: Node) -> None:
    node.image_problem = "there is no such image"


def small(node: Node) -> None:
    node.machine = msgspec.structs.replace(node.machine, cores=1)


def blocked(node: Node) -> None:
    node.lists_of = BlockLists(blocked=("shop/shop:1",))


def no_lists(node: Node) -> None:
    node.lists_of = None


@pytest.mark.trio
@pytest.mark.parametrize(
    ("spoil", "word", "hours"),
    [
        (no_port, "cannot be reached", 12),
        (no_image, "no such image", 1),
        (small, "tenths of a core", 12),
        (no_lists, "nobody has the lists", 12),
        (blocked, "blocked repositories", 7 * 24),
    ],
)
async def test_what_keeps_an_app_away_and_for_how_long(
    autojump_clock: MockClock, spoil: Callable[[Node], None], word: str, hours: int
) -> None:
    net, node = one()
    usual = node.machine
    spoil(node)
    async with net.run():
        await trio.sleep(10)
        assert word in node.spawner.status.last[0].reason
        node.machine, node.lists_of, node.image_problem, node.port_problem = usual, BlockLists(), None, None
        await trio.sleep(hours * 3600 - 30)
        assert node.done == []
        await trio.sleep(USUAL.long_delay_s + 200)
        assert "shop" in node.apps


@pytest.mark.trio
@pytest.mark.parametrize(
    ("kind", "reason", "delay_s"),
    [
        ({"arcane": True}, "non_enterprise_on_arcane", 120),
        ({"static_ip": True}, "static_ip", 3420),
        ({"datacenter": True}, "datacenter", 3420),
        ({"tier": "stratus"}, "capacity_gap_large", 7020),
    ],
)
async def test_deferrals(autojump_clock: MockClock, kind: dict[str, Any], reason: str, delay_s: int) -> None:
    net, node = one()
    node.kind_of = Kind(address=node.address, **kind)
    async with net.run():
        await trio.sleep(delay_s - 1)
        assert node.published("spawner:deferred") == [
            {"appName": "shop", "reason": reason, "delayMs": delay_s * 1000}
        ]
        assert node.done == []
        assert [entry.app for entry in node.spawner.status.deferred] == ["shop"]
        await trio.sleep(USUAL.long_delay_s + 200)
        assert "shop" in node.apps
        assert len(node.published("spawner:deferred")) == 1


@pytest.mark.trio
async def test_an_app_with_file_sync_wants_its_peers_reachable(autojump_clock: MockClock) -> None:
    net, node = waiting(app_spec("shop", data="g:/d"))
    node.unreachable = {"99.1.0.1"}
    async with net.run():
        await runs_on(node, 1)
        node.go()
        await trio.sleep(60)
        assert node.spawner.status.last[0].reason == "a node to sync files with cannot be reached"
        assert [entry.reason for entry in node.spawner.status.deferred] == ["peers"]
        await trio.sleep(USUAL.defer_file_sync_s + USUAL.long_delay_s)
        assert "shop" in node.apps


@pytest.mark.trio
async def test_an_error_of_the_store_ends_the_round_and_not_the_service(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, node = one()

    async def broken(envelope: Any) -> Any:
        raise StoreError("the disk is full")

    async with net.run():
        with monkeypatch.context() as patch:
            patch.setattr(node.log, "apply_local", broken)
            await trio.sleep(10)
        assert "the disk is full" in node.spawner.status.last[0].reason
        assert node.counters["spawner.broken_rounds"] == 1
        await trio.sleep(USUAL.tried_ttl_s + 2 * USUAL.long_delay_s)
        assert "shop" in node.apps


@pytest.mark.trio
@pytest.mark.parametrize("latency_s", [0.01, 5.0, 40.0])
async def test_two_nodes_that_race_for_the_last_place(autojump_clock: MockClock, latency_s: float) -> None:
    """Both announce in the same moment; after the wait both see the same order, so one gives way."""
    net = Net(Registry(app_spec("shop", instances=1)), latency_s=latency_s)
    nodes = [Node(net, number) for number in (1, 2)]
    async with net.run():
        await trio.sleep(600)
        assert len(net.running("shop")) == 1
        assert sum("install" in step for node in nodes for step in node.done) == 1


@pytest.mark.trio
async def test_two_nodes_that_do_not_hear_each_other_in_time_mend_it(autojump_clock: MockClock) -> None:
    net = Net(Registry(app_spec("shop", instances=1)), latency_s=100)
    nodes = [Node(net, number) for number in (1, 2)]
    nodes[1].install_s = 50
    async with net.run():
        await trio.sleep(150)
        assert len(net.running("shop")) == 2
        await trio.sleep(400)
        assert net.running("shop") == [nodes[0].address]


def test_many_nodes_and_apps_end_where_they_should_never_above_and_always_alike() -> None:
    specs = [app_spec(f"app{n}", port=31000 + n, instances=1 + n % 4) for n in range(12)]
    told: list[list[Any]] = []

    async def main() -> None:
        net = Net(Registry(*specs))
        nodes = [Node(net, number, seed=3) for number in range(1, 16)]
        async with net.run():
            for _ in range(4 * 60):
                await trio.sleep(60)
                assert all(len(net.running(found["name"])) <= found["instances"] for found in specs)
            counts = {found["name"]: len(net.running(found["name"])) for found in specs}
            assert counts == {found["name"]: found["instances"] for found in specs}
        told.append([node.done for node in nodes])

    for _ in range(2):
        with deterministic_scheduling(3):
            trio.run(main, clock=MockClock(autojump_threshold=0))
    assert told[0] == told[1]


@pytest.mark.trio
async def test_a_test_network_shrinks_the_pauses(autojump_clock: MockClock) -> None:
    net, node = one(settings=tuned(delay_factor=0.002, collision_wait_s=5, verify_wait_s=1))
    async with net.run():
        await trio.sleep(16)
        assert "shop" in node.apps
        assert node.spawner.status.rounds > 1


def told(node: Node, app: str = "") -> list[tuple[str, str, str]]:
    """Its part of the present plan; asking for it changes nothing."""
    before = (node.spawner.memory.skipped(), list(node.done), len(node.events), node.expired)
    steps = node.spawner.plan(app)
    assert (node.spawner.memory.skipped(), list(node.done), len(node.events), node.expired) == before
    return [(step.kind, step.app, step.reason) for step in steps]


@pytest.mark.trio
async def test_the_plan_tells_what_the_round_under_way_is_about(autojump_clock: MockClock) -> None:
    net, node = waiting()
    async with net.run():
        await trio.sleep(1)
        assert told(node) == [("wait", "", "nothing is chosen before the node is READY")]
        node.go()
        await trio.sleep(1)
        ((kind, app, _),) = told(node)
        assert (kind, app) == ("choose", "shop")
        await trio.sleep(USUAL.collision_wait_s + 1)
        assert told(node)[0][:2] == ("install", "shop")


@pytest.mark.trio
async def test_the_plan_names_what_the_next_round_draws_from(autojump_clock: MockClock) -> None:
    net, node = one(*(app_spec(f"app{number}", port=31_000 + number) for number in range(8)))
    node.containers = 200
    async with net.run():
        await trio.sleep(100)
        ((kind, app, reason),) = told(node)
        assert (kind, app, reason) == ("wait", "", "200 containers run here, which is enough")
        node.containers = 0
        await trio.sleep(USUAL.long_delay_s)
        await trio.sleep(100)
        (chosen,) = node.apps
        rest = [f"app{number}" for number in range(8) if f"app{number}" != chosen]
        assert told(node) == [("choose", "", f"the next round draws one of {', '.join(rest[:5])} and 2 more")]
        assert told(node, rest[6].upper()) == [
            ("choose", rest[6], "the next round of the spawner draws it or one of 6 others")
        ]
        assert told(node, "other") == []
        assert told(node, chosen) == []
        node.apps[rest[0]] = 0
        assert told(node, rest[0]) == [], "it is here, a round would pass it over"
        del node.apps[rest[0]]
        node.confirmed = False
        assert told(node) == [("wait", "", "the node is not confirmed")]
        due_s = node.spawner.plan()[0].due_s
        assert due_s is not None
        await trio.sleep(due_s - trio.current_time() + 1)
        assert node.published("spawner:blocked") == [{"reason": "not_confirmed"}]


@pytest.mark.trio
async def test_the_plan_tells_what_is_left_to_others_and_when_it_is_due(autojump_clock: MockClock) -> None:
    net, node = one()
    node.kind_of = Kind(address=node.address, static_ip=True)
    async with net.run():
        await trio.sleep(100)
        (step,) = node.spawner.plan()
        assert (step.kind, step.app) == ("defer", "shop")
        assert step.reason == "left to others for a while: it needs no static address"
        assert step.when_ms is not None
        await trio.sleep((step.when_ms - node.clock.now_ms()) / 1000 + 1)
        assert told(node)[0] == ("choose", "shop", "it was put off and is due")
        await trio.sleep(USUAL.long_delay_s + 100)
        assert "shop" in node.apps
