"""Suite 05: nodes told to look for peers find each other, all of the list, never themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from network import Connected, Env, Network

from trionode.devnet.layout import API_PORT

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("net"), Env(nodes=5, discovery=False)) as network:
        yield network


@pytest.mark.trio
async def test_05_discovery_starts_when_told_and_links_the_nodes_of_the_list(net: Connected) -> None:
    await net.every("confirmation:changed", after=dict.fromkeys(range(1, 6), 0), within_s=20, confirmed=True)
    for node in net.nodes:
        assert await node.links() == (set(), set()), "nobody looks for peers before it is told to"
    marks = await net.marks()
    await net.start_discovery()
    await net.every("peers:added", after=marks, within_s=120)
    everybody = {f"{node.ip}:{API_PORT}" for node in net.nodes} | {node.ip for node in net.nodes}
    for node in net.nodes:
        await node.until(
            "/trionode/status", lambda s: s["peers"]["outbound"] + s["peers"]["inbound"] == 4, 60
        )
        outbound, inbound = await node.links()
        assert outbound | inbound <= everybody
        assert not {node.ip, f"{node.ip}:{API_PORT}"} & (outbound | inbound)
        assert not outbound & inbound, "one link a pair"


@pytest.mark.trio
async def test_05_a_node_finds_itself_in_the_list(net: Connected) -> None:
    for node in net.nodes:
        found = await node.until("/trionode/status", lambda status: status["node"]["rank"] is not None, 20)
        assert found["node"]["address"] == node.ip
        assert found["chain"]["nodes"] == 5
