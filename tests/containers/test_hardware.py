"""A machine that shrinks keeps the apps it had first."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from fakeactions import FakeActions

from trionode.config.tree import BootSettings, MonitorSettings, ResourceSettings
from trionode.containers.monitors.hardware import SECOND_LOOK_S, HardwareWatch
from trionode.errors import ChainError
from trionode.lifecycle.limits import Machine, Need
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate

BIG, SMALL = Machine(8, 32_000, 500), Machine(4, 8_000, 500)


class Room:
    def __init__(self, machine: Machine | None) -> None:
        self.present = machine
        self.fails = False

    async def machine(self) -> Machine | None:
        await trio.lowlevel.checkpoint()
        if self.fails:
            raise ChainError("the benchmark does not answer")
        return self.present

    async def needs(self) -> list[Need]:
        await trio.lowlevel.checkpoint()
        return self.needs_now()

    def needs_now(self) -> list[Need]:
        return [Need("new", 200, 2, 4_000, 10), Need("old", 100, 2, 4_000, 10)]


def watch(room: Room, actions: FakeActions, gate: Gate, boot: BootSettings | None = None) -> HardwareWatch:
    return HardwareWatch(
        MonitorSettings(),
        ResourceSettings(),
        boot or BootSettings(),
        room=room,
        actions=actions,
        boot_settled=gate,
        counters=Counters(),
    )


@pytest.mark.trio
async def test_the_newest_app_goes_when_the_machine_shrinks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    room, actions, gate = Room(BIG), FakeActions(), Gate()
    gate.open()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch(room, actions, gate).run)
        await trio.sleep(60)
        assert actions.removed == []
        room.present = SMALL
        await trio.sleep(MonitorSettings().hardware_interval_s + SECOND_LOOK_S)
        assert [(removal.app, removal.force) for removal in actions.removed] == [("new", True)]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
@pytest.mark.parametrize("then", [BIG, None])
async def test_one_answer_removes_nothing(
    autojump_clock: trio.testing.MockClock, then: Machine | None
) -> None:
    """The benchmark was mistaken once: a disk of one gigabyte, say."""
    room, actions, gate = Room(Machine(8, 32_000, 1)), FakeActions(), Gate(is_open=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(watch(room, actions, gate).run)
        await trio.sleep(60)
        room.present = then
        await trio.sleep(MonitorSettings().hardware_interval_s)
        assert actions.removed == []
        nursery.cancel_scope.cancel()


@pytest.mark.trio
@pytest.mark.parametrize("fails", [True, False])
async def test_what_is_not_known_removes_nothing(autojump_clock: trio.testing.MockClock, fails: bool) -> None:
    room, actions, gate = Room(None), FakeActions(), Gate()
    room.fails = fails
    gate.open()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch(room, actions, gate).run)
        await trio.sleep(80_000)
        assert actions.removed == []
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_nothing_is_judged_before_the_boot_decision(
    autojump_clock: trio.testing.MockClock,
) -> None:
    actions, gate = FakeActions(), Gate()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch(Room(SMALL), actions, gate).run)
        await trio.sleep(60)
        assert actions.removed == []
        gate.open()
        await trio.sleep(SECOND_LOOK_S + 10)
        assert [removal.app for removal in actions.removed] == ["new"]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_the_first_look_follows_the_boot_schedule(autojump_clock: trio.testing.MockClock) -> None:
    boot = BootSettings(hardware_delay_s=300, delay_factor=0.1)
    actions = FakeActions()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch(Room(SMALL), actions, Gate(is_open=True), boot).run)
        await trio.sleep(SECOND_LOOK_S + 29)
        assert actions.removed == []
        await trio.sleep(2)
        assert [removal.app for removal in actions.removed] == ["new"]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_the_plan_judges_by_the_machine_seen_last(autojump_clock: trio.testing.MockClock) -> None:
    room, actions, gate = Room(SMALL), FakeActions(), Gate(is_open=True)
    actions.problem = "the engine is away"
    service = watch(room, actions, gate)
    assert service.plan() == ()
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        await trio.sleep(60)
        (step,) = service.plan()
        assert (step.kind, step.app) == ("remove", "new")
        assert step.due_s is not None
        room.present = BIG
        assert service.plan() == (step,), "nobody is asked"
        await trio.sleep(MonitorSettings().hardware_interval_s)
        assert service.plan() == ()
        nursery.cancel_scope.cancel()
