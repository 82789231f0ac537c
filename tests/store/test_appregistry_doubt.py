"""AppRegistry over a store whose answers get lost: memory and news follow what is stored after all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
from appmessages import signed
from test_appregistry import HEIGHT, House, Local, promote

from trionode.errors import StoreError
from trionode.registry.changes import CommitReport, DeleteCurrent, RegistryChange
from trionode.registry.rows import CurrentSpec, HashRow
from trionode.store.appregistry import AppRegistry
from trionode.store.registry_memory import MemoryRegistryStore

NAME = "SpecApp8"


class LosesAnswers(MemoryRegistryStore):
    """`losing`: what is written lands, and its answer is lost. `failing`: nothing lands."""

    losing = failing = unreadable = False

    async def commit(self, changes: Sequence[RegistryChange]) -> CommitReport:
        if self.failing:
            raise StoreError("the database does not answer")
        report = await super().commit(changes)
        if self.losing:
            raise StoreError("the answer was lost, for longer than we wait")
        return report

    async def stream_current(self, *, page: int = 500) -> AsyncIterator[CurrentSpec]:
        if self.unreadable:
            raise StoreError("the database does not answer")
        async for row in super().stream_current(page=page):
            yield row


async def paid(house: House, nursery: trio.Nursery) -> tuple[AppRegistry, HashRow]:
    """A registry that knows a registration, and its payment, which is not promoted yet."""
    registry = await house.start(nursery)
    document = signed()
    await registry.ingest_temporary(document)
    return registry, house.pay(document, HEIGHT - 1)


async def mirrors(house: House) -> bool:
    stored = [row async for row in house.store.stream_current()]
    return {row.name: row for row in stored} == dict(house.registry.current.by_name)


@pytest.mark.trio
async def test_a_promotion_whose_answer_was_lost_is_told_by_the_next(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    store = LosesAnswers()
    house = House(store)
    registry, row = await paid(house, nursery)
    store.losing = True
    with pytest.raises(StoreError):
        await promote(registry, row)
    assert house.events("app:specStored") == []
    store.losing = False
    assert await promote(registry, row)
    assert registry.current.get(NAME) is not None
    assert house.events("app:specStored") == [{"name": NAME, "hash": row.hash}]
    assert house.forgotten == [NAME]
    assert house.counters["registry.caught_up"] == 1
    # Told once.
    await registry.on_block_expire(HEIGHT)
    assert len(house.events("app:specStored")) == 1


@pytest.mark.trio
async def test_memory_stays_in_doubt_until_the_store_can_be_read(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    store = LosesAnswers()
    house = House(store)
    registry, row = await paid(house, nursery)
    store.losing = True
    with pytest.raises(StoreError):
        await promote(registry, row)
    store.losing, store.unreadable = False, True
    for _ in range(2):
        with pytest.raises(StoreError):
            await registry.on_block_expire(HEIGHT)
        assert registry.current.get(NAME) is None
    store.unreadable = False
    await registry.on_block_expire(HEIGHT)
    assert registry.current.get(NAME) is not None
    assert len(house.events("app:specStored")) == 1


@pytest.mark.trio
async def test_what_did_not_land_is_no_news(autojump_clock: Any, nursery: trio.Nursery) -> None:
    store = LosesAnswers()
    house = House(store)
    registry, row = await paid(house, nursery)
    store.failing = True
    with pytest.raises(StoreError):
        await promote(registry, row)
    store.failing = False
    assert await promote(registry, row)
    assert house.events("app:specStored") == [{"name": NAME, "hash": row.hash}]
    assert house.counters["registry.caught_up"] == 0


@pytest.mark.trio
async def test_an_end_whose_answer_was_lost_has_its_consequences(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    """Whoever changed the store: after the doubt memory follows, and an installed app goes."""
    store = LosesAnswers()
    house = House(store, Local(NAME))
    house.put(signed(), HEIGHT - 1)
    registry = await house.start(nursery)
    assert registry.current.get(NAME) is not None
    store.losing = True
    with pytest.raises(StoreError):
        await registry.reindex()
    store.losing = False
    store.commit_now([DeleteCurrent(NAME)])
    await registry.on_block_expire(HEIGHT)
    assert registry.current.get(NAME) is None
    assert house.local.removed == [NAME]


@pytest.mark.trio
@pytest.mark.parametrize("way", ["expire", "reindex", "rescan", "rewind"])
async def test_after_any_lost_answer_memory_is_what_is_stored(
    way: str, autojump_clock: Any, nursery: trio.Nursery
) -> None:
    store = LosesAnswers()
    house = House(store)
    house.put(signed(), HEIGHT - 1)
    registry = await house.start(nursery)
    if way == "rewind":
        # the explorer has rewound the store; only the look afterwards fails
        store.commit_now([DeleteCurrent(NAME)])
        store.unreadable = True
    else:
        store.losing = True
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "expire": lambda: registry.on_block_expire(HEIGHT + 10_000_000),
        "reindex": registry.reindex,
        "rescan": lambda: registry.rescan(HEIGHT + 1),
        "rewind": lambda: registry.on_rewind(HEIGHT - 2),
    }
    with pytest.raises(StoreError):
        await ways[way]()
    store.losing = store.unreadable = False
    await registry.on_block_expire(HEIGHT)
    assert await mirrors(house)


@pytest.mark.trio
async def test_a_restart_of_the_service_tells_what_was_stored(autojump_clock: Any) -> None:
    store = LosesAnswers()
    house = House(store)
    async with trio.open_nursery() as nursery:
        registry, row = await paid(house, nursery)
        store.losing = True
        with pytest.raises(StoreError):
            await promote(registry, row)
        nursery.cancel_scope.cancel(reason="the service crashed")
    store.losing = False
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        assert len(house.events("app:specStored")) == 1
        nursery.cancel_scope.cancel(reason="end of the test")


@pytest.mark.trio
async def test_a_message_that_seemed_lost_expires_from_the_store(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    store = LosesAnswers()
    house = House(store)
    registry = await house.start(nursery)
    store.losing = True
    with pytest.raises(StoreError):
        await registry.ingest_temporary(signed())
    store.losing = False
    assert len(await store.temporaries()) == 1
    await trio.sleep(3601)
    assert await store.temporaries() == []
