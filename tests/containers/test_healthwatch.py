"""Containers that should run, run: at once after their own end, patiently after another (§9)."""

from __future__ import annotations

import pytest
import trio
from appworld import app, base, part
from hostworld import INTERVAL_S, HostWorld, Node
from trio.testing import MockClock

from trionode.containers.actions import Outcome
from trionode.containers.health.tampering import TAMPERING
from trionode.containers.memory.objects import RegistryImage
from trionode.containers.operations import Work

CORE = "fluxcore_base"


async def install(node: Node, spec: dict[str, object]) -> None:
    outcome = await node.life.actions.install(spec, reason="the test")
    assert outcome.ok, outcome.problem


def starts(world: HostWorld, container: str) -> int:
    return sum(action == ("start", container) for action in world.engine.actions)


@pytest.fixture
def world() -> HostWorld:
    return HostWorld()


@pytest.mark.trio
async def test_a_container_that_crashed_is_back_within_a_second(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        await trio.sleep(5)
        world.engine.crash(CORE)
        await trio.sleep(1)
        assert world.state(CORE) == "running"
        assert node.counters["containers.health.ended.itself"] == 1
        assert node.health.crashes["core_base"].count == 1


@pytest.mark.trio
async def test_a_crash_loop_waits_ever_longer_and_is_forgiven(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        began = starts(world, CORE)
        for wait_s in (0.0, 30.0, 300.0, 900.0, 1800.0, 1800.0):
            world.engine.crash(CORE)
            await trio.sleep(max(wait_s - 2, 0))
            if wait_s:
                assert world.state(CORE) == "exited", f"started before {wait_s} s"
            await trio.sleep(3)
            assert world.state(CORE) == "running", f"not started after {wait_s} s"
        assert starts(world, CORE) - began == 6
        await trio.sleep(601)
        world.engine.crash(CORE)
        await trio.sleep(1)
        assert world.state(CORE) == "running", "it ran well for ten minutes"
        assert node.health.crashes["core_base"].count == 1


@pytest.mark.trio
async def test_what_somebody_stopped_is_started_when_two_passes_saw_it(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        await trio.sleep(10)
        await world.engine.stop(CORE, 5)
        await trio.sleep(INTERVAL_S - 20)
        assert world.state(CORE) == "exited"
        assert not node.health.crashes
        await trio.sleep(INTERVAL_S)
        assert world.state(CORE) == "exited", "seen once"
        await trio.sleep(60)
        assert world.state(CORE) == "running"


@pytest.mark.trio
async def test_a_change_elsewhere_does_not_count_as_a_second_sight(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        await install(node, app("other", part("web")))
        await world.engine.stop(CORE, 5)
        await trio.sleep(INTERVAL_S + 10)
        world.engine.crash("fluxweb_other")
        await trio.sleep(5)
        assert world.state("fluxweb_other") == "running"
        assert world.state(CORE) == "exited"


@pytest.mark.trio
async def test_stopped_on_purpose_stays_stopped(autojump_clock: MockClock, world: HostWorld) -> None:
    async with world.process() as node:
        await install(node, base())
        await node.stops.add(["core_base"])
        await world.engine.stop(CORE, 5)
        await trio.sleep(5 * INTERVAL_S)
        assert world.state(CORE) == "exited"


@pytest.mark.trio
async def test_a_vanished_container_is_made_again_with_its_volume(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        volume = world.disk.held[CORE]
        world.engine.vanish(CORE)
        await trio.sleep(1)
        assert world.state(CORE) == "running"
        assert world.disk.held[CORE] is volume
        assert [data["kind"] for data in node.told(TAMPERING)] == ["container_vanished"]
        assert [event.kind for event in node.tampering.events("base")] == ["container_vanished"]


@pytest.mark.trio
async def test_a_vanished_waiting_container_is_made_again_and_not_started(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, app("waits", part("db", containerData="g:/data")))
        await world.engine.kill("fluxdb_waits")
        await trio.sleep(2 * INTERVAL_S)
        assert world.state("fluxdb_waits") in {"created", "exited"}, "its election decides"
        world.engine.vanish("fluxdb_waits")
        await trio.sleep(INTERVAL_S)
        assert world.state("fluxdb_waits") == "created"
        assert node.told(TAMPERING) == []


@pytest.mark.trio
async def test_recreation_that_fails_as_often_as_a_start_may_removes_the_app_and_says_why(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        world.engine.failing.add(("create", "*"))
        world.engine.vanish(CORE)
        await trio.sleep(2000)
        assert node.life.installed.names() == {"base"}
        assert world.engine.calls["create"] == 5
        assert [data["kind"] for data in node.told(TAMPERING)] == ["container_vanished"]
        (step,) = await node.health.plan()
        assert "could not be made again, 4 times" in step.reason
        await trio.sleep(2000)
        assert node.life.installed.names() == frozenset()
        kinds = [data["kind"] for data in node.told(TAMPERING)]
        assert kinds == ["container_vanished", "recreation_failed"]
        assert "core_base" in node.told(TAMPERING)[-1]["reason"]
        assert node.told("app:removed") == [{"name": "base"}]


@pytest.mark.trio
async def test_a_container_somebody_made_meanwhile_saves_the_app(
    autojump_clock: MockClock, world: HostWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.process() as node:
        await install(node, base())
        make = node.life.actions.recreate

        async def made_by_another(app: str, identifier: str, *, keeps_volume: bool, start: bool) -> Outcome:
            await make(app, identifier, keeps_volume=keeps_volume, start=start)
            return Outcome(False, "the name is already in use")

        monkeypatch.setattr(node.life.actions, "recreate", made_by_another)
        world.engine.vanish(CORE)
        await trio.sleep(120)
        assert node.life.installed.names() == {"base"}


@pytest.mark.trio
async def test_a_start_that_fails_is_tried_as_often_as_there_are_waits(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        world.engine.failing.add(("start", CORE))
        world.engine.crash(CORE)
        await trio.sleep(2000)
        assert node.life.installed.names() == {"base"}, "a port that is taken may be freed"
        await trio.sleep(4000)
        assert node.life.installed.names() == frozenset()
        assert node.counters["containers.health.removed"] == 1


@pytest.mark.trio
async def test_an_engine_that_goes_away_costs_no_app(autojump_clock: MockClock, world: HostWorld) -> None:
    async with world.process() as node:
        await install(node, base())
        world.engine.vanish(CORE)
        world.engine.hub.away = True
        await trio.sleep(3000)
        assert node.life.installed.names() == {"base"}
        assert not node.reachable.is_open
        world.engine.hub.away = False
        await trio.sleep(70)
        assert world.state(CORE) == "running"


@pytest.mark.trio
async def test_after_a_restart_of_the_engine_all_are_back_and_none_counts_as_a_crash_loop(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        await install(node, app("other", part("web")))
        await node.stops.add(["web_other"])
        await world.engine.stop("fluxweb_other", 5)
        for _ in range(3):
            await trio.sleep(700)
            world.engine.restart_engine()
            await trio.sleep(2)
            assert world.state(CORE) == "running"
        assert world.state("fluxweb_other") == "exited"
        assert node.health.crashes["core_base"].count == 1


@pytest.mark.trio
async def test_unhealthy_is_restarted_at_once_then_with_patience(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        before = starts(world, CORE)
        world.engine.set_health(CORE, "unhealthy")
        await trio.sleep(1)
        assert starts(world, CORE) == before + 1
        world.engine.set_health(CORE, "unhealthy")
        await trio.sleep(20)
        assert starts(world, CORE) == before + 1
        await trio.sleep(15)
        assert starts(world, CORE) == before + 2
        assert node.life.installed.names() == {"base"}


@pytest.mark.trio
@pytest.mark.parametrize("away_s", [1, 40, 200])
async def test_what_went_down_with_a_slow_engine_is_back(
    autojump_clock: MockClock, world: HostWorld, away_s: float
) -> None:
    async with world.process() as node:
        await install(node, base())
        await world.engine.stop(CORE, 5)
        await trio.sleep(0.1)
        assert node.host.states()[CORE] == "exited"  # heard
        world.engine.unreachable = True
        await trio.sleep(away_s)
        world.engine.unreachable = False
        await trio.sleep(9)
        assert world.state(CORE) == "running"


@pytest.mark.trio
async def test_what_a_backup_holds_is_left_alone(autojump_clock: MockClock, world: HostWorld) -> None:
    async with world.process() as node:
        await install(node, base())
        with node.life.operations.holding("base"):
            await world.engine.stop(CORE, 5)
            await trio.sleep(3 * INTERVAL_S)
            assert world.state(CORE) == "exited"
            assert [found.name for found in node.host.apps() or ()] == ["base"], "announced all the same"
        await trio.sleep(5)
        assert world.state(CORE) == "running", "it stood still on behalf of the backup"


@pytest.mark.trio
async def test_what_a_backup_gave_back_is_tried_until_it_runs(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        with node.life.operations.holding("base"):
            await world.engine.stop(CORE, 5)
            await trio.sleep(10)
            world.engine.failing.add(("start", CORE))
        await trio.sleep(10)
        assert world.state(CORE) == "exited"
        world.engine.failing.clear()
        await trio.sleep(INTERVAL_S / 2)
        assert world.state(CORE) == "running"
        await world.engine.stop(CORE, 5)
        await trio.sleep(INTERVAL_S / 3)
        assert world.state(CORE) == "exited", "that one was no backup"


@pytest.mark.trio
async def test_what_a_backup_gave_back_during_an_operation_is_started_after_it(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        with node.life.operations.doing(Work.SOFT_REDEPLOY, "base"):
            with node.life.operations.holding("base"):
                await world.engine.stop(CORE, 5)
                await trio.sleep(10)
            await trio.sleep(10)
            assert world.state(CORE) == "exited"
        await trio.sleep(5)
        assert world.state(CORE) == "running"


@pytest.mark.trio
async def test_an_app_that_is_worked_on_is_left_alone_and_others_are_not(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        await install(node, app("other", part("web")))
        with node.life.operations.doing(Work.SOFT_REDEPLOY, "base"):
            world.engine.vanish(CORE)
            world.engine.crash("fluxweb_other")
            await trio.sleep(100)
            assert world.state(CORE) is None
            assert world.state("fluxweb_other") == "running"
        await trio.sleep(1)
        assert world.state(CORE) == "running"


@pytest.mark.trio
async def test_nothing_is_made_while_another_operation_runs(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        with node.life.operations.doing(Work.INSTALL, "elsewhere"):
            world.engine.vanish(CORE)
            looks = len(world.disk.steps)
            await trio.sleep(500)
            assert len(world.disk.steps) - looks < 10, "its end is waited for, not looked for"
            assert world.state(CORE) is None
            assert node.told(TAMPERING) == [], "said once, when it is seen to"
        await trio.sleep(1)
        assert world.state(CORE) == "running"


@pytest.mark.trio
async def test_before_the_boot_decision_and_while_leaving_nothing_is_started(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
    async with world.process(settled=False) as node:
        world.engine.crash(CORE)
        await trio.sleep(1000)
        assert world.state(CORE) == "exited"
        node.settled.open()
        await trio.sleep(1)
        assert world.state(CORE) == "running", "it ended by itself while we looked"
        node.departing = True
        world.engine.crash(CORE)
        await trio.sleep(INTERVAL_S)
        assert world.state(CORE) == "exited"


@pytest.mark.trio
async def test_received_files_are_waited_for(autojump_clock: MockClock, world: HostWorld) -> None:
    async with world.process() as node:
        await install(node, app("synced", part("web", containerData="r:/data")))
        assert world.state("fluxweb_synced") == "created"
        await trio.sleep(2 * INTERVAL_S)
        assert world.state("fluxweb_synced") == "created", "no own location row"
        world.since_ms["synced"] = node.clock.now_ms() - 29 * 60_000
        await trio.sleep(3 * INTERVAL_S)
        assert world.state("fluxweb_synced") == "running"


@pytest.mark.trio
async def test_a_pass_over_many_healthy_containers_asks_the_engine_nothing(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    world.engine.registry["library/web:1"] = RegistryImage()
    async with world.process() as node:
        for number in range(20):
            parts = [part(f"c{index}", image="library/web:1", cpu=0.01, ram=20, hdd=1) for index in range(3)]
            await install(node, app(f"app{number}", *parts))
        await trio.sleep(INTERVAL_S)
        before = dict(world.engine.calls)
        assert await node.health.plan() == ()
        assert dict(world.engine.calls) == before


@pytest.mark.trio
async def test_the_plan_says_when(autojump_clock: MockClock, world: HostWorld) -> None:
    async with world.process() as node:
        await install(node, app("shop", part("web"), part("db"), part("other", image="library/web:1")))
        await world.engine.stop("fluxdb_shop", 9.0)
        await trio.sleep(INTERVAL_S + 10)
        slow_s = 2 * INTERVAL_S
        (again,) = await node.health.plan()
        assert (again.kind, again.component, again.due_s) == ("start", "db_shop", slow_s)
        await world.engine.stop("fluxother_shop", 9.0)
        await trio.sleep(1)
        assert [(step.kind, step.component, step.due_s) for step in await node.health.plan()] == [
            ("start", "db_shop", slow_s),
            ("remember", "other_shop", slow_s),
        ]
        with node.life.operations.doing(Work.INSTALL, "mail"):
            world.engine.vanish("fluxweb_shop")
            await trio.sleep(5)
            first, *_ = await node.health.plan()
            assert (first.kind, first.component, first.due_s) == ("recreate", "web_shop", None)
            assert first.reason.endswith("it waits for the end of what is under way")
            assert world.state("fluxweb_shop") is None
        await trio.sleep(60)
        assert world.state("fluxweb_shop") == "running"
