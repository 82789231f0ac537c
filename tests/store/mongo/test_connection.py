"""Commits are all or nothing, whatever happens to the connection, the caller or the process.

What depends on the way of committing runs in both: with transactions, and with the roll-forward journal.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import pytest
import trio
import trio.testing
from faultproxy import DISK_FULL, NOT_PRIMARY, Fault, FaultProxy, When, fault_proxy
from mongohaste import without_a_server
from mongorows import AT_MS, location, put, quick, running, signed_copy
from mongoserver import Databases

from trionode.appstate.changes import Change, DeleteEvent, PutCopy, PutLocation
from trionode.appstate.documents import Row
from trionode.errors import StoreError
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.store.memory import MemoryStore
from trionode.store.mongo.connection import MongoServer, open_mongo
from trionode.store.mongo.events import MongoStore

T = TypeVar("T")
WAYS = ["transaction", "journal"]
STEPS = range(1, 11)
PATIENT = {"mongo_call_s": 60.0, "mongo_retry_s": 60.0}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    way: str = request.param
    return way


@pytest.fixture
def no_sessions_left(mongo: Databases) -> Iterator[None]:
    """A server keeps the transaction of a client that vanished for a minute, and its locks."""
    yield
    with mongo.server.client() as client:
        client.admin.command("killAllSessions", [])


@pytest.fixture
def proxy(mongo: Databases, no_sessions_left: None) -> Iterator[FaultProxy]:
    with fault_proxy(mongo.server.host, mongo.server.port) as made:
        yield made


@asynccontextmanager
async def opened(
    mongo: Databases, way: str, door: FaultProxy | None = None, *, part: str = "", **values: Any
) -> AsyncIterator[tuple[MongoServer, MongoStore]]:
    url = mongo.url if door is None else mongo.server.url_at(door.host, door.port)
    async with open_mongo(quick(url, f"{mongo.prefix}{part}", **values)) as server:
        server.has_transactions = server.has_transactions and way == "transaction"
        store = MongoStore(server)
        await store.open()
        yield server, store


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """What it answers; a client may take a moment to notice that the server is back."""
    with trio.fail_after(120):
        while True:
            try:
                return await call()
            except StoreError:
                await trio.sleep(0.1)


async def rows_of(store: MongoStore) -> list[Row]:
    return sorted([row async for row in store.load()], key=repr)


def first() -> list[Change]:
    return [put(running("1.1.1.1")), put(running("2.2.2.2")), PutLocation(location(1))]


def second() -> list[Change]:
    """Touches three collections with deletions and additions."""
    return [
        DeleteEvent(running("1.1.1.1").key),
        put(running("2.2.2.2", AT_MS + 1)),
        put(running("3.3.3.3")),
        PutLocation(location(1, name="moved")),
        PutLocation(location(2)),
        PutCopy(signed_copy("AppA")),
    ]


def outcomes() -> tuple[list[Row], list[Row]]:
    """What is stored after the first commit, and after both."""
    twin = MemoryStore()
    twin.commit_now(first())
    before = sorted(twin.rows(), key=repr)
    twin.commit_now(second())
    return before, sorted(twin.rows(), key=repr)


async def at_every_step(mongo: Databases, work: Callable[[FaultProxy, int, str], Awaitable[bool]]) -> int:
    """Do `work` for every step of a commit at once, each with a door and databases of its own.

    It says whether the commit had that step; returns how many it has.
    """
    has_step: dict[int, bool] = {}

    async def one(step: int) -> None:
        with fault_proxy(mongo.server.host, mongo.server.port) as proxy:
            has_step[step] = await work(proxy, step, f"{step}_")

    async with trio.open_nursery() as nursery:
        for step in STEPS:
            nursery.start_soon(one, step)
    count = sum(has_step.values())
    assert [has_step[step] for step in STEPS] == [step <= count for step in STEPS]
    assert 2 < count < len(STEPS), "a commit has no end"
    return count


@pytest.mark.trio
@pytest.mark.process
@pytest.mark.usefixtures("no_sessions_left")
@pytest.mark.parametrize("cut", ["before", "after"])
async def test_death_at_any_step_leaves_all_or_nothing(mongo: Databases, way: str, cut: When) -> None:
    before, after = outcomes()
    seen: dict[int, list[Row]] = {}

    async def die(proxy: FaultProxy, step: int, part: str) -> bool:
        acknowledged = False
        async with opened(mongo, way, part=part) as (_, store):
            await store.commit(first())
        url = mongo.server.url_at(proxy.host, proxy.port)
        async with open_mongo(quick(url, f"{mongo.prefix}{part}")) as server:
            server.has_transactions = server.has_transactions and way == "transaction"
            # From this step on nothing gets through, as if the process had died. The driver would try again
            # for as long as a call may take, but not what it is refused.
            proxy.spoil(Fault(cut=cut), nth=step, after=Fault(answer=DISK_FULL))
            with suppress(StoreError):
                await MongoStore(server).commit(second())
                acknowledged = True
            has_step = proxy.steps >= step
            server.journalled.lingering.clear()
        proxy.judge = None
        async with opened(mongo, way, part=part) as (_, store):
            found = seen[step] = await rows_of(store)
        assert found in (before, after), f"half a commit after step {step}"
        assert found == after or not acknowledged
        return has_step

    count = await at_every_step(mongo, die)
    # The journal counts from its first step on.
    assert (before in seen.values()) != (way == "journal" and cut == "after")
    assert seen[count + 1] == after


@pytest.mark.trio
@pytest.mark.process
@pytest.mark.usefixtures("no_sessions_left")
@pytest.mark.parametrize("cut", ["before", "half", "after"])
async def test_a_connection_lost_at_any_step_costs_only_time(mongo: Databases, way: str, cut: When) -> None:
    _, after = outcomes()

    async def lose(proxy: FaultProxy, step: int, part: str) -> bool:
        async with opened(mongo, way, proxy, part=part, **PATIENT) as (server, store):
            await store.commit(first())
            proxy.spoil(Fault(cut=cut), nth=step)
            await store.commit(second())
            has_step = proxy.steps >= step
            proxy.judge = None
            assert await rows_of(store) == after, f"after step {step}"
            assert server.is_connected
            return has_step

    await at_every_step(mongo, lose)


@pytest.mark.trio
@pytest.mark.process
async def test_a_step_down_costs_only_time(mongo: Databases, proxy: FaultProxy, way: str) -> None:
    async with opened(mongo, way, proxy, **PATIENT) as (_, store):
        await store.commit(first())
        proxy.spoil(Fault(answer=NOT_PRIMARY), nth=2, times=2)
        await store.commit(second())
        assert (await store.counts())["events"] == 2


@pytest.mark.trio
@pytest.mark.process
async def test_loss_and_return_are_told(mongo: Databases, proxy: FaultProxy) -> None:
    counters, bus = Counters(), EventBus()
    async with opened(mongo, "transaction", proxy, mongo_retry_s=120.0) as (server, store):
        server.report_to(counters, bus)
        told: list[bool] = []
        changed = trio.Event()

        def hear(is_connected: bool) -> None:
            told.append(is_connected)
            changed.set()

        server.watch(hear)
        await store.commit(first())
        assert server.document()["connected"]
        proxy.down()
        async with trio.open_nursery() as nursery:
            with without_a_server(server):
                nursery.start_soon(store.commit, second())
                await changed.wait()
                found = server.document()
                assert not found["connected"]
                assert found["lostForS"] >= 0
                assert "cannot write" in found["problem"]
            proxy.up()
        assert told == [False, True]
        assert server.document()["problem"] is None
        assert counters["store.mongo.losses"] == 1
        assert counters["store.mongo.repeated_calls"] >= 1
        assert [event.name for event in bus.replay(0)] == ["store:connection"] * 2
        assert len(await store.events_for()) == 2


@pytest.mark.trio
@pytest.mark.process
async def test_a_lost_server_is_an_error_after_a_while(mongo: Databases, proxy: FaultProxy) -> None:
    async with opened(mongo, "journal", proxy, mongo_retry_s=0.2) as (server, store):
        await store.commit(first())
        proxy.down()
        with without_a_server(server):
            with pytest.raises(StoreError) as caught:
                await store.commit(second())
            assert "store.url" in caught.value.remedy
            with pytest.raises(StoreError):
                await store.events_for()
        proxy.up()
        await patiently(lambda: store.commit(second()))
        assert (await store.counts())["events"] == 2
        assert server.is_connected


@pytest.mark.trio
@pytest.mark.process
async def test_a_store_whose_server_is_away_is_closed_all_the_same(
    mongo: Databases, proxy: FaultProxy
) -> None:
    async with opened(mongo, "transaction", proxy) as (server, store):
        await store.commit(first())
        proxy.down()
        before_s = trio.current_time()
        await server.aclose()
        # The driver's own wait is half a minute; ours is a tenth of it.
        assert trio.current_time() - before_s < 25


@pytest.mark.trio
@pytest.mark.process
async def test_counting_after_a_commit_that_was_cut_short(mongo: Databases, proxy: FaultProxy) -> None:
    async with opened(mongo, "journal", proxy) as (_, store):
        await store.commit(first())
        proxy.spoil(Fault(cut="before"), nth=2, after=Fault(answer=DISK_FULL))
        with pytest.raises(StoreError):
            await store.commit(second())
        proxy.judge = None
        assert await patiently(store.counts) == {
            "events": 2,
            "locations": 2,
            "installing": 0,
            "install_errors": 0,
            "signed_copies": 1,
        }


@pytest.mark.trio
@pytest.mark.process
async def test_a_cancelled_commit_is_finished_or_never_begun(
    mongo: Databases, proxy: FaultProxy, way: str
) -> None:
    before, after = outcomes()
    async with opened(mongo, way, proxy, **PATIENT) as (_, store):
        await store.commit(first())
        scope = trio.CancelScope()
        token = trio.lowlevel.current_trio_token()
        # The caller is cancelled while the commit is at its second call.
        proxy.spoil(Fault(cut="before", then=lambda: token.run_sync_soon(scope.cancel)), nth=2)
        with scope:
            await store.commit(second())
        calls = len(proxy.calls)
        found = await rows_of(store)
        assert found in (before, after)
        # Nothing is written behind the back of the caller; only the journal is carried out to its end.
        updates = sum(call.name == "update" for call in proxy.calls[calls:])
        assert way == "journal" or not updates
        never = trio.CancelScope()
        never.cancel()
        with never:
            await store.commit([put(running("8.8.8.8"))])
        assert never.cancelled_caught
        assert not await store.events_for(ip="8.8.8.8")


@pytest.mark.trio
@pytest.mark.process
async def test_closing_waits_for_what_runs_and_stops_the_rest(
    mongo: Databases, proxy: FaultProxy, way: str
) -> None:
    before, after = outcomes()
    ends: list[str] = []
    async with opened(mongo, way, proxy, **PATIENT) as (server, store):
        await store.commit(first())

        async def commit(changes: list[Change]) -> None:
            try:
                await store.commit(changes)
                ends.append("stored")
            except StoreError:
                ends.append("refused")

        begun = threading.Event()

        def begin() -> None:
            # Nothing comes to its end before the closing has begun.
            proxy.stall()
            begun.set()

        proxy.spoil(Fault(then=begin, cut="before"), nth=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit, second())
            await trio.to_thread.run_sync(begun.wait)
            nursery.start_soon(commit, [put(running("8.8.8.8"))])
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as closing:
                closing.start_soon(server.aclose)
                await trio.testing.wait_all_tasks_blocked()
                proxy.delay_s = 0.1
                proxy.flow()
            closed_at = proxy.count()
        proxy.delay_s = 0.0
        assert proxy.count() == closed_at, "a thread wrote after the store was closed"
        assert "refused" in ends
    async with opened(mongo, way) as (_, store):
        found = await rows_of(store)
        assert found in (before, after)
        assert found == after or "stored" not in ends


@pytest.mark.trio
async def test_a_prefix_keeps_nodes_apart(mongo: Databases) -> None:
    async with opened(mongo, "transaction") as (_, store):
        await store.commit(first())
    other = quick(mongo.url, f"{mongo.prefix}b_")
    async with open_mongo(other) as server:
        neighbour = MongoStore(server)
        await neighbour.open()
        assert await rows_of(neighbour) == []
        await neighbour.put_meta("a", "1")
    async with opened(mongo, "transaction") as (_, store):
        assert await store.get_meta("a") is None
        assert len(await rows_of(store)) == 3
