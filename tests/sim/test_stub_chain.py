"""VirtualChain in memory: answers, faults per node, and that readers share one node list."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trionode.errors import ChainError, ConfigError
from trionode.sim.chain import Mode, VirtualChain
from trionode.sim.chainnodes import StubNode, nodes_from

A, B = "198.18.1.0", "198.18.2.0:16137"
NODES = [StubNode(A, "02aa"), StubNode(B, "02bb", tier="NIMBUS")]


async def code_of(chain: VirtualChain, ip: str) -> object:
    with pytest.raises(ChainError) as failed:
        await chain.rpc_for(ip).call("getblockcount")
    return failed.value.rpc_code


@pytest.mark.trio
async def test_faults_are_private_or_for_all(autojump_clock: MockClock) -> None:
    chain = VirtualChain(NODES)
    chain.behave(A, Mode.DOWN)
    assert await code_of(chain, A) == "ECONNREFUSED"
    assert await chain.rpc_for(B).call("getblockcount") == chain.height
    chain.behave("all", Mode.GARBAGE)
    assert await code_of(chain, A) == 500
    assert await code_of(chain, B) == 500
    chain.behave("all", Mode.OK)
    chain.fail("198.18.2.0")
    assert await code_of(chain, B) == -28
    assert await chain.rpc_for(A).call("getblockcount") == chain.height
    chain.recover(B)
    assert await chain.rpc_for(B).call("getblockcount") == chain.height


@pytest.mark.trio
async def test_slowness_is_virtual_time_and_ends_in_a_time_out(autojump_clock: MockClock) -> None:
    chain = VirtualChain(NODES)
    chain.behave(A, Mode.SLOW, 39_000)
    start_s = trio.current_time()
    await chain.rpc_for(A).call("getblockcount")
    assert trio.current_time() - start_s == pytest.approx(39)
    chain.behave(A, Mode.SLOW, 41_000)
    assert await code_of(chain, A) == "ECONNABORTED"
    assert trio.current_time() - start_s == pytest.approx(79)


@pytest.mark.trio
async def test_nodes_with_a_port_are_found_by_their_ip(autojump_clock: MockClock) -> None:
    chain = VirtualChain(NODES)
    for name in (B, "198.18.2.0"):
        assert (await chain.rpc_for(name).call("getzelnodestatus"))["pubkey"] == "02bb"
        assert (await chain.bench_for(name).call("getbenchmarks"))["ipaddress"] == B
    chain.unconfirm("198.18.2.0")
    assert (await chain.rpc_for(B).call("getzelnodestatus"))["status"] == "EXPIRED"
    chain.confirm(B)
    assert (await chain.rpc_for(B).call("getzelnodestatus"))["status"] == "CONFIRMED"


@pytest.mark.trio
async def test_a_stranger_is_expired(autojump_clock: MockClock) -> None:
    chain = VirtualChain(NODES)
    assert (await chain.rpc_for("10.0.0.1").call("getzelnodestatus"))["status"] == "EXPIRED"


def test_readers_share_one_list_per_revision() -> None:
    chain = VirtualChain(NODES)
    first = chain.build_nodes(chain.rows())
    assert chain.build_nodes(chain.rows()) is first
    old_rows = chain.rows()
    chain.remove_node(A)
    assert chain.build_nodes(chain.rows()) is not first
    assert chain.build_nodes(chain.rows()).addresses() == [B]
    assert chain.build_nodes(old_rows).addresses() == [A, B]


@pytest.mark.trio
async def test_collateral_and_filters(autojump_clock: MockClock) -> None:
    chain = VirtualChain(NODES)
    rpc = chain.rpc_for(A)
    txid = NODES[1].collateral_txid
    assert (await rpc.call("getrawtransaction", [txid, 1]))["vout"][0]["value"] == 12_500
    assert [row["ip"] for row in await rpc.call("listfluxnodes", ["02bb"])] == [B]
    results = await rpc.batch([("getblockcount", []), ("getrawtransaction", ["0", 1])])
    assert results[0] == chain.height
    assert results[1].rpc_code == -5


@pytest.mark.trio
async def test_the_ticker_follows_the_clock(autojump_clock: MockClock) -> None:
    chain = VirtualChain(NODES, height=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chain.run_ticker)
        await trio.sleep(100)
        assert chain.height == 10
        chain.start_ticker()
        await trio.sleep(51)
        assert chain.height == 20
        chain.stop_ticker()
        await trio.sleep(51)
        assert chain.height == 20
        nursery.cancel_scope.cancel()


def test_wrong_nodes_are_named() -> None:
    with pytest.raises(ConfigError, match="node 2"):
        nodes_from([{"ip": A, "pubkey": "02"}, {"ip": 5, "pubkey": "02"}], "file")
    with pytest.raises(ConfigError, match="GOLD"):
        nodes_from([{"ip": A, "pubkey": "02", "tier": "GOLD"}], "file")
    with pytest.raises(ConfigError, match=r"9\.9\.9\.9"):
        VirtualChain(NODES).remove_node("9.9.9.9")
