"""Reorganisations: found by hashes, undone to the fork point, never read from an orphan."""

from __future__ import annotations

import pytest
import trio
from explorerworld import TIP, World, make_chain, truth
from trio.testing import MockClock

from trionode.sim.chain import Mode
from trionode.sim.chainblocks import Fate
from trionode.sim.chainpayments import price_transaction


@pytest.mark.trio
@pytest.mark.parametrize("fate", ["shift", "keep", "drop"])
@pytest.mark.parametrize("depth", [1, 10, 99])
async def test_the_rows_are_those_of_the_new_chain(autojump_clock: MockClock, depth: int, fate: Fate) -> None:
    world = World(make_chain(apps=900, first=TIP - 1000))
    await world.store.set_scanned_height(TIP - 1000)
    async with world.running():
        await world.at_tip()
        before = await world.rows()
        world.chain.clear_journal()
        fork = world.chain.reorg(depth, fate=fate)
        await world.at_tip()
        after = await world.rows()
    assert after == await truth(world.chain, TIP - 999)
    assert (after == before) is (fate == "keep")
    assert world.events("explorer:reorg") == [{"height": fork, "depth": depth}]
    assert ("rewind", fork) in world.recorder.calls
    read = [int(call.params[0]) for call in world.chain.journal("getblock")]
    assert min(height for height in read if height <= TIP) == fork + 1
    assert len(world.chain.journal("getblockhash")) < 12, "a search, not a walk"


@pytest.mark.trio
async def test_a_reorg_while_the_node_was_down(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=300, first=TIP - 500))
    await world.store.set_scanned_height(TIP - 500)
    async with world.running():
        await world.at_tip()
    world.chain.reorg(30, extra=4)
    async with world.running():
        await world.at_tip()
        assert world.events("explorer:ready")[-1] == {"height": TIP - 30}
    assert await world.rows() == await truth(world.chain, TIP - 499)


@pytest.mark.trio
async def test_a_reorg_in_the_middle_of_catching_up(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=900, first=TIP - 1000))
    await world.store.set_scanned_height(TIP - 1000)
    world.chain.behave("all", Mode.SLOW, 50)
    async with world.running():
        await trio.sleep(3.2)
        world.chain.reorg(60, extra=3)
        await world.at_tip()
        world.chain.reorg(1)
        await world.at_tip()
    assert await world.rows() == await truth(world.chain, TIP - 999)


@pytest.mark.trio
async def test_a_tip_exchanged_for_another_of_the_same_height(autojump_clock: MockClock) -> None:
    world = World(make_chain())
    await world.store.set_scanned_height(TIP - 10)
    async with world.running():
        await world.at_tip()
        world.chain.blocks.app_queue.append("ab" * 32)
        world.chain.mine()
        await world.at_tip()
        world.chain.reorg(1, extra=0, fate="drop")
        world.chain.blocks.app_queue.append("cd" * 32)
        world.chain.mine()
        await world.at_tip()
    assert [row.hash for row in await world.rows()] == ["cd" * 32]


@pytest.mark.trio
async def test_a_payment_taken_back_and_paid_again_counts_at_its_new_height(
    autojump_clock: MockClock,
) -> None:
    world = World(make_chain())
    await world.store.set_scanned_height(TIP - 10)
    async with world.running():
        await world.at_tip()
        world.chain.blocks.app_queue.append("ab" * 32)
        world.chain.mine()
        await world.at_tip()
        await world.store.resolve_hashes(["ab" * 32])
        world.chain.reorg(1, extra=1, fate="shift")
        await world.at_tip()
        [row] = await world.rows()
    assert (row.height, row.message) == (TIP + 2, False), "its message must be confirmed anew"


@pytest.mark.trio
async def test_prices_of_an_orphan_are_forgotten(autojump_clock: MockClock) -> None:
    world = World(make_chain())
    await world.store.set_scanned_height(TIP - 10)
    async with world.running():
        await world.at_tip()
        world.chain.blocks.plant(TIP + 1, price_transaction("p_0.03_0.01_0.004_3", TIP + 1))
        world.chain.mine()
        await world.at_tip()
        world.chain.blocks.app_queue.append("ab" * 32)
        world.chain.mine()
        await world.at_tip()
        assert await world.rows() == [], "2 FLUX are less than the new price"
        world.chain.reorg(2, extra=1, fate="drop")
        world.chain.blocks.app_queue.append("ab" * 32)
        world.chain.mine()
        await world.at_tip()
        assert [row.hash for row in await world.rows()] == ["ab" * 32]
        assert world.recorder.calls[-3:-2] != [("messages", 1)]
    assert await world.store.chain_messages() == []


@pytest.mark.trio
async def test_another_data_folder_is_read_again_from_below_the_window(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=900, first=TIP - 1500))
    await world.store.set_scanned_height(TIP - 1500)
    async with world.running():
        await world.at_tip()
    for _ in range(3):
        world.chain.reorg(80, extra=0, fate="keep")
        world.chain.blocks.height -= 70
    world.chain.mine(400)
    async with world.running():
        await world.at_tip()
    assert world.counters["explorer.reorgs_below_window"] == 1
    assert await world.rows() == await truth(world.chain, TIP - 1499)


@pytest.mark.trio
async def test_a_daemon_that_steps_back_is_waited_for(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=100, first=TIP - 300))
    await world.store.set_scanned_height(TIP - 300)
    async with world.running() as explorer:
        await world.at_tip()
        before = await world.rows()
        world.chain.set_height(TIP - 3)
        await trio.sleep(20)
        assert explorer.scanned_height == TIP
        world.chain.set_height(TIP)
        world.chain.mine()
        await world.at_tip()
        assert (await world.rows())[: len(before)] == before
    assert world.counters["explorer.reorgs"] == 0
