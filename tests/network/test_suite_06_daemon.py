"""Suite 06: what the chain daemon says is polled, believed, and missed when it does not answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from network import Connected, Env, Network

from trionode.devnet.layout import BENCH_PORT, DAEMON_PORT, RPC_PASSWORD, RPC_USER

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

# The daemon's silence must not end the confirmation here: that is suite 17.
PATIENT = {"chain.confirmation_stale_s": 60.0, "chain.confirmation_expired_s": 120.0}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("net"), Env(nodes=4, overrides=PATIENT)) as network:
        yield network


async def rpc(network: Network, method: str, *params: Any, port: int = DAEMON_PORT) -> Any:
    """One RPC call of the harness itself; the whole answer."""
    token = base64.b64encode(f"{RPC_USER}:{RPC_PASSWORD}".encode()).decode()
    body = json.dumps({"id": 1, "method": method, "params": params}).encode()
    headers = {"Authorization": f"Basic {token}"}
    answer = await network.caller.ask(network.layout.stub_ip, port, "POST", "/", body, headers)
    return answer.json


@pytest.mark.trio
async def test_06_the_stand_in_answers_what_nodes_ask(net: Connected, network: Network) -> None:
    info = (await rpc(network, "getblockchaininfo"))["result"]
    assert info["blocks"] == info["headers"] > 0
    tip = (await rpc(network, "getblockcount"))["result"]
    assert (await rpc(network, "getblockhash", tip))["result"] == (await rpc(network, "getbestblockhash"))[
        "result"
    ]
    rows = (await rpc(network, "viewdeterministiczelnodelist"))["result"]
    assert [row["ip"] for row in rows] == [place.ip for place in network.layout.nodes]
    assert (await rpc(network, "getinfo", port=BENCH_PORT))["result"]["version"] == "5.0.0"
    assert (await rpc(network, "getstatus", port=BENCH_PORT))["result"]
    assert (await rpc(network, "nosuchmethod"))["error"]["code"] == -32601


@pytest.mark.trio
async def test_06_polls_tell_height_and_headers(net: Connected) -> None:
    marks = await net.marks()
    height = await net.chain.mine()
    await net.every("daemon:polled", after=marks, within_s=20, height=height, headers=height)


@pytest.mark.trio
async def test_06_an_expired_status_is_noticed_and_so_is_its_end(net: Connected) -> None:
    node = net[2]
    await node.event("confirmation:changed", after=0, within_s=20, confirmed=True)
    mark = await node.mark()
    await net.chain.unconfirm(node.ip)
    lost = await node.event("confirmation:changed", after=mark, within_s=20, confirmed=False)
    await net.chain.confirm(node.ip)
    await node.event("confirmation:changed", after=lost, within_s=20, confirmed=True)


@pytest.mark.trio
async def test_06_the_node_list_follows_the_chain(net: Connected) -> None:
    observer, leaver = net[1], net[4]
    status = "/trionode/status"
    await observer.until(status, lambda found: found["chain"]["nodes"] == 4, 20)
    await net.chain.delist(leaver.ip)
    await net.chain.mine()
    await observer.until(status, lambda found: found["chain"]["nodes"] == 3, 20)
    rows = await observer.data("/daemon/viewdeterministiczelnodelist")
    assert leaver.ip not in [row["ip"] for row in rows]
    await net.chain.relist(leaver.ip)
    await net.chain.mine()
    await observer.until(status, lambda found: found["chain"]["nodes"] == 4, 20)


@pytest.mark.trio
async def test_06_a_daemon_that_fails_is_unreachable_until_it_answers(net: Connected) -> None:
    node, other = net[3], net[1]
    mark, other_mark = await node.mark(), await other.mark()
    await net.chain.fail_rpc(node.ip)
    gone = await node.event("daemon:unreachable", after=mark, within_s=15)
    await net.chain.mend_rpc(node.ip)
    await node.event("daemon:recovered", after=gone, within_s=10)
    assert not await other.seen("daemon:unreachable", after=other_mark), "only one node's daemon failed"


@pytest.mark.trio
async def test_06_all_daemons_may_fail_at_once_and_recover_at_once(net: Connected) -> None:
    marks = await net.marks()
    await net.chain.fail_rpc("all")
    await net.every("daemon:unreachable", after=marks, within_s=15)
    marks = await net.marks()
    await net.chain.mend_rpc("all")
    await net.every("daemon:recovered", after=marks, within_s=10)
