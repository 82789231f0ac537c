"""Explorer on a virtual chain: scan, bootstrap, tip, hooks, events, operator's wishes."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
import trio
from explorerworld import SETTINGS, TIP, World, make_chain, truth
from trio.testing import MockClock

from trionode.chain.explorerstate import ExplorerError
from trionode.chain.scan import PaymentRules, minimum_prices, scan_transaction
from trionode.config.tree import ExplorerSettings
from trionode.sim.chain import Mode
from trionode.sim.chainpayments import FIRST_ADDRESS, payment, price_transaction


@pytest.mark.trio
async def test_a_scan_finds_what_the_chain_holds(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=900, first=TIP - 3000))
    await world.store.set_scanned_height(TIP - 3000)
    async with world.running():
        await world.at_tip()
        rows = await world.rows()
        assert rows == await truth(world.chain, TIP - 2999)
        assert 600 < len(rows) < 790, "odd payments and repetitions make no rows"
        assert await world.store.scanned_height() == TIP
        assert len(await world.store.block_hashes()) == 100


@pytest.mark.trio
async def test_bootstrap_and_scan_give_identical_rows(autojump_clock: MockClock) -> None:
    def chain() -> object:
        made = make_chain(apps=1500, first=TIP - 6000)
        made.blocks.plant(TIP - 5000, price_transaction("p_0.03_0.01_0.004_3", TIP - 5000))
        made.blocks.plant(TIP - 2500, price_transaction("p_0.03_0.01_0.004_0.01", TIP - 2500))
        return made

    scanned, indexed = World(chain()), World(chain(), index=True)  # type: ignore[arg-type]
    for world in (scanned, indexed):
        await world.store.set_scanned_height(TIP - 6001)
        async with world.running():
            await world.at_tip()
    assert await scanned.rows() == await indexed.rows()
    assert await scanned.store.chain_messages() == await indexed.store.chain_messages()
    assert len(await scanned.store.chain_messages()) == 2
    assert scanned.counters["explorer.bootstraps"] == 0
    assert indexed.counters["explorer.bootstraps"] == 1
    assert indexed.counters["explorer.blocks"] == 100, "the last blocks are read, for their hashes"
    high = [row.height for row in await indexed.rows()]
    assert not [height for height in high if TIP - 5000 < height <= TIP - 2500], "2 FLUX were too little"
    assert [height for height in high if height <= TIP - 5000]


@pytest.mark.trio
async def test_a_whole_chain_from_nothing(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=6000), index=True)
    async with world.running():
        await world.at_tip()
    rows = await world.rows()
    seeded = world.chain.blocks.seeded
    assert seeded is not None
    assert 5000 < len(rows) < 6000
    assert rows[0].height >= 694_000
    assert not [row for row in rows if 699_421 <= row.height <= 862_001]
    assert [row.height for row in rows] == sorted(row.height for row in rows)
    phases = {event["phase"] for event in world.events("explorer:progress")}
    assert phases == {"bootstrap", "scan"}


@pytest.mark.trio
async def test_the_tip_is_followed_by_events_not_by_polling(autojump_clock: MockClock) -> None:
    world = World(make_chain())
    await world.store.set_scanned_height(TIP - 10)
    async with world.running() as explorer:
        await world.at_tip()
        assert world.events("explorer:ready") == [{"height": TIP - 10}]
        assert world.events("explorer:synced") == [{"height": TIP}]
        assert world.events("block:processed") == [{"height": TIP}]
        await trio.sleep(2)
        world.chain.clear_journal()
        await trio.sleep(100)
        assert {call.method for call in world.chain.journal()} == {"getblockchaininfo"}
        world.chain.blocks.app_queue.append("ab" * 32)
        world.chain.mine()
        await world.at_tip()
        assert world.events("block:processed")[1:] == [{"height": TIP + 1}]
        assert ("hashes", ["ab" * 32]) in world.recorder.calls
        assert explorer.status.scanned_height == TIP + 1
        assert explorer.status.progress is None


@pytest.mark.trio
async def test_hooks_come_in_order_after_the_rows_are_stored(autojump_clock: MockClock) -> None:
    world = World(make_chain(tip=TIP - 1))
    world.recorder.changed = 3
    await world.store.set_scanned_height(TIP - 1)
    settings = msgspec.structs.replace(world.settings.explorer, rebuild_period_blocks=10)
    world.settings = msgspec.structs.replace(world.settings, explorer=settings)
    async with world.running():
        await trio.sleep(5)
        world.recorder.calls.clear()
        world.chain.blocks.app_queue.append("cd" * 32)
        world.chain.mine()
        await world.at_tip()
        assert world.recorder.calls == [
            ("expire", TIP),
            ("reconstruct", TIP),
            ("hashes", ["cd" * 32]),
            ("block", TIP),
        ]
        assert world.events("explorer:hashesChanged") == [{"changed": 3}]
        world.recorder.calls.clear()
        world.chain.mine()
        await world.at_tip()
        assert world.recorder.calls == [("block", TIP + 1)]


@pytest.mark.trio
async def test_catching_up_stores_and_expires_at_every_500th_block(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=50, first=TIP - 1200))
    await world.store.set_scanned_height(TIP - 1200)
    async with world.running():
        await world.at_tip()
    assert world.events("block:processed") == [{"height": h} for h in (TIP - 1000, TIP - 500, TIP)]
    expired = [height for name, height in world.recorder.calls if name == "expire"]
    assert expired == [TIP - 1000, TIP - 500, TIP]
    told = [hashes for name, hashes in world.recorder.calls if name == "hashes"]
    stored = {row.hash for row in await world.rows() if row.height > TIP - 500}
    assert {one for hashes in told for one in hashes} == stored, "older ones are left to the hash sync"


@pytest.mark.trio
async def test_foreign_data_is_read_again_from_some_blocks_back(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=100, first=TIP - 300))
    world.settings = msgspec.structs.replace(world.settings, explorer=ExplorerSettings(restore_blocks=100))
    await world.store.set_scanned_height(TIP - 50)
    async with world.running():
        await world.at_tip()
    assert world.events("explorer:ready") == [{"height": TIP - 150}]
    assert await world.rows() == await truth(world.chain, TIP - 149)


@pytest.mark.trio
async def test_a_restart_goes_on_where_the_store_is(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=300, first=TIP - 1000))
    await world.store.set_scanned_height(TIP - 1000)
    async with world.running():
        await world.at_tip()
    world.chain.mine(7)
    world.chain.clear_journal()
    async with world.running():
        await world.at_tip()
    asked = [int(call.params[0]) for call in world.chain.journal("getblock")]
    assert sorted(asked) == list(range(TIP + 1, TIP + 8))
    assert await world.rows() == await truth(world.chain, TIP - 999)


@pytest.mark.trio
async def test_an_index_that_is_refused_means_blocks(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=100, first=TIP - 3000), index=True)
    await world.store.set_scanned_height(TIP - 3000)
    answer = world.chain.answer

    def refusing(server: str, ip: str, method: str, params: object) -> object:
        if method == "getaddresstxids":
            from trionode.errors import ChainError

            raise ChainError("Address index is not enabled", rpc_code=-1)
        return answer(server, ip, method, params)  # type: ignore[arg-type]

    world.chain.answer = refusing  # type: ignore[assignment,method-assign]
    async with world.running():
        await world.at_tip()
    assert world.counters["explorer.fell_back_to_blocks"] == 1
    assert await world.rows() == await truth(world.chain, TIP - 2999)


@pytest.mark.trio
async def test_a_daemon_without_batches_means_blocks_after_some_tries(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=100, first=TIP - 3000), index=True)
    await world.store.set_scanned_height(TIP - 3000)
    world.chain.behave("all", Mode.HALF_BATCH)
    async with world.running():
        await world.at_tip()
    assert await world.rows() == await truth(world.chain, TIP - 2999)


@pytest.mark.trio
async def test_the_empty_stretch_is_jumped_over(autojump_clock: MockClock) -> None:
    world = World(make_chain(tip=862_050))
    world.headers = 0
    for height in (699_420, 862_002):
        made = payment(f"paid at {height}", f"{height:064d}", address=FIRST_ADDRESS)
        world.chain.blocks.plant(height, made)
    await world.store.set_scanned_height(699_400)
    async with world.running():
        await world.at_tip()
        asked = sorted(int(call.params[0]) for call in world.chain.journal("getblock"))
    assert asked == [*range(699_401, 699_421), *range(862_002, 862_051)]
    assert [row.height for row in await world.rows()] == [699_420, 862_002]


@pytest.mark.trio
@pytest.mark.parametrize("tip", [500, 693_999, 700_000])
async def test_a_tip_without_apps_counts_as_read(autojump_clock: MockClock, tip: int) -> None:
    world = World(make_chain(tip=tip))
    world.headers = 0
    await world.store.set_scanned_height(min(tip, 699_410) - 1)
    async with world.running() as explorer:
        await trio.sleep(10)
        assert explorer.scanned_height == tip
        assert explorer.is_synced
        world.chain.mine(3)
        await trio.sleep(10)
        assert explorer.scanned_height == tip + 3


@pytest.mark.trio
async def test_senders_are_looked_up_when_the_daemon_does_not_name_them(autojump_clock: MockClock) -> None:
    def unnamed(made: dict[str, Any], height: int, source: str) -> dict[str, Any]:
        return {**made, "vin": [{"txid": source, "vout": 0}]}

    world = World(make_chain())
    funding = payment("funding", "no message")
    world.chain.blocks.plant(TIP - 9, funding, payment("other", "no message", address="t1Other"))
    for height, source in ((TIP - 5, "funding"), (TIP - 4, "other"), (TIP - 3, "unknown")):
        made = price_transaction("p_0.03_0.01_0.004_0.01", height)
        world.chain.blocks.plant(height, unnamed(made, height, source))
    await world.store.set_scanned_height(TIP - 10)
    async with world.running():
        await world.at_tip()
    assert [row.height for row in await world.store.chain_messages()] == [TIP - 5]
    assert world.counters["explorer.unknown_senders"] == 1


@pytest.mark.trio
@pytest.mark.parametrize("in_order", [True, False])
async def test_a_killed_bootstrap_goes_on_only_where_the_order_is_known(
    autojump_clock: MockClock, in_order: bool
) -> None:
    world = World(make_chain(apps=8000), index=True)
    answer = world.chain.answer
    rng = random.Random(1)

    def shuffling(server: str, ip: str, method: str, params: Any) -> Any:
        result = answer(server, ip, method, params)
        if method == "getaddresstxids" and not in_order:
            rng.shuffle(result)
        return result

    world.chain.answer = shuffling  # type: ignore[method-assign]
    world.chain.behave("all", Mode.SLOW, 100)
    async with world.running() as explorer:
        await trio.sleep(2.0)
        assert len(await world.rows()) >= 5000
        assert (explorer.scanned_height > 1_000_000) is in_order
    world.chain.clear_journal()
    async with world.running():
        await world.at_tip()
    asked = world.chain.journal("getrawtransaction")
    assert (len(asked) < 4000) is in_order
    scanned = await truth(world.chain, TIP - 100)
    assert [row for row in await world.rows() if row.height >= TIP - 100] == scanned
    seeded = world.chain.blocks.seeded
    assert seeded is not None
    rules = PaymentRules.from_settings(SETTINGS.economy, SETTINGS.explorer)
    price = minimum_prices(SETTINGS.economy)(())
    rows = (scan_transaction(made, height, rules, price) for height, made in seeded.all_up_to(TIP))
    assert {row.hash for row in await world.rows()} == {row.hash for row in rows if row is not None}


@pytest.mark.trio
async def test_rescan_pause_and_resume(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=300, first=TIP - 1000))
    await world.store.set_scanned_height(TIP - 1000)
    async with world.running() as explorer:
        await world.at_tip()
        before = await world.rows()
        await explorer.pause()
        assert explorer.status.paused
        await explorer.rescan(TIP - 700)
        assert await world.store.scanned_height() == TIP - 700
        assert [row for row in await world.rows() if row.height > TIP - 700] == []
        await trio.sleep(50)
        assert explorer.scanned_height == TIP - 700
        assert not explorer.is_synced
        explorer.resume()
        await world.at_tip()
        assert await world.rows() == before
        with pytest.raises(ExplorerError, match="cannot rescan"):
            await explorer.rescan(TIP + 1)
        assert ("rewind", TIP - 700) in world.recorder.calls


@pytest.mark.trio
async def test_a_rescan_interrupts_a_slow_fetch(autojump_clock: MockClock) -> None:
    world = World(make_chain(apps=300, first=TIP - 1000))
    await world.store.set_scanned_height(TIP - 1000)
    async with world.running() as explorer:
        await world.at_tip()
        world.chain.behave("all", Mode.SLOW, 30_000)
        world.chain.mine()
        await trio.sleep(45)
        before_s = trio.current_time()
        await explorer.rescan(TIP - 500)
        assert trio.current_time() - before_s < 1
        world.chain.behave("all", Mode.OK)
        await world.at_tip()
        assert await world.rows() == await truth(world.chain, TIP - 999)


@pytest.mark.trio
async def test_progress_tells_rate_and_time_left(autojump_clock: MockClock) -> None:
    world = World(make_chain())
    world.chain.behave("all", Mode.SLOW, 100)
    await world.store.set_scanned_height(TIP - 1600)
    async with world.running():
        await world.at_tip()
    told = world.events("explorer:progress")
    assert told[-1]["done"] == told[-1]["total"] == TIP
    middle = told[len(told) // 2]
    assert middle["perSecond"] == pytest.approx(160, rel=0.2)
    assert middle["leftS"] == pytest.approx((TIP - middle["done"]) / middle["perSecond"], rel=0.05)


@pytest.mark.trio
async def test_an_unsynced_daemon_is_waited_for(autojump_clock: MockClock) -> None:
    world = World(make_chain())
    await world.store.set_scanned_height(TIP - 100)
    world.chain.fail("all")
    async with world.running() as explorer:
        await trio.sleep(400)
        assert explorer.scanned_height == TIP - 100
        assert world.events("explorer:ready") == []
        world.chain.recover("all")
        await world.at_tip()
