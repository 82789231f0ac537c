"""What a sudden death left half done is undone when the engine answers, not before (§12, §15)."""

from __future__ import annotations

import pytest
import trio
from appworld import AppWorld, app, base, part
from hostworld import HostWorld
from trio.testing import MockClock

from trionode.containers.health.localstate import AGAIN_S, LocalState
from trionode.containers.install.records import AppRecord, PartRecord
from trionode.containers.operations import Work
from trionode.hosting.removal import AppRemoval
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate


@pytest.mark.trio
async def test_left_half_done_is_undone_when_the_engine_answers(autojump_clock: MockClock) -> None:
    world = AppWorld()
    life = await world.life()
    outcome = await life.actions.install(base(), reason="the test")
    assert outcome.ok
    record = AppRecord("half", "installing", (PartRecord("web_half", "library/web:1"),))
    await life.records.put(record)

    ready, counters = Gate(), Counters()
    state = LocalState(life.actions, ready, counters)
    async with trio.open_nursery() as nursery:
        await nursery.start(state.run)
        assert life.installed.names() == {"base"}
        await trio.sleep(1000)
        assert life.records.unfinished() == (record,), "not without the engine"
        world.engine.failing.add(("containers", "*"))
        ready.open()
        await trio.sleep(1)
        world.engine.failing.clear()
        await trio.sleep(AGAIN_S + 1)
        assert life.records.unfinished() == ()
        assert life.installed.names() == {"base"}
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_removal_that_failed_is_tried_again_in_the_same_life(autojump_clock: MockClock) -> None:
    world = AppWorld()
    life = await world.life()
    ready = Gate(is_open=True)
    async with trio.open_nursery() as nursery:
        state = LocalState(life.actions, ready, Counters())
        await nursery.start(state.run)
        await trio.sleep(80_000)  # long after the first recovery, which found nothing
        assert (await life.actions.install(base(), reason="the test")).ok
        world.disk.failing["delete"] = None
        assert not (await life.actions.remove("base", reason="the test", force=True)).ok
        world.disk.failing.clear()
        assert "fluxcore_base" in world.disk.held
        await trio.sleep(1)
        (step,) = state.plan()
        assert (step.kind, step.app) == ("remove", "base")
        assert step.reason == "what was being done to it was interrupted (removing)"
        assert step.due_s is not None
        assert step.due_s > trio.current_time()
        with life.operations.doing(Work.REMOVE, "base"):
            assert state.plan() == (), "it is being done"
        await trio.sleep(AGAIN_S + 1)
        assert "fluxcore_base" not in world.disk.held
        assert life.records.all() == ()
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_what_is_under_way_is_let_alone_however_long_it_takes(autojump_clock: MockClock) -> None:
    world = AppWorld()
    life = await world.life()
    async with trio.open_nursery() as nursery:
        await nursery.start(LocalState(life.actions, Gate(is_open=True), Counters()).run)
        world.engine.takes_s["pull"] = 5 * AGAIN_S
        assert (await life.actions.install(base(), reason="the test")).ok
        await trio.sleep(2 * AGAIN_S)
        assert life.installed.names() == {"base"}
        nursery.cancel_scope.cancel()


KEEPS = app("keeps", part("col", image="library/worker:1"), part("db"))


@pytest.mark.trio
async def test_half_an_app_is_not_healed_and_its_removal_is_ended(autojump_clock: MockClock) -> None:
    """A removal of all apps gives each a time; one that takes longer was broken off in the middle."""
    world = HostWorld()
    async with world.process() as node, trio.open_nursery() as nursery:
        await nursery.start(LocalState(node.life.actions, node.reachable, Counters()).run)
        assert (await node.life.actions.install(KEEPS, reason="the test")).ok
        await trio.sleep(10)
        assert [running.name for running in node.host.apps() or ()] == ["keeps"]
        world.disk.hanging.add("unmount fluxdb_keeps")
        removed = await AppRemoval(node.host, Counters(), timeout_s=200.0).remove_all("gone too long")
        assert removed.removed == ()
        assert node.life.records.leaving() == {"keeps"}
        await trio.sleep(60)
        assert node.host.apps() == ()
        assert world.state("fluxdb_keeps") is None, "nothing is made again"
        world.disk.hanging.clear()
        await trio.sleep(AGAIN_S)
        assert node.life.installed.get("keeps") is None
        assert node.life.records.all() == ()
        assert not world.disk.held
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_removal_broken_off_before_anything_went_is_forgotten(autojump_clock: MockClock) -> None:
    """Not by force: the app was merely asked to stop. It stays, at the next start too."""
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(KEEPS, reason="the test")).ok
        world.engine.takes_s["stop"] = 60.0
        with trio.move_on_after(5):
            await node.life.actions.remove("keeps", reason="the test")
        assert node.life.records.leaving() == frozenset()
    async with world.process() as node:
        await node.life.actions.recover()
        assert node.life.installed.names() == {"keeps"}
