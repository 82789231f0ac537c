"""Whole judgements of app messages (docs/spec/registry.md §12): batch processor, messages per second.

Format, hash, validation, predecessor, signature and storing of a realistic mix: formats 3 to 8, 40 % of
them updates. Rates are of wall time, since judging runs in worker processes beside the loop; each is the
best of three runs, because both cores are needed and a busy machine lends fewer. Memory is the sum of the
peaks of the process and of each of its workers, each run in a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import trio
from _appmix import messages
from _harness import Bench
from _processes import cpu_s, peak_rss_mb

from trionode.registry.batch import BatchRules, Judged, NameGroup, judge_groups
from trionode.registry.changes import AddHashes
from trionode.registry.rows import HashRow
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import SystemClock
from trionode.runtime.counters import Counters
from trionode.store.appregistry import AppRegistry
from trionode.store.appregistry_judges import InlineJudges, Judges, ProcessJudges
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.store.registry_port import RegistryStore
from trionode.store.registry_sqlite import open_sqlite_registry
from trionode.wire.jsjson import parse

MESSAGES = 24_000
SERVED = 2_000
"""Rows handed over at a time, as the bulk route does."""

ROUNDS = 3
CORES = 2
HEIGHT = 2_200_000
JUDGES = ("one thread", "two threads", "processes")
STORES = ("memory", "SQLite")


class ThreadJudges:
    """What was not chosen: the parts of a chunk in two threads."""

    async def judge(self, groups: Sequence[NameGroup], rules: BatchRules) -> list[list[Judged]]:
        answers: list[list[list[Judged]]] = [[], []]
        half = len(groups) // 2

        async def part(number: int, some: Sequence[NameGroup]) -> None:
            answers[number] = await trio.to_thread.run_sync(judge_groups, some, rules)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(part, 0, groups[:half])
            nursery.start_soon(part, 1, groups[half:])
        return answers[0] + answers[1]

    async def run(self) -> None:
        await trio.sleep_forever()


def make_judges(name: str) -> Judges:
    if name == "processes":
        return ProcessJudges(Counters())
    return ThreadJudges() if name == "two threads" else InlineJudges()


@asynccontextmanager
async def make_store(name: str, folder: Path) -> AsyncIterator[RegistryStore]:
    if name == "memory":
        yield MemoryRegistryStore()
        return
    async with open_sqlite_registry(folder / "registry.sqlite") as store:
        yield store


async def served(path: Path) -> AsyncIterator[list[Any]]:
    """The rows of the file, read as the bulk route reads: a few at a time."""
    with path.open(encoding="utf-8") as lines:
        rows: list[Any] = []
        while some := [parse(line) for line in islice(lines, 50)]:
            rows += some
            await trio.lowlevel.checkpoint()
            if len(rows) >= SERVED:
                yield rows
                rows = []
        if rows:
            yield rows


def payments(path: Path) -> tuple[HashRow, ...]:
    with path.open(encoding="utf-8") as lines:
        rows = (json.loads(line) for line in lines)
        return tuple(HashRow.found(row["txid"], row["height"], row["hash"], row["valueSat"]) for row in rows)


async def one_case(judges_name: str, store_name: str, path: Path, folder: Path) -> dict[str, float]:
    """Judge and store the whole file; rate, lag of the loop and how many were accepted."""
    judges = make_judges(judges_name)
    lags: list[float] = []

    async def watch() -> None:
        while True:
            due = trio.current_time() + 0.005
            await trio.sleep_until(due)
            lags.append(1000 * (trio.current_time() - due))

    async with make_store(store_name, folder) as store:
        rows = payments(path)
        for start in range(0, len(rows), 5000):
            await store.commit([AddHashes(rows[start : start + 5000])])
        del rows
        registry = AppRegistry(
            store, SystemClock(), EventBus(), Counters(), daemon_height=lambda: HEIGHT, judges=judges
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(registry.run)
            run = registry.batch_run()
            accepted = done = 0
            parts = served(path)
            # the processes start with the first part: not counted, a node starts them once
            report = await run.process(await anext(parts))
            accepted += report.inserted
            del report
            # What a node is made of does not change any more: full collections need not walk it.
            gc.collect()
            gc.freeze()
            nursery.start_soon(watch)
            busy = (os.getpid(), *(judges.process_ids if isinstance(judges, ProcessJudges) else ()))
            cpu_before_s = sum(map(cpu_s, busy))
            began = time.perf_counter()
            async for part in parts:
                report = await run.process(part)
                accepted += report.inserted
                done += len(part)
            took = time.perf_counter() - began
            took_cpu_s = sum(map(cpu_s, busy)) - cpu_before_s
            # Peaks of different moments: the sum is never less than the truth.
            peak_mb = sum(map(peak_rss_mb, busy))
            nursery.cancel_scope.cancel()
    lags.sort()
    return {
        "rate": done / took,
        "accepted": accepted,
        "lag_ms": lags[int(len(lags) * 0.99)] if lags else 0.0,
        "worst_ms": lags[-1] if lags else 0.0,
        "cpu_us": took_cpu_s / done * 1e6,
        "peak_mb": peak_mb,
    }


def child(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        result = trio.run(partial(one_case, options.judges, options.store, Path(options.file), Path(folder)))
    print(json.dumps(result))
    return 0


def measured(judges: str, store: str, path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--case", "--judges", judges, "--store", store, "--file", str(path)]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer


def _rate(result: dict[str, float]) -> float:
    return result["rate"]


def judged_alone(path: Path) -> float:
    """Judgements per second of this thread, nothing stored."""
    from trionode.registry.batch import arrange, grouped

    part = trio.run(lambda: anext(served(path)))
    rows = {row.hash: row for row in payments(path)}
    arranged, _ = arrange(part, rows, set())
    groups = grouped(arranged, {}, {})
    began = time.process_time()
    judge_groups(groups, BatchRules(HEIGHT))
    return len(arranged) / (time.process_time() - began)


def main() -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--case", action="store_true")
    parser.add_argument("--judges")
    parser.add_argument("--store")
    parser.add_argument("--file")
    parser.add_argument("--messages", type=int, default=MESSAGES)
    options, rest = parser.parse_known_args()
    if options.case:
        return child(options)
    bench = Bench(f"Registry: {options.messages:,} app messages, formats 3 to 8, 40 % updates")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        path = Path(folder) / "served.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for _, document in messages(options.messages, random.Random(1)):
                file.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
        base = "judge only, one thread"
        bench.add(base, judged_alone(path), "1/s", note="per CPU second")
        for store in STORES:
            for judges in JUDGES:
                result = max((measured(judges, store, path) for _ in range(ROUNDS)), key=_rate)
                assert result["accepted"] == options.messages, result
                goal = None
                if judges == "processes":
                    goal = 6000 if store == "memory" else 5000
                name = f"{store}, {judges}"
                bench.add(name, result["rate"], "1/s", baseline=base, goal=goal)
                # What the rate needs of two cores; unlike the rate, a busy machine hardly blurs it.
                most_us = None if goal is None else CORES / goal * 1e6
                bench.add(f"{name}: CPU per message", result["cpu_us"], "us", goal=most_us, better="lower")
                bench.add(f"{name}: loop lag p99", result["lag_ms"], "ms", goal=20, better="lower")
                bench.add(f"{name}: loop lag worst", result["worst_ms"], "ms")
                bench.add(f"{name}: peak memory", result["peak_mb"], "MB", goal=300, better="lower")
    return bench.finish(rest)


if __name__ == "__main__":
    sys.exit(main())
