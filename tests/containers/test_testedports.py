"""Ports of a test that was cut short are known to the next one, also after a restart."""

from __future__ import annotations

import pytest

from trionode.containers.spawning import testedports
from trionode.containers.spawning.testedports import META
from trionode.store.localapps import LOCAL_META, MemoryLocalApps


def ports(store: MemoryLocalApps, *used: int) -> testedports.TestedPorts:
    return testedports.TestedPorts(store, lambda: used)


@pytest.mark.trio
async def test_what_was_closed_is_forgotten_and_the_rest_is_left_for_the_next_life() -> None:
    store = MemoryLocalApps()
    first = ports(store)
    await first.begin((31_000, 31_001))
    assert await first.left() == (), "under test, not left"
    await first.end((31_000, 31_001), closed=(31_000,))
    assert await first.left() == (31_001,)
    again = ports(store)
    assert await again.left() == (31_001,)
    await again.end((), closed=(31_001,))
    assert await ports(store).left() == ()


@pytest.mark.trio
async def test_a_node_that_dies_in_the_middle_finds_them_again() -> None:
    store = MemoryLocalApps()
    await ports(store).begin((31_000,))
    assert await ports(store).left() == (31_000,)


@pytest.mark.trio
async def test_ports_of_installed_apps_are_nobodys_leftovers() -> None:
    store = MemoryLocalApps()
    await ports(store).begin((31_000, 31_001))
    assert await ports(store, 31_000).left() == (31_001,)


@pytest.mark.trio
async def test_a_store_that_fails_or_holds_nonsense_stops_no_test() -> None:
    store = MemoryLocalApps()
    store.failing = {"put_meta", "get_meta"}
    noting = ports(store)
    await noting.begin((31_000,))
    await noting.end((31_000,), closed=())
    store.failing.clear()
    await store.put_meta(META, "nonsense")
    assert await ports(store).left() == ()


@pytest.mark.trio
async def test_notes_that_could_not_be_written_are_written_by_the_next_test_of_the_same_ports() -> None:
    store = MemoryLocalApps()
    noting = ports(store)
    store.failing = {"put_meta"}
    await noting.begin((31_000,))
    await noting.end((31_000,), closed=())
    store.failing.clear()
    await noting.begin((31_000,))
    assert await ports(store).left() == (31_000,)


def test_the_notes_move_with_the_apps() -> None:
    assert META in LOCAL_META
