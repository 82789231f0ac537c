"""Chains from a seed: payments computed on demand, the address index, reorganisations, faults of batches."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trionode.chain.rpc import HttpRpc
from trionode.errors import ChainError, ConfigError
from trionode.sim.chain import Mode, VirtualChain
from trionode.sim.chainpayments import (
    APP_PAYMENT_ADDRESS,
    FIRST_ADDRESS,
    MULTISIG_ADDRESS,
    SeededPayments,
    price_transaction,
    read_hashes,
)
from trionode.sim.stub_server import StubPorts, run_stub

TIP = 2_100_000
ALL = {"addresses": [FIRST_ADDRESS, MULTISIG_ADDRESS, APP_PAYMENT_ADDRESS]}


@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 400),
    first=st.integers(690_000, 900_000),
    length=st.integers(0, 300_000),
)
def test_heights_and_numbers_agree(seed: int, count: int, first: int, length: int) -> None:
    made = SeededPayments(seed, count, first_height=first, last_height=first + length)
    heights = [made.height(number) for number in range(count)]
    assert heights == sorted(heights)
    assert first <= heights[0]
    if first < 699_421:
        assert not [height for height in heights if 699_421 <= height <= 862_001]
    for number in (0, count // 2, count - 1):
        height = made.height(number)
        assert number in made.numbers(height, height)
        assert all(made.height(other) == height for other in made.numbers(height, height))
        assert made.find(made.txid(number)) == number
    assert made.numbers(0, 10_000_000) == range(count)


@pytest.mark.trio
async def test_two_million_blocks_cost_nothing_until_read() -> None:
    began_s = time.process_time()
    chain = VirtualChain(height=TIP, seeded=SeededPayments(1, 60_000, last_height=TIP))
    rpc = chain.rpc_for("1.2.3.4")
    txids = await rpc.call("getaddresstxids", [{**ALL, "start": 694_000, "end": TIP}])
    assert len(txids) == 60_000
    found = await rpc.call("getrawtransaction", [txids[31_000], 1])
    block = await rpc.call("getblock", [str(found["height"]), 2])
    assert found["txid"] in [transaction["txid"] for transaction in block["tx"]]
    assert block["hash"] == found["blockhash"]
    assert time.process_time() - began_s < 20, "tens of seconds would mean that blocks are walked"


@pytest.mark.trio
async def test_the_index_says_what_the_blocks_say() -> None:
    chain = VirtualChain(
        height=TIP, seeded=SeededPayments(3, 200, first_height=TIP - 500, last_height=TIP + 50)
    )
    chain.blocks.app_queue.append("ab" * 32)
    chain.mine()
    chain.blocks.plant(TIP - 100, price_transaction("p_1_1_1_1", TIP - 100))
    chain.reorg(20)
    rpc = chain.rpc_for("1.2.3.4")
    txids = await rpc.call("getaddresstxids", [{**ALL, "start": TIP - 600, "end": TIP + 10}])
    walked: list[str] = []
    for height in range(TIP - 600, chain.height + 1):
        block = await rpc.call("getblock", [str(height), 2])
        walked += [transaction["txid"] for transaction in block["tx"]]
    assert sorted(txids) == sorted(walked)
    heights = [(await rpc.call("getrawtransaction", [txid, 1]))["height"] for txid in txids]
    assert heights == sorted(heights)
    deltas = await rpc.call("getaddressdeltas", [{**ALL, "start": TIP - 600, "end": TIP + 10}])
    assert [delta["satoshis"] < 0 for delta in deltas].count(True) == 1
    with pytest.raises(ChainError, match="array"):
        await rpc.call("getaddresstxids", ["t1x"])


@pytest.mark.trio
async def test_a_reorganisation_gives_other_hashes_and_keeps_orphans_readable() -> None:
    chain = VirtualChain(height=TIP)
    rpc = chain.rpc_for("1.2.3.4")
    old = await rpc.call("getblockhash", [TIP])
    shared = await rpc.call("getblockhash", [TIP - 10])
    assert chain.reorg(10, extra=2) == TIP - 10
    assert chain.height == TIP + 2
    assert await rpc.call("getblockhash", [TIP - 10]) == shared
    assert await rpc.call("getblockhash", [TIP]) != old
    assert (await rpc.call("getblock", [old, 2]))["confirmations"] == -1
    block = await rpc.call("getblock", [await rpc.call("getbestblockhash"), 2])
    assert (block["height"], block["confirmations"]) == (TIP + 2, 1)
    for height in range(TIP - 10, TIP + 2):
        above = await rpc.call("getblock", [str(height + 1), 2])
        assert above["previousblockhash"] == await rpc.call("getblockhash", [height])
    fork = {"height": TIP, "hash": old, "branchlen": 10, "status": "valid-fork"}
    assert (await rpc.call("getchaintips"))[1:] == [fork]
    assert (await rpc.call("getchaintips", [TIP + 1]))[1:] == []
    with pytest.raises(ConfigError, match="of 100 blocks"):
        chain.reorg(100)
    with pytest.raises(ChainError):
        await rpc.call("getblock", ["000000000000stub5r9", 2])


@pytest.mark.trio
async def test_dropped_and_shifted_payments() -> None:
    chain = VirtualChain(height=TIP)
    chain.blocks.app_queue.append("ab" * 32)
    chain.mine()
    [payment] = chain.blocks.block(TIP + 1)["tx"]
    chain.reorg(1, fate="shift")
    moved = await chain.rpc_for("x").call("getrawtransaction", [payment["txid"], 1])
    assert moved["height"] == TIP + 2
    chain.reorg(1, fate="drop")
    with pytest.raises(ChainError):
        await chain.rpc_for("x").call("getrawtransaction", [payment["txid"], 1])


@pytest.mark.trio
async def test_half_batches_and_wrong_shapes() -> None:
    chain = VirtualChain(height=TIP)
    rpc = chain.rpc_for("1.2.3.4")
    chain.behave("all", Mode.HALF_BATCH)
    answers = await rpc.batch([("getblockcount", [])] * 5)
    assert [isinstance(one, ChainError) for one in answers] == [False, True, False, True, False]
    chain.behave("all", Mode.WRONG)
    assert await rpc.call("getblockcount") != TIP


@pytest.mark.trio
@pytest.mark.process
async def test_over_http_and_by_control() -> None:
    chain = VirtualChain(height=TIP, seeded=SeededPayments(1, 100, last_height=TIP))
    async with trio.open_nursery() as nursery:
        ports = await nursery.start(partial(run_stub, chain, StubPorts("127.0.0.1", 0, 0, 0)))

        async def control(method: str, path: str, body: bytes = b"{}") -> tuple[int, bytes]:
            stream = await trio.open_tcp_stream("127.0.0.1", ports.control)
            async with stream:
                head = f"{method} {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n"
                await stream.send_all(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                data = b"".join([chunk async for chunk in stream])
            return int(data.split()[1]), data.partition(b"\r\n\r\n")[2]

        with HttpRpc("127.0.0.1", ports.daemon, "u", "p", timeout_s=60) as rpc:
            query: dict[str, Any] = {**ALL, "start": 694_000, "end": TIP}
            txids = await rpc.call("getaddresstxids", [query])
            found = await rpc.batch([("getrawtransaction", [txid, 1]) for txid in txids])
            assert [one["txid"] for one in found] == txids
            planted = b'{"appHash": "%s", "height": %d, "valueSat": 5}' % (b"cd" * 32, TIP)
            assert (await control("POST", "/plant-app-tx", planted))[0] == 200
            assert len(await rpc.call("getaddresstxids", [query])) == 101
            assert (await control("POST", "/reorg", b'{"depth": 3, "fate": "drop"}'))[0] == 200
            assert await rpc.call("getblockcount") == TIP + 1
            assert (await control("POST", "/reorg", b'{"depth": 300}'))[0] == 400
            assert (await control("POST", "/reorg", b'{"depth": 3, "fate": "eat"}'))[0] == 400
            assert (await control("POST", "/seed-address-txids", b'{"txids": ["x"]}'))[0] == 200
            body = b'{"txid": "x", "version": 4, "height": 5, "vin": [], "vout": []}'
            assert (await control("POST", "/seed-transaction", body))[0] == 200
            assert (await control("POST", "/seed-address-deltas", b'{"deltas": 5}'))[0] == 400
            assert (await rpc.call("getaddresstxids", [query]))[0] == "x"
            assert (await rpc.call("getrawtransaction", ["x", 1]))["height"] == 5
            await control("DELETE", "/seed-data", b"")
            assert "x" not in await rpc.call("getaddresstxids", [query])
            await control("POST", "/behaviour/all", b'{"mode": "half-batch"}')
            halves = await rpc.batch([("getblockcount", [])] * 3)
            assert isinstance(halves[1], ChainError)
            assert "left out" in halves[1].message
        nursery.cancel_scope.cancel()


def test_given_hashes_are_paid_for_in_order(tmp_path: Path) -> None:
    hashes = [f"{number:064x}" for number in range(50)]
    file = tmp_path / "hashes"
    file.write_text("\n".join(hashes))
    made = SeededPayments(1, 50, last_height=TIP, app_hashes=read_hashes(file))
    assert [made.app_hash(number) for number in range(50)] == hashes
    assert len(list(made.all_up_to(TIP))) == 50
    file.write_text("short")
    with pytest.raises(ConfigError, match="entry 1"):
        read_hashes(file)
