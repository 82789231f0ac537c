"""The driver's two clients side by side: the synchronous one in Trio's worker threads, and that for asyncio.

The same documents on the same server: SecantusDB, or the one that TRIONODE_TEST_MONGO names. The asyncio
client runs on a plain asyncio loop, without the bridge it would need under Trio, so it is at its best here.
The last figures are of writes whose caller was cancelled while the server had them: connections that the
driver cut, and writes that were stored (docs/storage.md, "Why threads and not the asyncio client").
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio
from _harness import Bench
from pymongo import AsyncMongoClient, MongoClient, monitoring

KIT = Path(__file__).resolve().parents[2] / "tests" / "kit"
sys.path.insert(0, str(KIT))

from faultproxy import FaultProxy, fault_proxy  # noqa: E402
from mongoserver import databases, server_for_tests  # noqa: E402

Document = dict[str, Any]
Work = Callable[[], Awaitable[object]]

DOCUMENTS, READS, TASKS = 2_000, 400, 8
PAGES, INSERTS, CANCELLED = 5, 3, 10
DELAY_S = 0.2
"""How long the proxy holds each call of the cancelled ones, so that they are cancelled under way."""


def documents(first: int = 0) -> list[Document]:
    """Events as the log stores them."""
    apps = [{"name": f"app{n}", "hash": f"{n:064x}"} for n in range(5)]
    return [
        {
            "_id": first + n,
            "ip": f"10.0.{n >> 8}.{n & 255}",
            "type": "apprunning",
            "dedupKey": "v2",
            "data": {"type": "fluxapprunning", "version": 2, "apps": apps, "osUptime": 12345.67},
        }
        for n in range(DOCUMENTS)
    ]


class ClosedForErrors(monitoring.ConnectionPoolListener):
    """Counts connections that were closed before the client was."""

    def __init__(self) -> None:
        self.count = 0

    def connection_closed(self, event: monitoring.ConnectionClosedEvent) -> None:
        self.count += event.reason == monitoring.ConnectionClosedReason.ERROR

    def _ignore(self, event: object) -> None:
        pass

    pool_created = pool_ready = pool_cleared = pool_closed = _ignore
    connection_created = connection_ready = _ignore
    connection_check_out_started = connection_check_out_failed = _ignore
    connection_checked_out = connection_checked_in = _ignore


class Threads:
    """The synchronous client as trionode uses it: each call in a worker thread, waited for when it writes."""

    name = "threads"

    def __init__(self, url: str, database: str, listener: ClosedForErrors) -> None:
        self._client: MongoClient[Document] = MongoClient(url, event_listeners=[listener])
        self._rows = self._client[database]["rows"]
        self._limiter = trio.CapacityLimiter(TASKS)

    async def find_one(self, number: int) -> None:
        await self._run(lambda: self._rows.find_one({"_id": number}))

    async def page(self) -> None:
        await self._run(lambda: list(self._rows.find({}, batch_size=DOCUMENTS).limit(DOCUMENTS)))

    async def insert(self, rows: list[Document]) -> None:
        await self._run(lambda: self._rows.insert_many(rows))

    async def count(self) -> int:
        return await trio.to_thread.run_sync(lambda: self._rows.count_documents({}))

    async def close(self) -> None:
        await trio.to_thread.run_sync(self._client.close)

    async def _run(self, work: Callable[[], object]) -> None:
        await trio.to_thread.run_sync(work, limiter=self._limiter)

    async def together(self, works: list[Work]) -> None:
        async with trio.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(work)

    async def cancelled(self, work: Work, after_s: float) -> None:
        with trio.move_on_after(after_s):
            await work()

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class Asyncio:
    """The asynchronous client on its own loop."""

    name = "asyncio"

    def __init__(self, url: str, database: str, listener: ClosedForErrors) -> None:
        self._client: AsyncMongoClient[Document] = AsyncMongoClient(url, event_listeners=[listener])
        self._rows = self._client[database]["rows"]

    async def find_one(self, number: int) -> None:
        await self._rows.find_one({"_id": number})

    async def page(self) -> None:
        await self._rows.find({}, batch_size=DOCUMENTS).limit(DOCUMENTS).to_list()

    async def insert(self, rows: list[Document]) -> None:
        await self._rows.insert_many(rows)

    async def count(self) -> int:
        return await self._rows.count_documents({})

    async def close(self) -> None:
        await self._client.close()

    async def together(self, works: list[Work]) -> None:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(_as_coroutine(work))

    async def cancelled(self, work: Work, after_s: float) -> None:
        try:
            async with asyncio.timeout(after_s):
                await work()
        except TimeoutError:
            return

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _as_coroutine(work: Work) -> None:
    await work()


async def measure(bench: Bench, made: Callable[[], Threads | Asyncio]) -> None:
    client = made()
    kind = client.name

    async def rate(what: str, count: int, work: Work) -> float:
        began, used = time.perf_counter(), time.process_time()
        await work()
        took, cpu_s = time.perf_counter() - began, time.process_time() - used
        baseline = f"{what}, threads" if kind != "threads" else ""
        bench.add(f"{what}, {kind}", count / took, "1/s", baseline=baseline)
        return cpu_s / count

    async def one_by_one() -> None:
        for number in range(READS):
            await client.find_one(number)

    async def pages() -> None:
        for _ in range(PAGES):
            await client.page()

    async def inserts() -> None:
        for number in range(1, INSERTS + 1):
            await client.insert(documents(number * DOCUMENTS))

    await client.insert(documents())
    cpu_s = await rate("reads of one document", READS, one_by_one)
    await rate(f"the same, {TASKS} tasks", TASKS * READS, lambda: client.together([one_by_one] * TASKS))
    await rate(f"documents in pages of {DOCUMENTS:,}", PAGES * DOCUMENTS, pages)
    await rate(f"documents inserted {DOCUMENTS:,} at once", INSERTS * DOCUMENTS, inserts)
    bench.add(f"CPU of one read, {kind}", cpu_s * 1e6, "us", better="lower")
    await client.close()


async def cancel(
    bench: Bench, made: Callable[[], Threads | Asyncio], door: FaultProxy, closed: ClosedForErrors
) -> None:
    """Writes that are cancelled while the server has them."""
    client = made()
    before = await client.count()
    door.delay_s = DELAY_S
    for number in range(CANCELLED):
        work = partial(client.insert, [{"_id": f"{client.name} {number}"}])
        await client.cancelled(work, DELAY_S / 2)
    door.delay_s = 0.0
    await client.sleep(2 * DELAY_S)
    stored = await client.count() - before
    of = f"of {CANCELLED} writes"
    knows = "the caller has waited" if client.name == "threads" else "the caller does not know which"
    bench.add(f"cancelled: connections cut, {client.name}", closed.count, "", better="lower", note=of)
    bench.add(f"cancelled: stored, {client.name}", stored, "", note=f"{of}; {knows}")
    await client.close()


def main() -> int:
    with server_for_tests() as server, databases(server) as mongo:
        name = "MongoDB" if server.real else "SecantusDB"
        bench = Bench(f"The driver's clients on {name}: {DOCUMENTS:,} documents of the event log")
        with fault_proxy(server.host, server.port) as door:
            through = server.url_at(door.host, door.port)
            closed = {kind: ClosedForErrors() for kind in (Threads, Asyncio)}

            def maker(kind: type[Threads] | type[Asyncio], url: str) -> Callable[[], Threads | Asyncio]:
                return lambda: kind(url, f"{mongo.prefix}{kind.name}", closed[kind])

            trio.run(measure, bench, maker(Threads, mongo.url))
            asyncio.run(measure(bench, maker(Asyncio, mongo.url)))
            trio.run(cancel, bench, maker(Threads, through), door, closed[Threads])
            asyncio.run(cancel(bench, maker(Asyncio, through), door, closed[Asyncio]))
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
