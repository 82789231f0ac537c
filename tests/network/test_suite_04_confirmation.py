"""Suite 04: a node knows from its first poll on whether it is confirmed, and acts on it at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from network import Connected, Env, Network

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("net"), Env(nodes=2)) as network:
        yield network


@pytest.mark.trio
async def test_04_a_confirmed_node_says_so_and_looks_for_peers(net: Connected) -> None:
    first = net[1]
    await first.event("confirmation:changed", after=0, within_s=20, confirmed=True)
    await first.event("peers:added", after=0, within_s=20)


@pytest.mark.trio
async def test_04_losing_confirmation_closes_every_link(net: Connected) -> None:
    first, second = net[1], net[2]
    # A link is one only when both count it: the other side may be about to refuse it.
    for node in (second, first):
        await node.until("/trionode/status", lambda s: s["peers"]["outbound"] + s["peers"]["inbound"], 20)
    mark, other_mark = await first.mark(), await second.mark()
    await net.chain.unconfirm(first.ip)
    lost = await first.event("confirmation:changed", after=mark, within_s=20, confirmed=False)
    # Both dial each other here, so a link may also go because the other one stays.
    await first.event("peers:removed", after=lost, within_s=5, closeCode=4019)
    await second.event("peers:removed", after=other_mark, within_s=5, total=0)
    await first.until("/trionode/status", lambda s: s["peers"]["outbound"] + s["peers"]["inbound"] == 0, 20)
    assert await first.links() == (set(), set())

    await net.chain.confirm(first.ip)
    regained = await first.event("confirmation:changed", after=lost, within_s=20, confirmed=True)
    await first.event("peers:added", after=regained, within_s=20)


def test_04_unconfirmed_before_the_start(tmp_path: Path) -> None:
    """The first poll is announced although nothing changed before it; nobody is dialled."""

    async def look(net: Connected) -> None:
        first = net[1]
        news = await first.event("confirmation:changed", after=0, within_s=20)
        assert news.data == {"confirmed": False}
        await first.no_event("peers:added", after=0, for_s=3)
        assert await first.links() == (set(), set())

    with Network(tmp_path, Env(nodes=2, statuses={1: "EXPIRED"})) as network:
        network.run(look)
