"""EventLog: judged at once, durable before told, expiring exactly, restarting from what is stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from rig import IP, Rig, SlowStore, running_log
from trio.testing import MockClock

from trionode.appstate.batch import BatchRecord
from trionode.appstate.state import AppState
from trionode.errors import StoreError
from trionode.store.memory import MemoryStore
from trionode.store.sqlite import open_sqlite

pytestmark = pytest.mark.trio


@pytest.fixture(params=[MemoryStore, SlowStore])
def make_store(request: pytest.FixtureRequest) -> Callable[[], MemoryStore]:
    maker: Callable[[], MemoryStore] = request.param
    return maker


async def test_a_message_is_stored_told_and_listed(
    make_store: Callable[[], MemoryStore], autojump_clock: MockClock
) -> None:
    store = make_store()
    async with running_log(store) as rig:
        decision = await rig.log.ingest(rig.running("AppA"))
        assert decision.accepted
        assert decision.relay
        assert rig.told() == ["network:apprunning"]
        assert rig.places() == ["AppA@1.1.1.1"]
        assert await store.event(IP, "apprunning", "v2") is not None
        again = await rig.log.ingest(rig.running("AppA", age_ms=1))
        assert (again.accepted, again.stop) == (False, "guard")
        assert rig.counters["appstate.accepted.fluxapprunning"] == 1
        assert rig.counters["appstate.refused.guard.not_newer"] == 1
        bad = await rig.log.ingest(rig.envelope({"type": "fluxapprunning"}))
        assert not bad.accepted
        assert rig.counters["appstate.refused.validate.broadcasted_at_not_number"] == 1


async def test_nothing_is_told_before_it_is_durable(autojump_clock: MockClock) -> None:
    store = SlowStore()
    async with running_log(store) as rig, trio.open_nursery() as nursery:
        store.gate = trio.Event()
        done = []

        async def ingest() -> None:
            done.append(await rig.log.ingest(rig.running("AppA")))

        nursery.start_soon(ingest)
        await trio.sleep(5)
        assert rig.places() == ["AppA@1.1.1.1"]
        assert rig.told() == []
        assert done == []
        assert store.rows() == []
        store.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert rig.told() == ["network:apprunning"]
        assert len(done) == 1


async def test_a_cancelled_caller_does_not_undo_its_message(autojump_clock: MockClock) -> None:
    store = SlowStore()
    async with running_log(store) as rig:
        store.gate = trio.Event()
        with trio.move_on_after(1):
            await rig.log.ingest(rig.running("AppA"))
        store.gate.set()
        await trio.sleep(1)
        assert rig.told() == ["network:apprunning"]
        assert len(store.rows()) == 2


async def test_commits_are_grouped_and_the_queue_is_bounded(autojump_clock: MockClock) -> None:
    store = SlowStore()
    async with running_log(store) as rig:
        store.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(rig.log.ingest, rig.running("A", "B", ip=f"1.1.1.{number}"))
            await trio.sleep(1)
            # One batch at the store, four places in all; nobody else was even judged.
            assert len(rig.log.index.addresses()) == 4
            store.gate.set()
        assert len(rig.places()) == 40
        assert sum(store.commits) == 60
        assert max(store.commits) <= 10
        assert len(store.commits) < 20
        assert rig.counters["store.commits"] == len(store.commits)
        assert rig.counters["store.changes"] == 60


async def test_what_waits_is_flushed_at_the_end(autojump_clock: MockClock) -> None:
    store = SlowStore()
    rig = Rig(store)
    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
        await nursery.start(rig.log.run)
        outer.start_soon(rig.log.ingest, rig.running("AppA"))
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert len(store.rows()) == 2
    assert rig.told() == ["network:apprunning"]


@pytest.mark.parametrize(
    "problem", [StoreError("disk full", remedy="free some space"), ValueError("disk full")]
)
async def test_a_failed_commit_fails_its_callers_and_the_service(
    problem: Exception, autojump_clock: MockClock
) -> None:
    store = SlowStore()
    rig = Rig(store)
    ended: list[StoreError] = []

    async def service(task_status: trio.TaskStatus[None]) -> None:
        try:
            await rig.log.run(task_status=task_status)
        except StoreError as error:
            ended.append(error)

    async with trio.open_nursery() as nursery:
        await nursery.start(service)
        await rig.log.ingest(rig.running("AppA"))
        store.problem = problem
        with pytest.raises(StoreError, match="disk full"):
            await rig.log.ingest(rig.running("AppB", ip="2.2.2.2"))
        await trio.testing.wait_all_tasks_blocked()
        assert len(ended) == 1
        assert "disk full" in ended[0].message
        assert ended[0].remedy
        # While the service is down callers wait; its successor knows what is stored and nothing else.
        store.problem = None
        late: list[Any] = []

        async def ingest_late() -> None:
            late.append(await rig.log.ingest(rig.running("AppC", ip="3.3.3.3")))

        nursery.start_soon(ingest_late)
        await trio.sleep(1)
        assert late == []
        await nursery.start(service)
        await trio.sleep(1)
        assert len(late) == 1
        assert rig.places() == ["AppA@1.1.1.1", "AppC@3.3.3.3"]
        nursery.cancel_scope.cancel()


async def test_records_expire_exactly(
    make_store: Callable[[], MemoryStore], autojump_clock: MockClock
) -> None:
    store = make_store()
    async with running_log(store) as rig:
        await rig.log.ingest(rig.running("AppA"))
        await trio.sleep(100)
        await rig.log.ingest(rig.running("AppB", ip="2.2.2.2"))
        await trio.sleep(7399.999)
        assert rig.places() == ["AppA@1.1.1.1", "AppB@2.2.2.2"]
        assert len(store.rows()) == 4
        await trio.sleep(0.002)
        assert rig.places() == ["AppB@2.2.2.2"]
        assert len(store.rows()) == 2
        await trio.sleep(100)
        assert store.rows() == []
        assert rig.counters["appstate.expired"] == 4


async def test_an_earlier_deadline_wakes_the_wheel(autojump_clock: MockClock) -> None:
    async with running_log(MemoryStore()) as rig:
        await rig.log.ingest(rig.running("AppA"))
        await trio.sleep(1)
        stop = {"type": "fluxnodesigterm", "version": 1, "ip": IP, "broadcastedAt": rig.clock.now_ms()}
        assert (await rig.log.ingest(rig.envelope(stop))).relay
        await trio.sleep(419.999)
        assert rig.places() == ["AppA@1.1.1.1"]
        await trio.sleep(0.002)
        assert rig.places() == []


async def test_a_clock_set_forward_is_noticed_within_a_minute(autojump_clock: MockClock) -> None:
    async with running_log(MemoryStore()) as rig:
        await rig.log.ingest(rig.running("AppA"))
        await trio.sleep(1)
        rig.clock.skew_ms += 7_500_000
        await trio.sleep(60.1)
        assert rig.places() == []


async def test_the_wheel_sleeps_when_nothing_is_due(autojump_clock: MockClock) -> None:
    """No polling: with nothing stored the log never wakes, so the clock has nothing to jump to."""
    async with running_log(MemoryStore()) as rig:
        await rig.log.ingest(rig.running("AppA"))
        await trio.sleep(8000)
        began = trio.current_time()
        woken: list[float] = []

        class Wakes(trio.abc.Instrument):
            def task_scheduled(self, task: trio.lowlevel.Task) -> None:
                if "forever" in task.name:
                    woken.append(trio.current_time() - began)

        instrument = Wakes()
        trio.lowlevel.add_instrument(instrument)
        await trio.sleep(80_000)
        trio.lowlevel.remove_instrument(instrument)
        assert woken == []


async def test_time_scale_makes_everything_expire_sooner(autojump_clock: MockClock) -> None:
    async with running_log(MemoryStore(), time_scale=0.01) as rig:
        await rig.log.ingest(rig.running("AppA"))
        await trio.sleep(74.999)
        assert rig.places() == ["AppA@1.1.1.1"]
        await trio.sleep(0.002)
        assert rig.places() == []


async def test_a_restart_begins_where_the_store_is(
    make_store: Callable[[], MemoryStore], autojump_clock: MockClock
) -> None:
    store = make_store()
    async with running_log(store) as rig:
        await rig.log.ingest(rig.running("AppA", "AppB"))
        await rig.log.ingest(rig.running("AppC", ip="2.2.2.2", age_ms=100_000))
        counts = rig.log.state.counts()
    await trio.sleep(7400)
    async with running_log(store) as again:
        assert again.places() == ["AppA@1.1.1.1", "AppB@1.1.1.1"]
        assert len(store.rows()) == 3
        assert again.log.state.next_row_id() > 2
    assert counts["location_rows"] == 3


async def test_own_messages_and_evictions(autojump_clock: MockClock) -> None:
    async with running_log(MemoryStore()) as rig:
        decision = await rig.log.apply_local(rig.running("AppA", "AppB"))
        assert decision.accepted
        assert not decision.relay
        assert rig.told() == []
        gone = {"type": "fluxappremoved", "version": 1, "ip": IP, "appName": "AppA"}
        await trio.sleep(1)
        await rig.log.apply_local(rig.envelope(gone | {"broadcastedAt": rig.clock.now_ms()}))
        assert rig.places() == ["AppB@1.1.1.1"]
        await rig.log.evict(IP)
        assert rig.places() == []
        steps = await rig.log.explain("AppB")
        assert [(step.effect, step.rule) for step in steps] == [("hidden", "evicted"), ("hides", "evicted")]
        assert await rig.log.explain("AppB", "9.9.9.9") == []
        error = {"type": "fluxappinstallingerror", "version": 1, "name": "X", "hash": "h", "error": "e"}
        await rig.log.ingest(rig.envelope(error | {"ip": IP, "broadcastedAt": rig.clock.now_ms()}))
        assert [row.name for row in rig.log.install_errors("x")] == ["X"]
        await rig.log.forget_install_errors("X")
        assert rig.log.install_errors() == []
        assert rig.log.installing() == []


async def test_a_sync_chunk_is_folded_in_slices_and_told_once(
    make_store: Callable[[], MemoryStore], autojump_clock: MockClock
) -> None:
    store = make_store()
    async with running_log(store) as rig:
        envelopes = [rig.running("AppA", ip=f"1.1.{n}.1", age_ms=1000) for n in range(180)]
        records = [BatchRecord("apprunning", envelope) for envelope in envelopes]
        records.append(BatchRecord("other", envelopes[0]))
        meanwhile = [rig.running("AppB", ip=f"1.1.{n}.1") for n in range(180)]

        async def gossip() -> None:
            for envelope in meanwhile:
                await rig.log.ingest(envelope)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(gossip)
            outcome = await rig.log.ingest_sync("apprunning", records, "peer")
        assert (outcome.accepted, outcome.verified, outcome.stored) == (True, 180, 180)
        assert rig.told().count("sync:chunkVerified") == 1
        assert rig.counters["appstate.sync.refused.dispatch.unknown_type"] == 1
        assert {row.name for row in rig.log.locations()} == {"AppB"}
        _same_as_stored(rig, store)


@pytest.mark.parametrize("records", [1, 50, 60])
async def test_a_sync_chunk_is_told_when_it_is_durable(records: int, autojump_clock: MockClock) -> None:
    store = SlowStore()
    with trio.fail_after(60):
        async with running_log(store) as rig, trio.open_nursery() as nursery:
            store.gate = trio.Event()
            chunk = [BatchRecord("apprunning", rig.running("AppA", ip=f"1.1.{n}.1")) for n in range(records)]
            nursery.start_soon(rig.log.ingest_sync, "apprunning", chunk, "peer")
            await trio.sleep(1)
            assert rig.told() == []
            store.gate.set()
            await trio.sleep(1)
            assert rig.told() == ["sync:chunkVerified"]
            assert len(store.rows()) == 2 * records


def _same_as_stored(rig: Rig, store: MemoryStore) -> None:
    """Memory and store hold the same, row by row."""
    refolded = AppState.from_rows(rig.log.windows, store.rows(), rig.clock.now_ms())
    _same(refolded, rig.log.state)


def _same(one: AppState, other: AppState) -> None:
    assert one.counts() == other.counts()
    assert sorted(one.location_rows(), key=repr) == sorted(other.location_rows(), key=repr)
    assert sorted(one.index.locations(), key=repr) == sorted(other.index.locations(), key=repr)


async def test_many_tasks_on_sqlite_end_with_memory_and_file_alike(tmp_path: Path) -> None:
    """A real clock here: a thread looks idle to a mock one."""
    path = tmp_path / "log.sqlite"
    async with open_sqlite(path) as store, running_log(store) as rig:

        async def gossip(part: int) -> None:
            for number in range(30):
                await rig.log.ingest(rig.running("A", f"B{part}", ip=f"1.1.{number % 7}.1", age_ms=part))

        async with trio.open_nursery() as nursery:
            for part in range(8):
                nursery.start_soon(gossip, part)
        rows = [row async for row in store.load()]
        refolded = AppState.from_rows(rig.log.windows, rows, rig.log.index.now_ms)
        assert refolded.counts() == rig.log.state.counts()
        assert sorted(refolded.location_rows(), key=repr) == sorted(rig.log.state.location_rows(), key=repr)
        assert sorted(refolded.index.locations(), key=repr) == sorted(rig.log.locations(), key=repr)


async def test_the_same_run_twice_gives_the_same_trace(autojump_clock: MockClock) -> None:
    async def trace() -> list[Any]:
        store = MemoryStore()
        async with running_log(store) as rig:
            start_ms = rig.clock.now_ms()
            for number in range(30):
                await rig.log.ingest(rig.running("A", "B"[number % 2 :], ip=f"1.1.{number % 5}.1"))
                await trio.sleep(0.5)
            told = [(event.name, dict(event.data)) for event in rig.bus.replay()]
            times = [row.expire_at_ms - start_ms for row in store.rows()]
            return [told, times, [(row.name, row.ip) for row in rig.log.locations()]]

    assert await trace() == await trace()
