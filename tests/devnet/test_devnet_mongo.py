"""The whole local network: all its real nodes share one MongoDB server, told apart by a prefix each.

They agree, they show it when the database is away, they go on by themselves when it is back, and every node
finds its own data after a restart.
"""

from __future__ import annotations

import http.client
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faultproxy
import pytest
import trio
from mongoserver import Databases

from trionode.cli import devnet
from trionode.devnet import layout as places
from trionode.devnet.network import LocalNetwork, local_network
from trionode.devnet.observe import agreed, fetch, look

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

(NODES,) = (int(str(option.default)) for option in devnet.command.params if option.name == "nodes")
"""As many as `trionode devnet` starts when it is told nothing."""
PATIENCE = 4.0
"""A busy machine is given so many times as long as one with little else to do."""


@pytest.fixture
def door(mongo: Databases) -> Iterator[faultproxy.FaultProxy]:
    with faultproxy.fault_proxy(mongo.server.host, mongo.server.port) as proxy:
        yield proxy


async def until(network: LocalNetwork, condition: Callable[[], Any], within_s: float, what: str) -> None:
    """Ask until it holds; fails with the ends of the logs."""
    with trio.move_on_after(within_s * PATIENCE):
        while True:
            if await condition():
                return
            await trio.sleep(0.3)
    logs = "\n".join(node.log.read_text("utf-8")[-3000:] for node in network.layout.nodes)
    pytest.fail(f"not within {within_s:g} s: {what}\n{logs}")


@pytest.mark.trio
async def test_all_nodes_on_one_server(
    tmp_path: Path, mongo: Databases, door: faultproxy.FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = places.write

    def with_prefixes(layout: places.Layout, rng: random.Random, overrides: Any = None, **more: Any) -> None:
        own = {
            node.number: {"store.mongo_prefix": f"{mongo.prefix}node{node.number:02d}_"}
            for node in layout.nodes
        }
        write(layout, rng, overrides, node_overrides=own, **more)

    monkeypatch.setattr(places, "write", with_prefixes)
    overrides = {
        "store.url": mongo.server.url_at(door.host, door.port),
        "store.mongo_call_s": 5.0,
        "store.mongo_connect_s": 1.0,
    }
    async with local_network(tmp_path, NODES, offset=200, overrides=overrides) as network:
        layout = network.layout

        async def all_agree() -> bool:
            return agreed(layout, await look(layout))

        async def connected() -> list[bool | None]:
            """Whether each node says that its database answers; None when it did not say in time."""
            states: list[bool | None] = []
            for node in layout.nodes:
                try:
                    status = await trio.to_thread.run_sync(fetch, node.ip, "/trionode/status")
                except (OSError, http.client.HTTPException, ValueError):
                    states.append(None)
                else:
                    states.append(status["store"]["connected"])
            return states

        await until(network, all_agree, 90, "agreement")

        def are_stored() -> bool:
            """What a node lists may be on its way to the database still."""
            with mongo.server.client() as client:
                names = set(client.list_database_names())
                for node in layout.nodes:
                    own = f"{mongo.prefix}node{node.number:02d}_"
                    assert {f"{own}globalzelapps", f"{own}zelcashdata", f"{own}zelfluxlocal"} <= names
                    rows = client[f"{own}globalzelapps"].zelappslocation.find()
                    if {(row["name"], row["ip"]) for row in rows} != layout.expected_locations:
                        return False
            return True

        async def all_are_stored() -> bool:
            return await trio.to_thread.run_sync(are_stored)

        await until(network, all_are_stored, 60, "every node has stored what it lists")

        door.down()

        async def all_say_it() -> bool:
            return await connected() == [False] * NODES

        await until(network, all_say_it, 60, "every node says that its database is away")
        assert all(process.returncode is None for process in network.processes.values())
        door.up()

        async def all_are_well() -> bool:
            return await connected() == [True] * NODES and await all_agree()

        await until(network, all_are_well, 60, "every node works with its database again")
        assert all(process.returncode is None for process in network.processes.values())

        await network.stop(2)
        await network.start(2)
        await until(network, all_agree, 60, "agreement after a restart")
