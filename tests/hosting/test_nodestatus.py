"""What happens to the apps of a node that loses its standing, and when sweeps are made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trionode.config.tree import BootSettings, MonitorSettings
from trionode.errors import StoreError
from trionode.hosting.daemonhealth import DaemonWatch
from trionode.hosting.memory import MemoryHost
from trionode.hosting.nodestatus import NodeStatus
from trionode.hosting.port import RunningApp
from trionode.hosting.removal import AppRemoval, Leaving
from trionode.hosting.sweep import SweepReport
from trionode.lifecycle.confirmation import ConfirmationState
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.dosstate import DosState
from trionode.runtime.gate import Gate

APPS = tuple(RunningApp(name, "aa" * 32) for name in ("a", "b", "c"))


class Rig:
    """A node with three apps and a sweep that only counts."""

    def __init__(self) -> None:
        self.bus = EventBus()
        counters = Counters()
        self.host = MemoryHost(APPS)
        self.removal = AppRemoval(self.host, counters)
        self.dos = DosState(self.bus)
        self.confirmation = ConfirmationState(confirmed=True)
        self.synced = True
        self.boot_settled = Gate(is_open=True)
        self.sweeps: list[float] = []
        self.report = SweepReport()
        self.fails = False
        self.monitor = NodeStatus(
            MonitorSettings(),
            BootSettings(),
            facts=self,
            sweep=self,  # type: ignore[arg-type]
            removal=self.removal,
            dos=self.dos,
            bus=self.bus,
            counters=counters,
            boot_settled=self.boot_settled,
        )
        self.daemon = DaemonWatch(MonitorSettings(), BootSettings(), facts=self, removal=self.removal)

    async def run(self) -> SweepReport:
        """The sweep."""
        await trio.lowlevel.checkpoint()
        self.sweeps.append(trio.current_time())
        if self.fails:
            raise StoreError("the disk is full")
        return self.report

    def confirm(self, confirmed: bool | None) -> None:
        self.confirmation = ConfirmationState(confirmed=confirmed)
        self.bus.publish("confirmation:changed", {"confirmed": confirmed})

    def go_stale(self) -> None:
        self.confirmation = ConfirmationState(confirmed=True, stale=True)
        self.bus.publish("chain:stale", {})

    @property
    def left(self) -> list[str]:
        return [app.name for app in self.host.installed()]


@asynccontextmanager
async def running(rig: Rig, service: Any = None) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        await nursery.start((service or rig.monitor).run)
        yield rig
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_sweeps_begin_late_and_come_back(autojump_clock: MockClock) -> None:
    async with running(Rig()) as rig:
        await trio.sleep(4000)
        assert rig.sweeps == [90, 1290, 2490, 3690]
        assert rig.left == ["a", "b", "c"]
        assert rig.monitor.status.last_sweep == SweepReport()
        assert rig.monitor.status.last_sweep_age_s == pytest.approx(310)


@pytest.mark.trio
async def test_a_skipped_or_broken_sweep_is_tried_again_soon(autojump_clock: MockClock) -> None:
    async with running(Rig()) as rig:
        rig.report = SweepReport(skipped="the daemon is not synced")
        await trio.sleep(220)
        rig.fails = True
        await trio.sleep(120)
        rig.fails, rig.report = False, SweepReport()
        await trio.sleep(1500)
        assert rig.sweeps == [90, 210, 330, 450, 1650]


@pytest.mark.trio
@pytest.mark.parametrize("cause", ["unconfirmed", "stale", "penalty"])
async def test_apps_go_at_once_and_one_by_one(cause: str, autojump_clock: MockClock) -> None:
    async with running(Rig()) as rig:
        await trio.sleep(10)
        if cause == "unconfirmed":
            rig.confirm(False)
        elif cause == "stale":
            rig.go_stale()
        else:
            rig.dos.set(100, "collision")
        await trio.sleep(0.1)
        assert rig.left == ["b", "c"]
        assert rig.monitor.status.removing
        await trio.sleep(59)
        assert rig.left == ["b", "c"]
        await trio.sleep(1)
        assert rig.left == ["c"]
        await trio.sleep(60)
        assert rig.left == []
        await trio.sleep(3000)
        assert rig.sweeps == [], "a node without standing judges nobody"
        if cause == "unconfirmed":
            rig.confirm(True)
            await trio.sleep(1200)
            assert len(rig.sweeps) == 1


@pytest.mark.trio
async def test_removal_ends_with_its_reason(autojump_clock: MockClock) -> None:
    async with running(Rig()) as rig:
        await trio.sleep(10)
        rig.confirm(False)
        await trio.sleep(30)
        rig.confirm(True)
        await trio.sleep(500)
        assert rig.left == ["b", "c"]
        rig.confirm(False)
        await trio.sleep(200)
        assert rig.left == []


@pytest.mark.trio
async def test_a_small_penalty_costs_nothing(autojump_clock: MockClock) -> None:
    async with running(Rig()) as rig:
        rig.dos.set(99, "some")
        await trio.sleep(100)
        assert rig.left == ["a", "b", "c"]
        assert rig.sweeps == [90]


@pytest.mark.trio
async def test_not_known_is_not_no(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.confirmation = ConfirmationState(confirmed=None)
    async with running(rig):
        await trio.sleep(10_000)
        assert rig.left == ["a", "b", "c"]
        assert rig.sweeps == []
        assert rig.monitor.status.reason == "not known"


@pytest.mark.trio
async def test_before_the_boot_decision_is_carried_out_the_apps_are_not_ours(
    autojump_clock: MockClock,
) -> None:
    rig = Rig()
    rig.boot_settled.close()
    rig.confirmation = ConfirmationState(confirmed=False)
    async with running(rig):
        rig.confirm(False)
        await trio.sleep(500)
        assert rig.left == ["a", "b", "c"]
        rig.boot_settled.open()
        await trio.sleep(0.1)
        assert rig.left == ["b", "c"]


@pytest.mark.trio
async def test_one_app_that_cannot_be_removed_does_not_save_the_others(autojump_clock: MockClock) -> None:
    async with running(Rig()) as rig:
        rig.host.failing.add("a")
        rig.confirm(False)
        await trio.sleep(200)
        assert rig.left == ["a"]
        rig.host.failing.clear()
        await trio.sleep(1300)
        assert rig.left == [], "the next round tries again"


@pytest.mark.trio
async def test_two_hours_behind_cost_the_apps(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.synced = False
    async with running(rig, rig.daemon):
        await trio.sleep(300 + 7199)
        assert rig.left == ["a", "b", "c"]
        assert rig.daemon.unsynced_for_s == pytest.approx(7199)
        await trio.sleep(2)
        assert rig.left == ["b", "c"]
        await trio.sleep(180)
        assert rig.left == ["c"]
        rig.synced = True
        await trio.sleep(180)
        assert rig.left == ["c"], "the daemon is back: the rest may stay"
        rig.synced = False
        await trio.sleep(7000)
        assert rig.left == ["c"]


@pytest.mark.trio
async def test_a_daemon_that_comes_and_goes_costs_nothing(autojump_clock: MockClock) -> None:
    rig = Rig()
    async with running(rig, rig.daemon):
        for _ in range(20):
            rig.synced = False
            await trio.sleep(6000)
            rig.synced = True
            await trio.sleep(1000)
        assert rig.left == ["a", "b", "c"]


@pytest.mark.trio
async def test_what_is_foreseen_is_told_and_not_done(autojump_clock: MockClock) -> None:
    rig = Rig()
    assert rig.monitor.leaving() is None
    rig.confirm(None)
    assert rig.monitor.leaving() is None
    rig.confirm(False)
    assert rig.monitor.leaving() == Leaving("not confirmed", None, 60)
    assert rig.left == ["a", "b", "c"]
    async with running(rig):
        await trio.sleep(10)
        assert rig.removal.under_way == Leaving("not confirmed", 60.0, 60)
        await trio.sleep(200)
        assert rig.removal.under_way is None


@pytest.mark.trio
async def test_a_daemon_behind_says_when_it_costs_the_apps(autojump_clock: MockClock) -> None:
    rig = Rig()
    async with running(rig, rig.daemon):
        await trio.sleep(310)
        assert rig.daemon.leaving() is None
        rig.synced = False
        assert rig.daemon.leaving() == Leaving("daemon not synced", 310.0 + 7200, 180)
        await trio.sleep(600)
        found = rig.daemon.leaving()
        assert found is not None
        assert found.due_s is not None
        await trio.sleep(found.due_s - trio.current_time() - 1)
        assert rig.left == ["a", "b", "c"]
        rig.synced = True
        assert rig.daemon.leaving() is None
        rig.synced = False
        await trio.sleep(1000)
        assert rig.left == []
        assert rig.daemon.leaving() is None, "they went, once until it is synced again"
