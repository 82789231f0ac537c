"""Suite 17: the confirmation outlives a silent daemon for a while, and then it does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from network import Connected, Env, Network

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

STALE_S = 3.0
EXPIRED_S = 8.0


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    times = {"chain.confirmation_stale_s": STALE_S, "chain.confirmation_expired_s": EXPIRED_S}
    with Network(tmp_path_factory.mktemp("net"), Env(nodes=3, overrides=times)) as network:
        yield network


@pytest.mark.trio
async def test_17_a_listed_node_is_confirmed_and_may_speak(net: Connected) -> None:
    await net.every("confirmation:changed", after=dict.fromkeys((1, 2, 3), 0), within_s=20, confirmed=True)
    await net.every("messageCapability:changed", after=dict.fromkeys((1, 2, 3), 0), within_s=20, capable=True)


@pytest.mark.trio
async def test_17_a_node_off_the_list_may_not_speak(net: Connected) -> None:
    node = net[3]
    mark = await node.mark()
    await net.chain.delist(node.ip)
    await net.chain.mine()
    lost = await node.event("messageCapability:changed", after=mark, within_s=20, capable=False)
    assert not await node.seen("confirmation:changed", after=mark), "its daemon still calls it confirmed"
    await net.chain.relist(node.ip)
    await net.chain.mine()
    await node.event("messageCapability:changed", after=lost, within_s=20, capable=True)


@pytest.mark.trio
async def test_17_a_silent_daemon_is_believed_until_its_word_expires(net: Connected) -> None:
    node = net[2]
    mark = await node.mark()
    await net.chain.fail_rpc(node.ip)
    silent = await node.event("daemon:unreachable", after=mark, within_s=15)
    stale = await node.event("chain:stale", after=mark, within_s=20)
    lost = await node.event("confirmation:changed", after=mark, within_s=35)
    assert lost.data == {"confirmed": False}
    assert silent.id < lost.id, "a daemon that has just become silent is believed"
    assert stale.id < lost.id, "and even one that has been silent for a while"
    await net.chain.mend_rpc(node.ip)
    await node.event("confirmation:changed", after=lost, within_s=20, confirmed=True)
