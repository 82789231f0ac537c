"""A suite of our own: the chain is reorganised under a paid app, and a node is killed while it registers."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from network import Connected, Env, Network
from network.apps import await_in_force, await_resolved, register, web_app

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("net"), Env(nodes=5, ticker_s=1.0)) as network:
        yield network


async def able(net: Connected) -> None:
    """Wait until node 1 may register, and everybody hears of it: an unpaid message is told once."""
    for node in net.nodes:
        await node.until(
            "/trionode/status", lambda s: s["peers"]["outbound"] >= 2 and s["peers"]["inbound"], 60
        )
        await node.until("/explorer/issynced", lambda synced: synced is True, 60)


@pytest.mark.trio
async def test_a_reorganisation_moves_a_payment_on_every_node(net: Connected) -> None:
    await able(net)
    app_hash = await register(net[1], web_app("movedshop"))
    await net.chain.queue_app(app_hash)
    paid_at = await net.chain.mine()
    for node in net.nodes:
        await await_in_force(node, "movedshop", app_hash, 60)
    await net.chain.mine(2)

    marks = await net.marks()
    moved = await net.chain.ask("POST", "/reorg", {"depth": 3, "extra": 2, "fate": "shift"})
    await net.every("explorer:reorg", after=marks, within_s=60)
    await net.every("block:processed", after=marks, within_s=60, height=moved["height"])
    for node in net.nodes:
        await await_resolved(node, app_hash, 60)
        (row,) = [row for row in await node.data("/apps/hashes") if row["hash"] == app_hash]
        assert row["height"] > paid_at
        # The message keeps the height it was first paid at, as everywhere in the network (registry.md §9).
        await await_in_force(node, "movedshop", app_hash, 10)


@pytest.mark.trio
async def test_a_node_killed_between_message_and_payment_knows_the_app_afterwards(net: Connected) -> None:
    await able(net)
    victim = net[3]
    app_hash = await register(net[1], web_app("killshop"))
    await victim.until(
        f"/apps/temporarymessages/{app_hash}", lambda rows: [row["hash"] for row in rows] == [app_hash], 30
    )
    await victim.stop(signal.SIGKILL)
    await net.chain.queue_app(app_hash)
    await net.chain.mine(3)
    await net.chain.start_ticker()
    await victim.start()
    await await_resolved(victim, app_hash, 60)
    await await_in_force(victim, "killshop", app_hash, 60)
