"""EventLog over a store that fails now and then: what was told is stored, and memory is never ahead of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from rig import Rig, SlowStore
from trio.testing import MockClock, wait_all_tasks_blocked

from trionode.appstate.batch import BatchRecord
from trionode.appstate.changes import Change
from trionode.appstate.state import AppState
from trionode.errors import StoreError
from trionode.store.eventlog import EventLog

pytestmark = pytest.mark.trio


class DiskFull(StoreError):
    """A kind of its own."""

    code = "disk_full"


class FailsOnce(SlowStore):
    """The next commit fails, those behind it would work."""

    fails = 0

    async def commit(self, changes: Sequence[Change]) -> None:
        await self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise DiskFull("the disk is full", remedy="free some space")
        await super().commit(changes)


@asynccontextmanager
async def supervised(store: SlowStore) -> AsyncIterator[tuple[Rig, list[StoreError]]]:
    """The log, started again when it has ended, as the supervisor does it; and what it ended with."""
    rig = Rig(store)
    ends: list[StoreError] = []

    async def live(task_status: trio.TaskStatus[None]) -> None:
        started = task_status
        while True:
            try:
                await rig.log.run(task_status=started)
            except StoreError as error:
                ends.append(error)
                started = trio.TASK_STATUS_IGNORED
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        await nursery.start(live)
        yield rig, ends
        nursery.cancel_scope.cancel(reason="end of the test")


def same_as_stored(rig: Rig, store: SlowStore) -> bool:
    stored = AppState.from_rows(rig.log.windows, store.rows(), rig.clock.now_ms())
    ours = rig.log.state
    return stored.counts() == ours.counts() and sorted(stored.location_rows(), key=repr) == sorted(
        ours.location_rows(), key=repr
    )


@pytest.mark.parametrize("records", [20, 60, 120, 180])
async def test_a_chunk_with_a_lost_slice_is_not_told_stored(records: int, autojump_clock: MockClock) -> None:
    """The first slice is lost, the later ones would be stored: the chunk as a whole has failed."""
    store = FailsOnce()
    async with supervised(store) as (rig, ends):
        store.gate, store.fails = trio.Event(), 1
        chunk = [BatchRecord("apprunning", rig.running("A", ip=f"1.1.{n}.1")) for n in range(records)]
        raised: list[StoreError] = []

        async def sync() -> None:
            with pytest.raises(StoreError) as caught:
                await rig.log.ingest_sync("apprunning", chunk, "peer")
            raised.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sync)
            await wait_all_tasks_blocked()
            store.gate.set()
        await trio.sleep(5)
        assert len(ends) == 1
        assert rig.told() == []
        assert same_as_stored(rig, store)
        assert len(raised) == 1
        # Asked for again, all of it is there.
        outcome = await rig.log.ingest_sync("apprunning", chunk, "peer")
        assert outcome.accepted
        assert rig.told() == ["sync:chunkVerified"]
        assert len(store.rows()) == 2 * records


async def test_what_was_judged_behind_a_lost_commit_is_not_acknowledged(autojump_clock: MockClock) -> None:
    """Messages that wait behind it were judged on memory the store never got."""
    store = FailsOnce()
    async with supervised(store) as (rig, ends):
        store.gate, store.fails = trio.Event(), 1
        failed: list[StoreError] = []

        async def ingest(number: int) -> None:
            try:
                await rig.log.ingest(rig.running(*"ABCDEFGH", ip=f"1.1.1.{number}"))
            except StoreError as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            # nine changes each: every message is a commit of its own
            for number in range(4):
                nursery.start_soon(ingest, number)
            await wait_all_tasks_blocked()
            store.gate.set()
            await wait_all_tasks_blocked()
            assert len(failed) == 4, "one commit failed, and three waited for theirs"
            assert store.rows() == []
        await trio.sleep(5)
        assert [type(error) for error in (*failed, *ends)] == [DiskFull] * 5
        assert {error.one_line() for error in failed} == {"the disk is full - free some space"}
        assert len({id(error) for error in failed}) == 4, "each caller has an error of its own"
        assert rig.told() == []
        assert rig.places() == []
        assert rig.counters["store.commits"] == 0
        await rig.log.ingest(rig.running("A"))
        assert same_as_stored(rig, store)


async def test_who_tries_again_at_once_is_judged_by_what_is_stored(autojump_clock: MockClock) -> None:
    """The caller is awake before the service has ended: on old memory its message would be no news."""
    store = FailsOnce()
    async with supervised(store) as (rig, ends):
        store.fails = 1
        message = rig.running("A")
        with pytest.raises(DiskFull):
            await rig.log.ingest(message)
        decision = await rig.log.ingest(message)
        assert decision.accepted
        assert decision.relay
        assert len(ends) == 1
        assert rig.told() == ["network:apprunning"]
        assert same_as_stored(rig, store)


async def test_a_flush_that_fails_at_the_end_lets_nobody_wait(autojump_clock: MockClock) -> None:
    store = FailsOnce()
    rig = Rig(store)
    failed: list[StoreError] = []

    async def ingest(log: EventLog, number: int) -> None:
        try:
            await log.ingest(rig.running(*"ABCDEFGH", ip=f"1.1.1.{number}"))
        except StoreError as error:
            failed.append(error)

    async def live(task_status: trio.TaskStatus[None]) -> None:
        with pytest.raises(StoreError, match="disk is full"):
            await rig.log.run(task_status=task_status)

    with trio.fail_after(60):
        async with trio.open_nursery() as callers, trio.open_nursery() as nursery:
            await nursery.start(live)
            store.fails = 1
            for number in range(3):
                callers.start_soon(ingest, rig.log, number)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel(reason="end of the node")
    assert len(failed) == 3
    assert store.rows() == []
