"""The registry's file under bulk work (docs/spec/registry.md §2, §12): rows per second into and out of it.

Batches as the explorer (payments) and the batch processor (messages) commit them; specifications of 0.8 kB.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from _harness import Bench

from trionode.registry.changes import AddPermanents, ResolveHashes
from trionode.registry.rows import HashRow, PermanentRow
from trionode.store.registry_sqlite import SqliteRegistryStore, open_sqlite_registry

ROWS, NAMES, BATCH = 60_000, 20_000, 2_000
OWNER = "1HMvNKvDqvmKmzGGVDbyFLHj9oNN8RkAGE"


def rows() -> tuple[list[HashRow], list[PermanentRow]]:
    payments: list[HashRow] = []
    messages: list[PermanentRow] = []
    for number in range(ROWS):
        hash_ = hashlib.sha256(str(number).encode()).hexdigest()
        name, height = f"app{number % NAMES}", 700_000 + 20 * number
        text = f'{{"version":8,"name":"{name}","description":"{"d" * 700}","owner":"{OWNER}","instances":3}}'
        payments.append(HashRow.found(hash_[::-1], height, hash_, 200_000_000))
        messages.append(
            PermanentRow(
                hash_,
                "fluxappregister",
                1,
                text,
                name,
                OWNER,
                1_700_000_000_000 + number,
                "s" * 88,
                hash_[::-1],
                height,
                200_000_000,
            )
        )
    return payments, messages


async def seconds(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def measure(bench: Bench, store: SqliteRegistryStore) -> None:
    payments, messages = rows()
    hashes = [row.hash for row in payments]
    starts = range(0, ROWS, BATCH)

    async def add_payments() -> None:
        for at in starts:
            await store.add_hashes(payments[at : at + BATCH])

    async def add_messages() -> None:
        for at in starts:
            resolved = ResolveHashes(tuple(hashes[at : at + BATCH]))
            await store.commit([AddPermanents(tuple(messages[at : at + BATCH])), resolved])

    async def ask() -> None:
        for at in starts:
            assert len(await store.known_permanents(hashes[at : at + BATCH])) == BATCH

    async def predecessors() -> None:
        for at in range(0, NAMES, BATCH):
            names = [f"app{number}" for number in range(at, at + BATCH)]
            assert len(await store.permanents_of_names(names)) == BATCH

    async def stream() -> None:
        count = 0
        async for row in store.stream_permanents(order="height"):
            count += len(row.json_text()) > 0
        assert count == ROWS

    async def newest() -> None:
        assert len([row async for row in store.stream_newest()]) == NAMES

    bench.add("add payments", ROWS / await seconds(add_payments), "1/s")
    note = "one commit with marking their payments, batches of 2,000"
    bench.add("add messages", ROWS / await seconds(add_messages), "1/s", goal=40_000, note=note)
    bench.add("which of these are stored", ROWS / await seconds(ask), "1/s")
    bench.add("all messages of these names", ROWS / await seconds(predecessors), "1/s")
    bench.add("stream all by height, as JSON", ROWS / await seconds(stream), "1/s")
    bench.add("newest message of every name", NAMES / await seconds(newest), "1/s")


async def opened(bench: Bench, folder: Path) -> None:
    async with open_sqlite_registry(folder / "registry.sqlite") as store:
        await measure(bench, store)


def main() -> int:
    bench = Bench(f"Registry store: {ROWS:,} payments and messages of {NAMES:,} names, SQLite")
    # TMPDIR decides which disk is measured.
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        trio.run(opened, bench, Path(folder))
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
