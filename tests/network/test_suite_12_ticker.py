"""Suite 12: the chain stand-in does what its control routes say (no node takes part)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from network import Connected, Env, Network

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

TICKER_S = 0.3


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    env = Env(nodes=3, held_back=(1, 2, 3), ticker_s=TICKER_S)
    with Network(tmp_path_factory.mktemp("net"), env) as network:
        yield network


@pytest.mark.trio
async def test_12_the_state_has_its_members(net: Connected) -> None:
    state = await net.chain.state()
    assert state["currentHeight"] >= 2_100_000
    assert state["nodeCount"] == 3
    assert state["pendingBlocks"] == 0
    assert state["pendingAppTxQueue"] == []
    assert state["blockIntervalMs"] == TICKER_S * 1000
    assert state["tickerRunning"] is False
    assert state["statusOverrides"] == {}
    assert not state["rpcFailures"]


@pytest.mark.trio
async def test_12_the_ticker_starts_advances_and_stops(net: Connected) -> None:
    before = await net.chain.height()
    await net.chain.start_ticker()
    with trio.fail_after(60):
        while await net.chain.height() <= before + 1:  # noqa: ASYNC110 - the stand-in has no events
            await trio.sleep(TICKER_S)
    await net.chain.stop_ticker()
    stopped_at = await net.chain.height()
    await trio.sleep(3 * TICKER_S)
    assert await net.chain.height() == stopped_at


@pytest.mark.trio
async def test_12_single_blocks_queued_payments_and_heights(net: Connected) -> None:
    height = await net.chain.height()
    assert await net.chain.mine() == height + 1
    assert await net.chain.queue_app("ab" * 32) == height + 2
    assert (await net.chain.state())["pendingAppTxQueue"] == ["ab" * 32]
    assert await net.chain.mine() == height + 2
    assert (await net.chain.state())["pendingAppTxQueue"] == []
    await net.chain.ask("POST", "/set-height", {"height": height + 50})
    assert await net.chain.height() == height + 50


@pytest.mark.trio
@pytest.mark.parametrize("who", ["127.2.0.1", "all"])
async def test_12_statuses_and_failures_are_set_and_cleared(net: Connected, who: str) -> None:
    await net.chain.unconfirm(who)
    assert await net.chain.ask("GET", "/node-status") == {who: "EXPIRED"}
    await net.chain.confirm(who)
    assert await net.chain.ask("GET", "/node-status") == {}
    await net.chain.fail_rpc(who)
    assert len((await net.chain.state())["rpcFailures"]) == 1
    await net.chain.mend_rpc(who)
    assert len((await net.chain.state())["rpcFailures"]) == 0


@pytest.mark.trio
async def test_12_nodes_leave_the_list_and_come_back(net: Connected) -> None:
    await net.chain.delist("127.2.0.1")
    assert (await net.chain.state())["nodeCount"] == 2
    await net.chain.relist("127.2.0.1")
    assert (await net.chain.state())["nodeCount"] == 3
