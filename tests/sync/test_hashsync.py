"""When hash syncs run, and what follows them (docs/spec/registry.md §12, lifecycle.md §8)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio
from syncworld import HEIGHT, Bench

from trionode.errors import StoreError
from trionode.registry.rows import HashRow


@pytest.fixture
async def running(autojump_clock: Any, bench: Bench) -> AsyncIterator[Bench]:
    """Running, but for the right to send: `allow` begins the first run."""
    bench.facts.can_send = False
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        yield bench
        nursery.cancel_scope.cancel()


def allow(bench: Bench, can_send: bool = True) -> None:
    bench.facts.can_send = can_send
    bench.bus.publish("chain:capability", {"capable": can_send})


def failing(bench: Bench, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The first so many looks at the payments fail."""
    hashes = bench.store.hashes
    left = times

    async def sometimes(**wish: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise StoreError("no answer", remedy="wait")
        return await hashes(**wish)

    monkeypatch.setattr(bench.store, "hashes", sometimes)


@pytest.mark.trio
async def test_the_first_run_makes_the_registry_ready(autojump_clock: Any, running: Bench) -> None:
    messages = await running.paid(2)
    running.peers.add("20.0.0.1")
    running.peers.give("20.0.0.1", *messages)
    allow(running)
    await trio.sleep(5)
    assert running.named("hashSync:complete") == [{"attempt": 1, "missing": 0}]
    assert running.orchestrator.db_ready.is_open
    assert await running.store.get_meta("hashSyncVersion") == "1.0"
    assert running.orchestrator.hash_status.document()["last"]["resolved"] == 2


@pytest.mark.trio
async def test_it_waits_for_the_chain_the_right_to_send_and_a_while_for_peers(
    autojump_clock: Any, bench: Bench
) -> None:
    await bench.paid(1)
    bench.chain.is_synced = False
    bench.facts.can_send = False
    bench.peers.table.threshold_reached = False
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        await trio.sleep(100)
        bench.block(HEIGHT)
        await trio.sleep(100)
        assert bench.counters["hashsync.runs"] == 0
        bench.facts.can_send = True
        bench.bus.publish("chain:capability", {"capable": True})
        await trio.sleep(1)
        assert bench.counters["hashsync.runs"] == 1
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_few_peers_are_waited_for_a_little(autojump_clock: Any, bench: Bench) -> None:
    await bench.paid(1)
    bench.peers.table.threshold_reached = False
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        await trio.sleep(10)
        assert bench.counters["hashsync.runs"] == 0
        await trio.sleep(10)
        assert bench.counters["hashsync.runs"] == 1
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_failed_run_is_tried_again(
    autojump_clock: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(bench, monkeypatch, 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        await trio.sleep(299)
        assert [data["attempt"] for data in bench.named("hashSync:failed")] == [1]
        assert bench.named("hashSync:failed")[0]["willRetry"] is True
        await trio.sleep(2)
        assert bench.named("hashSync:complete") == [{"attempt": 2, "missing": 0}]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_after_three_failures_blocks_make_what_there_is_ready(
    autojump_clock: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(bench, monkeypatch, 1000)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        await trio.sleep(1000)
        assert [data["willRetry"] for data in bench.named("hashSync:failed")] == [True, True, False]
        for height in range(HEIGHT, HEIGHT + 249):
            bench.block(height)
        await trio.sleep(1)
        assert not bench.orchestrator.db_ready.is_open
        bench.block(HEIGHT + 249)
        await trio.sleep(1)
        assert bench.orchestrator.db_ready.is_open
        # a later gain of the capability tries once more
        allow(bench, False)
        allow(bench)
        await trio.sleep(1)
        assert len(bench.named("hashSync:failed")) == 4
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_blocks_bring_retries_when_they_are_due(autojump_clock: Any, running: Bench) -> None:
    messages = await running.paid(1)
    allow(running)
    await trio.sleep(10)
    assert running.named("hashSync:complete") == [{"attempt": 1, "missing": 1}]
    running.peers.add("20.0.0.1")
    running.peers.give("20.0.0.1", *messages)
    for height in range(HEIGHT + 1, HEIGHT + 100):
        running.block(height)
        await trio.sleep(0.1)
    assert running.counters["hashsync.runs"] == 1
    running.block(HEIGHT + 100)
    await trio.sleep(10)
    assert running.counters["hashsync.runs"] == 2
    assert running.named("hashSync:run")[-1]["resolved"] == 1
    # only first runs are told as complete
    assert len(running.named("hashSync:complete")) == 1


@pytest.mark.trio
@pytest.mark.parametrize("news", ["registry:hashesUnresolved", "explorer:hashesChanged"])
async def test_unresolved_and_changed_rows_are_looked_for_at_the_next_block(
    autojump_clock: Any, running: Bench, news: str
) -> None:
    allow(running)
    await trio.sleep(10)
    runs = running.counters["hashsync.runs"]
    running.bus.publish(news, {"count": 1})
    await trio.sleep(10)
    assert running.counters["hashsync.runs"] == runs
    running.block(HEIGHT + 1)
    await trio.sleep(1)
    assert running.counters["hashsync.runs"] == runs + 1
    running.block(HEIGHT + 2)
    await trio.sleep(1)
    assert running.counters["hashsync.runs"] == runs + 1


@pytest.mark.trio
async def test_without_the_right_to_send_blocks_bring_nothing(autojump_clock: Any, running: Bench) -> None:
    allow(running)
    await trio.sleep(10)
    runs = running.counters["hashsync.runs"]
    running.bus.publish("registry:hashesUnresolved", {"count": 1})
    allow(running, False)
    await trio.sleep(1)
    running.block(HEIGHT + 1)
    await trio.sleep(1)
    assert running.counters["hashsync.runs"] == runs
    allow(running)
    running.block(HEIGHT + 2)
    await trio.sleep(1)
    assert running.counters["hashsync.runs"] == runs + 1


@pytest.mark.trio
async def test_losing_the_peers_takes_it_back_and_their_return_runs_again(
    autojump_clock: Any, running: Bench
) -> None:
    allow(running)
    await trio.sleep(10)
    running.enough_peers(False)
    await trio.sleep(1)
    assert not running.orchestrator.db_ready.is_open
    assert running.orchestrator.hash_status.is_degraded
    running.block(HEIGHT + 200)
    await trio.sleep(600)
    assert len(running.named("hashSync:complete")) == 1
    running.enough_peers()
    await trio.sleep(10)
    assert running.named("hashSync:complete")[1:] == [{"attempt": 1, "missing": 0}]
    assert running.orchestrator.db_ready.is_open


@pytest.mark.trio
async def test_losing_the_peers_in_a_retry_pause_ends_the_retries(
    autojump_clock: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(bench, monkeypatch, 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        await trio.sleep(10)
        bench.enough_peers(False)
        await trio.sleep(1000)
        assert len(bench.named("hashSync:failed")) == 1
        assert not bench.named("hashSync:complete")
        bench.enough_peers()
        await trio.sleep(10)
        assert bench.named("hashSync:complete") == [{"attempt": 1, "missing": 0}]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_new_version_asks_again_for_what_was_given_up(autojump_clock: Any, bench: Bench) -> None:
    row = HashRow.found("t", 1_000_000, "h" * 64, 1)
    given_up = msgspec.structs.replace(row, message_not_found=True, sync_attempts=12)
    await bench.store.add_hashes([given_up])
    bench.peers.add("20.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        await trio.sleep(10)
        assert [hashes for _, _, hashes in bench.peers.requests] == [[row.hash]]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_an_operators_wish_runs_at_once_and_leaves_ladders_alone(
    autojump_clock: Any, running: Bench
) -> None:
    await running.paid(1)
    allow(running)
    await trio.sleep(10)
    before = await running.store.hashes(missing=True)
    running.peers.add("20.0.0.1")
    running.orchestrator.request_hash_sync(force=True)
    await trio.sleep(10)
    assert len(running.peers.requests) == 1
    assert await running.store.hashes(missing=True) == before


@pytest.mark.trio
async def test_a_rebuild_that_fails_is_tried_again(
    autojump_clock: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reindex = bench.registry.reindex
    fails = True

    async def sometimes() -> int | None:
        if fails:
            raise StoreError("no answer", remedy="wait")
        return await reindex()

    monkeypatch.setattr(bench.registry, "reindex", sometimes)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        await trio.sleep(10)
        assert not bench.orchestrator.db_ready.is_open
        fails = False
        await trio.sleep(300)
        assert bench.orchestrator.db_ready.is_open
        nursery.cancel_scope.cancel()
