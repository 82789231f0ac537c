"""Heartbeat and boot manager: what they do when store, engine or process fail on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trionode.config.tree import BootSettings, HostingSettings, SystemSettings
from trionode.errors import HostError, StoreError
from trionode.hosting.boot import BootGates, BootManager
from trionode.hosting.heartbeat import META_KEY, Heartbeat
from trionode.hosting.memory import MemoryHost
from trionode.hosting.removal import AppRemoval
from trionode.lifecycle.boot import BootAction, BootLimits, BootWait
from trionode.lifecycle.local import Component, InstalledApp
from trionode.lifecycle.reconcile import StartApp
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.machine import MemoryMachine
from trionode.store.memory import MemoryStore

APPS = tuple(InstalledApp(name, "", (Component(f"web_{name}"), Component(f"db_{name}"))) for name in "abc")


class World:
    """What outlives a process: machine, disk and engine; and the gates of the present one."""

    def __init__(self, apps: Sequence[InstalledApp] = APPS) -> None:
        self.machine = MemoryMachine()
        self.store = MemoryStore()
        self.host = MemoryHost(apps)
        self.clock = VirtualClock()
        self.confirmed = True
        self.dos = False
        self.listed = True
        self.fresh()

    def fresh(self) -> None:
        """What a new process finds."""
        self.bus = EventBus()
        self.host.bus = self.bus
        self.counters = Counters()
        self.daemon, self.status, self.data = Gate(), Gate(), Gate()
        self.engine = Gate(is_open=True)
        self.stops: set[str] = set()
        self.heartbeat = Heartbeat(SystemSettings(), self.store, self.machine, self.clock, self.counters)
        self.manager = BootManager(
            SystemSettings(),
            BootSettings(),
            HostingSettings(),
            BootLimits(),
            host=self.host,
            heartbeat=self.heartbeat,
            removal=AppRemoval(self.host, self.counters),
            gates=BootGates(
                daemon_ready=self.daemon,
                status_known=self.status,
                db_ready=self.data,
                confirmed=lambda: self.confirmed,
                is_dos=lambda: self.dos,
                listed=lambda app: self.listed,
                specs=lambda app: next(
                    (row.components for row in self.host.installed() if row.name == app), None
                ),
                engine_ready=self.engine,
                stops=lambda: self.stops,
            ),
            bus=self.bus,
            counters=self.counters,
        )

    def open_all(self) -> None:
        for gate in (self.daemon, self.status, self.data):
            gate.open()

    @asynccontextmanager
    async def process(self) -> AsyncIterator[None]:
        """One life of the process; its end is that of kill -9."""
        self.fresh()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.heartbeat.run)
            await nursery.start(self.manager.run)
            yield
            nursery.cancel_scope.cancel()

    def power_cut(self) -> None:
        self.machine.reboot()
        self.host.power_cut()

    async def live(self, seconds: float = 60) -> None:
        """A life without trouble."""
        async with self.process():
            self.open_all()
            await trio.sleep(seconds)

    def published(self) -> list[str]:
        return [event.name for event in self.bus.replay() if event.name.startswith("boot:")]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.trio
async def test_a_killed_process_finds_out_that_only_it_was_away(
    autojump_clock: MockClock, world: World
) -> None:
    await world.live(100)
    await trio.sleep(10_000)
    async with world.process():
        context = world.manager.context
        assert not context.machine_rebooted
        # The last beat was at 90 s: one every 30 s.
        assert context.downtime_ms == 10_010_000
        await world.manager.settled.wait()
        assert world.manager.decision is not None
        assert world.manager.decision.rule == 1
    assert world.host.actions == []


@pytest.mark.trio
async def test_the_heart_beats_while_the_daemon_is_away(autojump_clock: MockClock, world: World) -> None:
    """D-4: the age of the record is that of the process, not of the daemon's last answer."""
    await world.live()
    async with world.process():
        await trio.sleep(9_000)
    world.power_cut()
    async with world.process():
        assert world.manager.context.downtime_ms <= 30_000


@pytest.mark.trio
async def test_a_process_killed_in_the_middle_of_a_boot_starts_it_again(
    autojump_clock: MockClock, world: World
) -> None:
    await world.live()
    world.power_cut()
    async with world.process():
        await trio.sleep(100)
        assert world.manager.waits_for is BootWait.DAEMON
    async with world.process():
        assert world.manager.context.machine_rebooted, "nobody has brought the apps back yet"
        assert world.manager.context.downtime_ms >= 100_000
        world.open_all()
        await world.manager.settled.wait()
        assert world.manager.results.started == ["a", "b", "c"]
        await trio.sleep(1)
    async with world.process():
        assert not world.manager.context.machine_rebooted


