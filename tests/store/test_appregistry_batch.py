"""The batch processor over a store: chunks, order of arrival, judges (registry.md §12)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import trio
import trio.testing
from appmessages import owner, paid, permanent, served, signed
from hypothesis import given, settings
from hypothesis import strategies as st

from trionode.registry.batch import BatchRules, Judged, NameGroup, arrange, grouped
from trionode.registry.changes import AddHashes
from trionode.registry.reasons import Reason
from trionode.registry.rows import HashRow, PermanentRow
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.store.appregistry import AppRegistry
from trionode.store.appregistry_judges import SMALL_BATCH, InlineJudges, Judges, ProcessJudges
from trionode.store.registry_memory import MemoryRegistryStore

HEIGHT = 2_200_000
T = 1_750_000_000_000


def registry_over(
    payments: Sequence[HashRow], judges: Judges | None = None
) -> tuple[AppRegistry, MemoryRegistryStore]:
    store = MemoryRegistryStore()
    store.commit_now([AddHashes(tuple(payments))])
    registry = AppRegistry(
        store, VirtualClock(), EventBus(), Counters(), daemon_height=lambda: HEIGHT, judges=judges
    )
    return registry, store


async def rows_of(store: MemoryRegistryStore) -> list[PermanentRow]:
    return sorted([row async for row in store.stream_permanents()], key=lambda row: row.hash)


@cache
def history() -> tuple[tuple[dict[str, Any], int], ...]:
    """Messages of a few names around the two-million line: changes of owner, crossings, bad ones, ties."""
    rng = random.Random(7)
    made: list[tuple[dict[str, Any], int]] = []
    for number in range(6):
        name = f"app{number}"
        height = 1_999_950 + 20 * number
        holder = rng.randrange(2)
        made.append((signed(name=name, by=owner(holder), at_ms=T), height))
        for step in range(1, 9):
            signer = rng.randrange(2)
            update = signed(
                name=name,
                registers=rng.random() < 0.1,
                by=owner(signer),
                for_owner=owner(rng.randrange(2)),
                at_ms=T + step,
                description=f"step {step}",
                expire=rng.choice((22_000, 22_000, 5_000_000)),
            )
            made.append((update, height + rng.randrange(12)))
    return tuple(made)


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(54)), chunk=st.integers(1, 60))
def test_arrival_and_chunks_make_no_difference(order: list[int], chunk: int) -> None:
    messages = history()
    assert len(messages) == 54

    async def resulting(order: Sequence[int], chunk: int) -> tuple[list[PermanentRow], list[HashRow]]:
        registry, store = registry_over([paid(document, height) for document, height in messages])
        await registry.load()
        await registry.process_messages([served(*messages[n]) for n in order], chunk_messages=chunk)
        return await rows_of(store), [row async for row in store.stream_hashes()]

    expected = trio.run(resulting, range(54), 2000)
    assert trio.run(resulting, order, chunk) == expected
    assert 6 < len(expected[0]) < 54


@pytest.mark.trio
async def test_every_message_gets_its_verdict(autojump_clock: Any) -> None:
    good, bad, unpaid = signed(name="good"), signed(name="bad", expire=5_000_000), signed(name="unpaid")
    registry, store = registry_over([paid(good, HEIGHT - 9), paid(bad, HEIGHT - 8)])
    await registry.load()
    rows = [served(document, HEIGHT - 9) for document in (good, bad, unpaid)]
    report = await registry.process_messages([*rows, "nonsense"])
    verdicts = {row.hash: row for row in report.verdicts}
    assert verdicts[good["hash"]].verdict == "accepted"
    refused = verdicts[bad["hash"]]
    assert refused.verdict == "rejected"
    assert refused.rejection is not None
    assert refused.rejection.code is Reason.EXPIRE_MAX
    assert refused.rejection == registry.rejection_of(bad["hash"])
    assert verdicts[unpaid["hash"]].verdict == "not_on_chain"
    assert (report.inserted, report.resolved) == (1, (good["hash"],))
    assert await store.permanent(good["hash"]) == permanent(good, HEIGHT - 9)
    again = await registry.process_messages(rows)
    assert (again.inserted, again.count("known"), again.resolved) == (0, 1, (good["hash"],))


@pytest.mark.trio
async def test_known_messages_resolve_their_payment(autojump_clock: Any) -> None:
    document = signed()
    registry, store = registry_over([paid(document, HEIGHT - 9)])
    await registry.load()
    await store.add_permanents([permanent(document, HEIGHT - 9)])
    await registry.process_messages([served(document, 1)])
    row = await store.hash_row(document["hash"])
    assert row is not None
    assert row.message


@pytest.mark.trio
async def test_what_comes_too_early_is_judged_again_in_the_same_run(autojump_clock: Any) -> None:
    first = signed()
    second = signed(registers=False, for_owner=owner(1), at_ms=T + 1)
    third = signed(registers=False, by=owner(1), at_ms=T + 2)
    messages = [(first, HEIGHT - 30), (second, HEIGHT - 20), (third, HEIGHT - 10)]
    registry, store = registry_over([paid(*message) for message in messages])
    await registry.load()
    run = registry.batch_run()
    for message in reversed(messages):
        report = await run.process([served(*message)])
    assert set(report.resolved) == {first["hash"], second["hash"], third["hash"]}
    assert len(await rows_of(store)) == 3


# ---- judges ------------------------------------------------------------------------------------------


def groups_of(count: int) -> list[NameGroup]:
    documents = [signed(name=f"app{number}") for number in range(count)]
    payments = {document["hash"]: paid(document, HEIGHT - 9) for document in documents}
    rows, _ = arrange([served(document, 1) for document in documents], payments, set())
    return grouped(rows, {}, {})


@pytest.mark.trio
async def test_inline_judges_let_others_go_on(autojump_clock: Any) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await InlineJudges().judge(groups_of(160), BatchRules(HEIGHT))
        nursery.cancel_scope.cancel()
    assert turns >= 9


async def in_processes(judges: ProcessJudges, groups: Sequence[NameGroup]) -> list[list[Judged]]:
    with trio.fail_after(250):
        return await judges.judge(groups, BatchRules(HEIGHT))


@pytest.mark.process
@pytest.mark.trio
async def test_processes_judge_as_the_thread_does() -> None:
    groups = groups_of(SMALL_BATCH + 150)
    expected = await InlineJudges().judge(groups, BatchRules(HEIGHT))
    counters = Counters()
    judges = ProcessJudges(counters, workers=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(judges.run)
        await trio.testing.wait_all_tasks_blocked()
        assert await in_processes(judges, groups) == expected
        assert len(judges.process_ids) == 2
        nursery.cancel_scope.cancel()
    assert judges.process_ids == ()
    # without its service there are no processes, and still an answer
    assert await in_processes(judges, groups) == expected


@pytest.mark.process
@pytest.mark.trio
async def test_a_lost_process_costs_nothing_but_time() -> None:
    groups = groups_of(SMALL_BATCH + 150)
    expected = await InlineJudges().judge(groups, BatchRules(HEIGHT))
    counters = Counters()
    judges = ProcessJudges(counters, workers=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(judges.run)
        await trio.testing.wait_all_tasks_blocked()
        await in_processes(judges, groups)
        for worker in judges._workers:
            worker.process.kill()
        assert await in_processes(judges, groups) == expected
        assert counters["registry.judges.lost"] == 1
        nursery.cancel_scope.cancel()


@pytest.mark.process
@pytest.mark.trio
async def test_idle_processes_end_and_come_back() -> None:
    groups = groups_of(SMALL_BATCH + 1)
    judges = ProcessJudges(Counters(), workers=1, idle_s=0.2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(judges.run)
        await trio.testing.wait_all_tasks_blocked()
        await in_processes(judges, groups)
        with trio.fail_after(120):
            while judges.process_ids:  # noqa: ASYNC110 - their end is told to nobody
                await trio.sleep(0.02)
        assert len(await in_processes(judges, groups)) == SMALL_BATCH + 1
        nursery.cancel_scope.cancel()
