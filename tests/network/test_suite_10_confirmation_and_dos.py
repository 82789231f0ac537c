"""Suite 10: a node alone gets READY by its blocks; losing confirmation takes it back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from network import Connected, Env, Network

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

PHASE = "orchestrator:stateChanged"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("net"), Env(nodes=1)) as network:
        yield network


@pytest.mark.trio
async def test_10_ready_by_blocks_and_back_when_unconfirmed(net: Connected) -> None:
    node = net[1]
    await node.event("messageCapability:changed", after=0, within_s=30, capable=True)
    # Only blocks that come after the chain was read count one by one.
    await node.event("explorer:synced", after=0, within_s=30)
    await net.chain.mine(252)
    entered = await node.enters("READY", after=0, within_s=120)
    await node.event("spawner:resumed", after=0, within_s=5)

    await net.chain.unconfirm(node.ip)
    lost = await node.event("confirmation:changed", after=entered, within_s=20, confirmed=False)
    left = await node.event(PHASE, after=entered, within_s=20)
    assert (left.data["from"], left.data["to"]) == ("READY", "SYNCING")
    paused = await node.event("spawner:paused", after=entered, within_s=5)
    assert min(left.id, paused.id) > lost.id

    await net.chain.confirm(node.ip)
    await node.event("confirmation:changed", after=lost, within_s=20, confirmed=True)
    await net.chain.mine()
    await node.enters("READY", after=left, within_s=60)
