"""Gossip into the event log, end to end (docs/spec/events.md §4, wire.md §9): envelopes per second.

Running messages of 5 apps each from many addresses, brought by 40 tasks at once as by 40 peers. Rates are
of wall time, since commits run in a thread beside the loop.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio
from _harness import Bench

from trionode.appstate.batch import BatchRecord
from trionode.appstate.judge import judge
from trionode.appstate.state import AppState
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import SystemClock
from trionode.runtime.counters import Counters
from trionode.store.eventlog import EventLog
from trionode.store.memory import MemoryStore
from trionode.store.port import Store
from trionode.store.sqlite import open_sqlite
from trionode.wire.envelope import Envelope, decode_envelope, seal
from trionode.wire.jsjson import parse
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeList
from trionode.wire.origin import OriginVerdict, verify_envelope, verify_records

ADDRESSES, APPS, KEYS = 4_000, 5, 50
FEEDERS = 40
SYNC_RECORDS, CHUNK, SLICE = 14_000, 2_000, 25
SETTINGS = AppStateSettings()
CLOCK = SystemClock()


def address(number: int) -> str:
    return f"10.{number >> 8}.{number & 255}.1:16127"


def messages(count: int, keys: Sequence[NodeKey], rng: random.Random) -> list[Envelope]:
    """One running message from each of `count` addresses, broadcast now."""
    now_ms = CLOCK.now_ms()
    made = []
    for number in range(count):
        names = rng.sample(range(1000), APPS)
        since = "2025-10-01T00:00:00.000Z"
        data: dict[str, Any] = {
            "type": "fluxapprunning",
            "version": 2,
            "apps": [{"name": f"app{n}", "hash": f"{n:064x}", "runningSince": since} for n in names],
            "ip": address(number),
            "broadcastedAt": now_ms,
            "osUptime": 12345.67,
            "staticIp": True,
        }
        made.append(seal(data, keys[number % len(keys)], now_ms))
    return made


async def with_log(store: Store, work: Callable[[EventLog], Awaitable[float]]) -> float:
    log = EventLog(SETTINGS, store, CLOCK, EventBus(), Counters())
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        result = await work(log)
        nursery.cancel_scope.cancel()
    return result


async def feed(log: EventLog, items: Sequence[Any], take: Callable[[Any], Envelope]) -> float:
    """Seconds until all items are durable, brought by `FEEDERS` tasks."""
    waiting = iter(items)

    async def feeder() -> None:
        for item in waiting:
            decision = await log.ingest(take(item))
            assert decision.relay, decision

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(FEEDERS):
            nursery.start_soon(feeder)
    return time.perf_counter() - began


async def one_by_one(log: EventLog, items: Sequence[Envelope]) -> float:
    began = time.perf_counter()
    for envelope in items:
        await log.ingest(envelope)
    return time.perf_counter() - began


async def lag_meanwhile(work: Callable[[], Awaitable[object]]) -> tuple[float, list[float]]:
    """Seconds the work takes, and the lags of the loop meanwhile, ascending, in milliseconds."""
    lags: list[float] = []

    async def watch() -> None:
        while True:
            due = trio.current_time() + 0.005
            await trio.sleep_until(due)
            lags.append(1000 * (trio.current_time() - due))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        began = time.perf_counter()
        await work()
        took = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    return took, sorted(lags)


async def sync(log: EventLog, texts: Sequence[str], nodes: NodeList) -> None:
    """A whole sync of several chunks: read and verified in slices, each chunk folded in and stored."""
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        records: list[BatchRecord] = []
        for part in range(0, len(chunk), SLICE):
            some = [decode_envelope(parse(text)) for text in chunk[part : part + SLICE]]
            verdicts = verify_records(some, nodes)
            records += [
                BatchRecord("apprunning", envelope)
                for envelope, verdict in zip(some, verdicts, strict=True)
                if verdict is OriginVerdict.OK
            ]
            await trio.lowlevel.checkpoint()
        outcome = await log.ingest_sync("apprunning", records, "peer")
        assert outcome.stored == len(chunk)


async def measure(bench: Bench, folder: Path) -> None:
    rng = random.Random(1)
    keys = [NodeKey.generate(rng) for _ in range(KEYS)]
    nodes = NodeList.from_rpc(
        [{"ip": address(n), "pubkey": keys[n % KEYS].public_key} for n in range(SYNC_RECORDS)]
    )
    envelopes = messages(ADDRESSES, keys, rng)
    texts = [envelope.text for envelope in envelopes]
    files = iter(range(1000))

    async def on_disk(work: Callable[[EventLog], Awaitable[float]]) -> float:
        async with open_sqlite(folder / f"{next(files)}.sqlite") as store:
            return await with_log(store, work)

    def verified(text: str) -> Envelope:
        envelope = decode_envelope(parse(text))
        assert len(envelope.data_hash) == 40
        assert verify_envelope(envelope, nodes, CLOCK.now_ms()) is OriginVerdict.OK
        return envelope

    def same(envelope: Envelope) -> Envelope:
        return envelope

    state, now_ms = AppState(Windows.from_settings(SETTINGS), CLOCK.now_ms()), CLOCK.now_ms()
    began = time.perf_counter()
    for envelope in envelopes:
        judge(state, envelope, now_ms)
    base = "judge and fold in memory"
    bench.add(base, ADDRESSES / (time.perf_counter() - began), "1/s")

    took = await with_log(MemoryStore(), lambda log: feed(log, envelopes, same))
    bench.add("ingest, memory store", ADDRESSES / took, "1/s", baseline=base)
    took = await on_disk(lambda log: feed(log, envelopes, same))
    bench.add("ingest verified, SQLite", ADDRESSES / took, "1/s", baseline=base, goal=3000)
    took = await on_disk(lambda log: feed(log, texts, verified))
    note = "text to durable: parse, hash, origin, signature, judge, store"
    bench.add("ingest with verification, SQLite", ADDRESSES / took, "1/s", baseline=base, note=note)
    some = envelopes[:1000]
    took = await on_disk(lambda log: one_by_one(log, some))
    bench.add("ingest one at a time, SQLite", len(some) / took, "1/s", baseline=base, note="a commit each")

    some = envelopes = []
    texts = [envelope.text for envelope in messages(SYNC_RECORDS, keys, rng)]
    # What was made before the sync does not change any more: full collections need not walk it.
    gc.collect()
    gc.freeze()
    _, lags = await lag_meanwhile(partial(trio.sleep, 1))
    idle = "loop lag p99, idle"
    bench.add(idle, percentile(lags), "ms")

    async def whole_sync(log: EventLog) -> float:
        nonlocal lags
        took, lags = await lag_meanwhile(lambda: sync(log, texts, nodes))
        return took

    took = await on_disk(whole_sync)
    note = f"read and verified in slices of {SLICE}"
    bench.add(f"sync of {SYNC_RECORDS:,} records", SYNC_RECORDS / took, "1/s", note=note)
    name = "loop lag p99 meanwhile"
    bench.add(name, percentile(lags), "ms", baseline=idle, goal=20, better="lower")
    bench.add("loop lag, worst", lags[-1], "ms")


def percentile(ascending: Sequence[float]) -> float:
    return ascending[int(len(ascending) * 0.99)]


def main() -> int:
    bench = Bench(f"Ingest: {ADDRESSES:,} running messages of {APPS} apps, {FEEDERS} feeders")
    # TMPDIR decides which disk is measured.
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        trio.run(measure, bench, Path(folder))
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
