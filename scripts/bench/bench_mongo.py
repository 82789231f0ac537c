"""Both stores side by side: gossip, the registry's bulk load, state sync served, indexes rebuilt.

SQLite on the disk of TMPDIR, and MongoDB: SecantusDB, or the server that TRIONODE_TEST_MONGO names (then with
ten times the rows). SecantusDB is a stand-in for tests and slow; what counts for a real server are the round
trips, given beside each figure. docs/storage.md says how to read them.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio
from _harness import Bench

KIT = Path(__file__).resolve().parents[2] / "tests" / "kit"
sys.path.insert(0, str(KIT))

from mongoserver import Databases, databases, running_server, server_for_tests  # noqa: E402
from roundtrips import commands  # noqa: E402

from trionode.config.tree import AppStateSettings, StoreSettings  # noqa: E402
from trionode.registry.batch import CHUNK_MESSAGES  # noqa: E402
from trionode.registry.changes import AddPermanents, ResolveHashes  # noqa: E402
from trionode.registry.rows import HashRow, PermanentRow  # noqa: E402
from trionode.runtime.bus import EventBus  # noqa: E402
from trionode.runtime.clock import SystemClock  # noqa: E402
from trionode.runtime.counters import Counters  # noqa: E402
from trionode.store.appregistry import AppRegistry  # noqa: E402
from trionode.store.eventlog import EventLog  # noqa: E402
from trionode.store.open import Stores, open_stores  # noqa: E402
from trionode.wire.envelope import Envelope, seal  # noqa: E402
from trionode.wire.keys import NodeKey  # noqa: E402

MESSAGES, APPS, FEEDERS = 400, 5, 40
CHUNKS, NAMES = 2, 1_000
BATCHES = (250, 500, 1_000, 2_000, 4_000)
FIRST_HEIGHT = 2_100_000
OWNER = "1HMvNKvDqvmKmzGGVDbyFLHj9oNN8RkAGE"
CLOCK = SystemClock()

Work = Callable[[Stores], Awaitable[int]]
"""Does the work; how many things it did."""


def gossip(count: int) -> list[Envelope]:
    """One running message from each of `count` addresses, broadcast now."""
    rng = random.Random(1)
    keys = [NodeKey.generate(rng) for _ in range(20)]
    now_ms = CLOCK.now_ms()
    made: list[Envelope] = []
    for number in range(count):
        data: dict[str, Any] = {
            "type": "fluxapprunning",
            "version": 2,
            "apps": [{"name": f"app{n}", "hash": f"{n:064x}"} for n in rng.sample(range(1000), APPS)],
            "ip": f"10.{number >> 8}.{number & 255}.1:16127",
            "broadcastedAt": now_ms,
            "osUptime": 12345.67,
            "staticIp": True,
        }
        made.append(seal(data, keys[number % len(keys)], now_ms))
    return made


def registry_rows(count: int) -> tuple[list[HashRow], list[PermanentRow]]:
    payments: list[HashRow] = []
    messages: list[PermanentRow] = []
    for number in range(count):
        name, height = f"app{number % NAMES}", FIRST_HEIGHT + number
        text = f'{{"version":8,"name":"{name}","description":"{"d" * 700}","owner":"{OWNER}","instances":3}}'
        payment = HashRow.found(f"{number + 1:064x}", height, f"{number * 7919:064x}", 200_000_000)
        payments.append(payment)
        messages.append(
            PermanentRow(
                payment.hash,
                "fluxappregister" if number < NAMES else "fluxappupdate",
                1,
                text,
                name,
                OWNER,
                1_700_000_000_000 + number,
                "s" * 88,
                payment.txid,
                height,
                payment.value_sat,
            )
        )
    return payments, messages


class Measured:
    """What is done with a store, in this order: each leaves behind what the next one needs."""

    def __init__(self, scale: int) -> None:
        self.envelopes = gossip(MESSAGES * scale)
        self.payments, self.messages = registry_rows(CHUNKS * CHUNK_MESSAGES * scale)

    async def ingest(self, stores: Stores) -> int:
        waiting = iter(self.envelopes)
        log = EventLog(AppStateSettings(), stores.events, CLOCK, EventBus(), Counters())

        async def feeder() -> None:
            for envelope in waiting:
                await log.ingest(envelope)

        async with trio.open_nursery() as nursery:
            await nursery.start(log.run)
            async with trio.open_nursery() as feeders:
                for _ in range(FEEDERS):
                    feeders.start_soon(feeder)
            nursery.cancel_scope.cancel()
        return len(self.envelopes)

    async def serve(self, stores: Stores) -> int:
        count = 0
        async for event in stores.events.stream_events(0, page=CHUNK_MESSAGES):
            count += event.data_text is not None
        return count

    async def rebuild_locations(self, stores: Stores) -> int:
        """What a start does: the whole log is read back into the index of locations."""
        log = EventLog(AppStateSettings(), stores.events, CLOCK, EventBus(), Counters())
        async with trio.open_nursery() as nursery:
            await nursery.start(log.run)
            nursery.cancel_scope.cancel()
        return APPS * len(self.envelopes)

    async def add_payments(self, stores: Stores) -> int:
        for at in range(0, len(self.payments), CHUNK_MESSAGES):
            await stores.registry.add_hashes(self.payments[at : at + CHUNK_MESSAGES])
        return len(self.payments)

    async def load_chunk(self, stores: Stores, at: int) -> int:
        """One chunk as the batch processor treats it: three questions, one commit."""
        rows = tuple(self.messages[at : at + CHUNK_MESSAGES])
        hashes = tuple(row.hash for row in rows)
        store = stores.registry
        assert len(await store.hash_rows(hashes)) == len(rows)
        assert not await store.known_permanents(hashes)
        await store.permanents_of_names({row.name for row in rows if row.type == "fluxappupdate"})
        await store.commit([AddPermanents(rows), ResolveHashes(hashes)])
        return len(rows)

    async def bulk_load(self, stores: Stores) -> int:
        starts = range(0, len(self.messages), CHUNK_MESSAGES)
        return sum([await self.load_chunk(stores, at) for at in starts])

    async def reindex(self, stores: Stores) -> int:
        await stores.registry.set_scanned_height(FIRST_HEIGHT + len(self.messages))
        height = FIRST_HEIGHT + len(self.messages)
        registry = AppRegistry(stores.registry, CLOCK, EventBus(), Counters(), daemon_height=lambda: height)
        await registry.load()
        return await registry.reindex() or 0

    async def stream(self, stores: Stores) -> int:
        return len([row.hash async for row in stores.registry.stream_permanents(order="height")])


async def side_by_side(
    bench: Bench, measured: Measured, kinds: Sequence[tuple[str, StoreSettings]], *, chunks_only: bool = False
) -> None:
    chunks = len(measured.messages) // CHUNK_MESSAGES
    works: list[tuple[str, Work, int]] = [
        ("gossip into the log", measured.ingest, 0),
        ("events streamed for state sync", measured.serve, 0),
        ("index of locations rebuilt", measured.rebuild_locations, 0),
        ("payments added", measured.add_payments, chunks),
        ("messages, bulk load", measured.bulk_load, chunks),
        ("current specifications rebuilt", measured.reindex, 0),
        ("messages streamed by height", measured.stream, 0),
    ]
    for what, work, parts in works:
        if chunks_only and not parts:
            continue
        for kind, settings in kinds:
            async with _opened(settings) as stores:
                with commands() as sent:
                    began = time.perf_counter()
                    done = await work(stores)
                    took = time.perf_counter() - began
            baseline = f"{what}, SQLite" if kind != "SQLite" else ""
            note = "" if kind == "SQLite" else f"{len(sent)} round trips for {done:,}"
            bench.add(f"{what}, {kind}", done / took, "1/s", baseline=baseline, note=note)
            if parts and kind != "SQLite":
                name = f"round trips per chunk of {CHUNK_MESSAGES:,}: {what}, {kind}"
                goal = 6 if work == measured.bulk_load else None
                bench.add(name, len(sent) / parts, "", goal=goal, better="lower")


async def batch_sizes(bench: Bench, measured: Measured, kind: str, mongo: Databases) -> None:
    """Payments added and read again in batches of several sizes: why 2,000 in a question and in a commit."""
    rows = measured.payments
    for size in BATCHES:
        settings = msgspec.structs.replace(_settings(mongo), mongo_prefix=f"{mongo.prefix}{size}_")
        async with _opened(settings) as stores:
            with commands() as sent:
                began = time.perf_counter()
                for at in range(0, len(rows), size):
                    await stores.registry.add_hashes(rows[at : at + size])
                took = time.perf_counter() - began
            trips = len(sent) / len(rows) * CHUNK_MESSAGES
            note = f"{trips:g} round trips for {CHUNK_MESSAGES:,}"
            bench.add(f"payments added {size:,} at once, {kind}", len(rows) / took, "1/s", note=note)
            began = time.perf_counter()
            count = len([row.hash async for row in stores.registry.stream_hashes(page=size)])
            took = time.perf_counter() - began
            bench.add(f"payments read {size:,} at once, {kind}", count / took, "1/s")


@asynccontextmanager
async def _opened(settings: StoreSettings) -> AsyncIterator[Stores]:
    async with open_stores(settings, Path()) as stores:
        yield stores


def _settings(mongo: Databases) -> StoreSettings:
    # SecantusDB may take a minute for what a server does in milliseconds.
    return StoreSettings(url=mongo.url, mongo_prefix=mongo.prefix, mongo_call_s=300.0, mongo_retry_s=0.0)


def main() -> int:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder, server_for_tests() as server:
        scale = 10 if server.real else 1
        name = "MongoDB" if server.real else "SecantusDB"
        measured = Measured(scale)
        counted = f"{len(measured.envelopes):,} running messages, {len(measured.messages):,} app messages"
        bench = Bench(f"Stores side by side, SQLite and {name}: {counted}")
        with databases(server) as mongo:
            sqlite = StoreSettings(url=f"sqlite:{folder}/events.sqlite")
            trio.run(side_by_side, bench, measured, [("SQLite", sqlite), (name, _settings(mongo))])
            if not server.real:
                with running_server("--standalone") as (lone, _), databases(lone) as room:
                    kinds = [("without transactions", _settings(room))]
                    trio.run(partial(side_by_side, bench, measured, kinds, chunks_only=True))
            trio.run(batch_sizes, bench, measured, name, mongo)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