@pytest.mark.trio
async def test_the_reason_of_a_shutdown_reaches_the_next_life_and_only_that(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.process():
        world.open_all()
        await trio.sleep(10)
        await world.heartbeat.record_shutdown("sigterm")
        await trio.sleep(100)
    world.power_cut()
    async with world.process():
        assert world.manager.context.clean_shutdown
        assert world.manager.context.downtime_ms == 100_000, "no beat came after the reason"
        world.open_all()
        await world.manager.settled.wait()
        await trio.sleep(1)
    world.power_cut()
    async with world.process():
        assert not world.manager.context.clean_shutdown


@pytest.mark.trio
async def test_a_life_that_read_nothing_writes_no_reason(autojump_clock: MockClock, world: World) -> None:
    await world.live()
    before = await world.store.get_meta(META_KEY)
    world.fresh()
    await world.heartbeat.record_shutdown("sigterm")
    assert await world.store.get_meta(META_KEY) == before


@pytest.mark.trio
@pytest.mark.parametrize("text", ["not json", "[]", '{"lastAlive": "soon"}'])
async def test_a_record_that_cannot_be_read_costs_no_start(
    autojump_clock: MockClock, world: World, text: str
) -> None:
    await world.store.put_meta(META_KEY, text)
    async with world.process():
        assert world.manager.context.first_boot
        assert world.counters["heartbeat.unreadable"] == 1


@pytest.mark.trio
async def test_a_store_that_refuses_a_beat_is_told_and_tried_again(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(key: str, value: str) -> None:
        await trio.lowlevel.checkpoint()
        raise StoreError("disk full")

    monkeypatch.setattr(world.store, "put_meta", refuse)
    async with world.process():
        await trio.sleep(61)
        assert world.counters["heartbeat.failed"] == 3


@pytest.mark.trio
async def test_a_removal_that_fails_does_not_stop_the_others(autojump_clock: MockClock, world: World) -> None:
    world.host.failing = {"b"}
    world.confirmed = False
    async with world.process():
        world.open_all()
        await world.manager.settled.wait()
        assert world.manager.decision is not None
        assert world.manager.decision.action is BootAction.REMOVE_ALL
        assert world.manager.results.removed == ["a", "c"]
        [(app, problem)] = world.manager.results.failed
        assert app == "b"
        assert "cannot remove b" in problem
        assert world.published() == ["boot:settled"]
    assert [row.name for row in world.host.installed()] == ["b"]


@pytest.mark.trio
async def test_a_start_that_fails_counts_as_failed(autojump_clock: MockClock, world: World) -> None:
    """D-3, and the rest of the app and the other apps are started all the same."""
    world.host.power_cut()
    world.host.failing = {"web_b"}
    async with world.process():
        world.open_all()
        await world.manager.settled.wait()
        assert world.manager.results.started == ["a", "c"]
        assert [name for name, _ in world.manager.results.failed] == ["web_b"]
        started = [target for what, target in world.host.actions if what == "start"]
        assert sorted(started) == ["db_a", "db_b", "db_c", "web_a", "web_b", "web_c"]
        for app in "abc":
            assert started.index(f"web_{app}") < started.index(f"db_{app}"), "in order within an app"
        assert world.host.actions[-1] == ("link", "")


@pytest.mark.trio
async def test_an_app_the_network_moved_elsewhere_is_removed(autojump_clock: MockClock, world: World) -> None:
    world.host.power_cut()
    world.listed = False
    async with world.process():
        world.open_all()
        await world.manager.settled.wait()
        assert world.manager.results.removed == ["a", "b", "c"]
    assert world.host.installed() == ()


@pytest.mark.trio
async def test_an_engine_that_hangs_cannot_hold_up_the_boot(autojump_clock: MockClock, world: World) -> None:
    world.host.power_cut()
    world.host.hanging = True
    async with world.process():
        world.open_all()
        begin = trio.current_time()
        await world.manager.settled.wait()
        assert trio.current_time() - begin == HostingSettings().engine_timeout_s
        assert "did not list its containers" in world.manager.results.failed[0][1]
        assert world.published() == ["boot:settled"]


@pytest.mark.trio
async def test_a_node_in_penalty_removes_its_apps(autojump_clock: MockClock, world: World) -> None:
    world.dos = True
    async with world.process():
        world.open_all()
        await world.manager.settled.wait()
        assert world.manager.decision is not None
        assert world.manager.decision.rule == 5


@pytest.mark.trio
async def test_without_apps_nothing_is_waited_for(autojump_clock: MockClock) -> None:
    world = World(apps=())
    async with world.process():
        with trio.fail_after(1):
            await world.manager.settled.wait()
        assert world.manager.decision is not None
        assert world.manager.decision.rule == 0


@pytest.mark.trio
async def test_every_wait_of_the_decision_ends(autojump_clock: MockClock, world: World) -> None:
    async with world.process():
        world.daemon.open()
        begin = trio.current_time()
        await world.manager.settled.wait()
        assert trio.current_time() - begin == SystemSettings().boot_daemon_timeout_s, "D-23"
        assert world.manager.decision is not None
        assert world.manager.decision.reason == "the confirmation stayed unknown"


@pytest.mark.trio
async def test_a_second_removal_of_all_leaves_it_to_the_first(
    autojump_clock: MockClock, world: World
) -> None:
    removal = AppRemoval(world.host, world.counters)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: removal.remove_all("first", pause_s=60))
        await trio.sleep(1)
        assert removal.in_progress
        assert (await removal.remove_all("second")).already_running
    assert not removal.in_progress
    assert world.host.installed() == ()


@pytest.mark.trio
async def test_an_engine_error_is_not_swallowed(autojump_clock: MockClock, world: World) -> None:
    world.host.failing = {"a"}
    with pytest.raises(HostError, match="cannot remove a"):
        await world.host.remove("a", reason="test")


MANY = tuple(
    InstalledApp(f"app{number}", "", tuple(Component(f"part{part}_app{number}") for part in range(3)))
    for number in range(50)
)


@pytest.mark.trio
async def test_many_apps_start_side_by_side_within_a_limit_and_each_in_order(
    autojump_clock: MockClock,
) -> None:
    world = World(MANY)
    await world.live()
    world.power_cut()
    under_way: set[str] = set()
    most = 0
    start = world.host.start

    async def slow(identifier: str) -> None:
        nonlocal most
        app = identifier.partition("_")[2]
        assert app not in under_way, "one component of an app at a time"
        under_way.add(app)
        most = max(most, len(under_way))
        await trio.sleep(0.5)
        await start(identifier)
        under_way.discard(app)

    world.host.start = slow  # type: ignore[method-assign]
    began_s = trio.current_time()
    async with world.process():
        world.open_all()
        await world.manager.settled.wait()
        took_s = trio.current_time() - began_s
        assert world.manager.results.started == [app.name for app in MANY], "told in the order of the plan"
        assert most == HostingSettings().parallel_starts
        assert took_s < 60
        for app in MANY:
            started = [
                name for what, name in world.host.actions if what == "start" and name.endswith(app.name)
            ]
            assert started[-3:] == [part.identifier for part in app.components]


@pytest.mark.trio
async def test_an_engine_that_is_late_is_waited_for(autojump_clock: MockClock, world: World) -> None:
    await world.live()
    world.power_cut()
    async with world.process():
        world.engine.close()
        world.open_all()
        await trio.sleep(100)
        assert world.published() == []
        world.engine.open()
        await world.manager.settled.wait()
        assert world.manager.results.started == ["a", "b", "c"]


@pytest.mark.trio
async def test_what_an_absent_engine_could_not_do_is_done_when_it_answers(
    autojump_clock: MockClock, world: World
) -> None:
    await world.live()
    world.power_cut()
    async with world.process():
        world.engine.close()
        world.open_all()
        await trio.sleep(HostingSettings().engine_timeout_s + 1)
        assert world.manager.settled.is_open, "the rest of the node does not wait for ever"
        assert world.manager.results.started == []
        assert "did not answer" in world.manager.results.failed[0][1]
        await trio.sleep(5_000)
        assert world.manager.pending == world.manager.decision
        world.engine.open()
        await trio.sleep(60)
        assert world.manager.results.started == ["a", "b", "c"]
        assert world.manager.pending is None


def pending(world: World) -> BootAction | None:
    return None if world.manager.pending is None else world.manager.pending.action


@pytest.mark.trio
async def test_what_is_to_be_done_can_be_asked_before_it_is(autojump_clock: MockClock, world: World) -> None:
    await world.live()
    world.power_cut()
    async with world.process():
        world.engine.close()
        assert pending(world) is None, "not decided"
        world.open_all()
        await trio.sleep(100)
        assert pending(world) is BootAction.RECONCILE
        world.stops = {"web_a"}
        steps = world.manager.steps(await world.host.containers())
        assert steps == (
            StartApp("a", ("db_a",), partial=True),
            StartApp("b", ("web_b", "db_b")),
            StartApp("c", ("web_c", "db_c")),
        )
        assert world.manager.results.checked == 0
        world.engine.open()
        await world.manager.settled.wait()
        assert pending(world) is None
        assert world.manager.results.partially_started == ["a"]
        assert world.manager.steps(await world.host.containers())[1:] == ()


@pytest.mark.trio
async def test_what_was_stopped_on_purpose_stays_stopped(autojump_clock: MockClock, world: World) -> None:
    await world.live()
    world.power_cut()
    async with world.process():
        world.stops = {"web_a", "web_b", "db_b"}
        world.open_all()
        await world.manager.settled.wait()
        assert world.manager.results.partially_started == ["a"]
        assert world.manager.results.stopped == ["b"]
        assert ("start", "web_a") not in world.host.actions
