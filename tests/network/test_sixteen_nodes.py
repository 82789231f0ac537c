"""Sixteen nodes, the default network: everybody READY, links as the topology has them, one registration."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from network import Connected, Env, Network
from network.apps import await_in_force, register, web_app

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


def test_sixteen_nodes_link_get_ready_and_register_an_app(tmp_path: Path) -> None:
    async def scenario(net: Connected) -> None:
        await net.chain.start_ticker()
        async with trio.open_nursery() as nursery:
            for node in net.nodes:
                nursery.start_soon(node.in_phase, "READY", 90)
        for node in net.nodes:
            await node.until(
                "/trionode/status",
                lambda s: (s["peers"]["outbound"], s["peers"]["inbound"]) == (4, 4),
                90,
            )
        app_hash = await register(net[1], web_app("bigshop"))
        await net.chain.queue_app(app_hash)
        async with trio.open_nursery() as nursery:
            for node in net.nodes:
                nursery.start_soon(await_in_force, node, "bigshop", app_hash, 60)

    with Network(tmp_path, Env(ticker_s=1.0)) as network:
        network.run(scenario)
