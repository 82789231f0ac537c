"""Apps that are backed up or restored: kept back until they are let go, their time is over, or they go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trionode.containers.health.holds import META, Holds
from trionode.containers.operations import Operations
from trionode.errors import StoreError
from trionode.hosting.port import APP_REMOVED
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.store.localapps import MemoryLocalApps

HOUR_MS = 3_600_000


class Room:
    """What outlives a process: the store and the clock."""

    def __init__(self) -> None:
        self.store = MemoryLocalApps()
        self.clock = VirtualClock()

    @asynccontextmanager
    async def process(self) -> AsyncIterator[tuple[Holds, Operations, EventBus]]:
        operations, bus = Operations(), EventBus()
        holds = Holds(self.store, operations, bus, self.clock)
        async with trio.open_nursery() as nursery:
            await nursery.start(holds.run)
            yield holds, operations, bus
            nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_hold_lasts_until_it_is_dropped_and_outlives_the_process(autojump_clock: MockClock) -> None:
    room = Room()
    until_ms = room.clock.now_ms() + HOUR_MS
    async with room.process() as (holds, operations, _):
        await holds.put("shop", until_ms)
        await holds.put("mail", until_ms + 1)
        await holds.drop("mail")
        assert operations.held == {"shop"}
    async with room.process() as (holds, operations, _):
        assert holds.until_ms == {"shop": until_ms}
        assert operations.held == {"shop"}
        await holds.drop("shop")
        assert operations.held == frozenset()
    async with room.process() as (_, operations, _):
        assert operations.held == frozenset()


@pytest.mark.trio
async def test_it_ends_in_time_and_a_later_word_counts(autojump_clock: MockClock) -> None:
    room = Room()
    async with room.process() as (holds, operations, _):
        now_ms = room.clock.now_ms()
        await holds.put("shop", now_ms + 2 * HOUR_MS)
        await holds.put("mail", now_ms + HOUR_MS)
        await holds.put("mail", now_ms + 3 * HOUR_MS)
        await trio.sleep(7199)
        assert operations.held == {"shop", "mail"}
        await trio.sleep(2)
        assert operations.held == {"mail"}
        assert await room.store.get_meta(META) == f'{{"mail":{now_ms + 3 * HOUR_MS}}}'


@pytest.mark.trio
async def test_what_was_over_while_the_node_was_down_is_over(autojump_clock: MockClock) -> None:
    room = Room()
    async with room.process() as (holds, _, _):
        await holds.put("shop", room.clock.now_ms() + HOUR_MS)
    await trio.sleep(3601)
    async with room.process() as (holds, operations, _):
        await trio.sleep(1)
        assert operations.held == frozenset()
        assert await room.store.get_meta(META) == "{}"


@pytest.mark.trio
async def test_a_clock_that_is_set_forward_is_noticed(autojump_clock: MockClock) -> None:
    room = Room()
    async with room.process() as (holds, operations, _):
        await holds.put("shop", room.clock.now_ms() + 20 * HOUR_MS)
        room.clock.skew_ms = 21 * HOUR_MS
        await trio.sleep(61)
        assert operations.held == frozenset()


@pytest.mark.trio
async def test_it_goes_with_its_app_though_the_store_fails_for_a_while(autojump_clock: MockClock) -> None:
    room = Room()
    async with room.process() as (holds, operations, bus):
        until_ms = room.clock.now_ms() + 20 * HOUR_MS
        await holds.put("shop", until_ms)
        await holds.put("myshop", until_ms)
        room.store.failing.add("put_meta")
        bus.publish(APP_REMOVED, {"name": "shop"})
        await trio.sleep(200)
        assert operations.held == {"myshop"}
        room.store.failing.clear()
        await trio.sleep(61)
        assert await room.store.get_meta(META) == f'{{"myshop":{until_ms}}}'


@pytest.mark.trio
async def test_what_cannot_be_written_has_not_changed(autojump_clock: MockClock) -> None:
    room = Room()
    async with room.process() as (holds, operations, _):
        await holds.put("mail", room.clock.now_ms() + HOUR_MS)
        room.store.failing.add("put_meta")
        with pytest.raises(StoreError):
            await holds.put("shop", room.clock.now_ms() + HOUR_MS)
        with pytest.raises(StoreError):
            await holds.drop("mail")
        assert operations.held == {"mail"}


@pytest.mark.trio
async def test_an_unreadable_list_names_the_remedy() -> None:
    room = Room()
    await room.store.put_meta(META, "[1]")
    with pytest.raises(StoreError) as caught:
        await Holds(room.store, Operations(), EventBus(), room.clock).load()
    assert META in caught.value.remedy
