"""Suites 03, 07 and 08: nodes follow the chain, an app is registered, and those who were away get it.

One network of ten nodes serves them, in this order: registration changes what the later ones look at.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from network import Connected, Env, Network
from network.apps import (
    await_in_force,
    await_message,
    await_resolved,
    register,
    request_of,
    submit,
    update,
    web_app,
)

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

IN_ORDER = True
NODES = 10
LATE = 10
FIRST_BLOCK = 2_100_000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    env = Env(nodes=NODES, held_back=(LATE,), ticker_s=1.0)
    with Network(tmp_path_factory.mktemp("net"), env) as network:
        yield network


async def linked(net: Connected) -> None:
    """Wait until everybody has links, and the nodes that register have those that registering asks for."""
    for node in net.nodes:
        outbound, inbound = (4, 2) if node.number <= 2 else (1, 1)
        await node.until(
            "/trionode/status",
            lambda s, o=outbound, i=inbound: s["peers"]["outbound"] >= o and s["peers"]["inbound"] >= i,
            60,
        )


async def everywhere(net: Connected, what: Any, *arguments: Any) -> None:
    """`what(node, *arguments)` on all running nodes at the same time."""
    async with trio.open_nursery() as nursery:
        for node in net.nodes:
            nursery.start_soon(what, node, *arguments)


@pytest.mark.trio
async def test_03_every_node_follows_the_tip(net: Connected) -> None:
    marks = await net.marks()
    height = await net.chain.mine()
    assert height > FIRST_BLOCK
    await net.every("block:processed", after=marks, within_s=50, height=height)
    heights = [(await n.data("/explorer/scannedheight"))["generalScannedHeight"] for n in net.nodes]
    assert all(abs(found - height) <= 5 for found in heights), (height, heights)
    counts = [len(await node.data("/apps/hashes")) for node in net.nodes]
    assert len(set(counts)) == 1, counts


@pytest.mark.trio
async def test_08_a_request_without_a_signature_is_refused(net: Connected) -> None:
    await linked(net)
    spec = web_app("devshop")
    answer = await net[1].ask("POST", "/apps/verifyappregistrationspecifications", spec)
    assert answer["data"] == spec
    refused = await submit(net[1], {**request_of("fluxappregister", spec), "signature": ""})
    assert refused["status"] == "error"
    changed = {**request_of("fluxappregister", spec), "appSpecification": {**spec, "description": "x"}}
    refused = await submit(net[1], changed)
    assert (refused["status"], refused["data"]["name"]) == ("error", "SIGNATURE_INVALID")


@pytest.mark.trio
async def test_08_a_registered_and_paid_app_is_in_force_everywhere(net: Connected) -> None:
    await linked(net)
    await everywhere(net, lambda node: node.until("/explorer/issynced", lambda synced: synced is True, 60))
    app_hash = await register(net[1], web_app("devshop"))
    await everywhere(net, await_message, app_hash)
    assert (await net[1].ask("GET", "/apps/appspecifications/devshop"))["status"] == "error"
    height = await net.chain.queue_app(app_hash)
    await net.chain.mine()
    await everywhere(net, await_resolved, app_hash, 50)
    await everywhere(net, await_in_force, "devshop", app_hash, 50)
    found = await net[1].data("/apps/appspecifications/DEVSHOP")
    assert found == {**web_app("devshop"), "hash": app_hash, "height": height}
    taken = await submit(net[2], request_of("fluxappregister", web_app("devshop")))
    assert (taken["status"], taken["data"]["name"]) == ("error", "NAME_TAKEN")


@pytest.mark.trio
async def test_07_a_late_node_gets_what_was_registered_before(net: Connected) -> None:
    app_hash = (await net[1].data("/apps/appspecifications/devshop"))["hash"]
    await net.chain.start_ticker()
    await net.start(LATE)
    await await_resolved(net[LATE], app_hash, 120)
    await await_in_force(net[LATE], "devshop", app_hash, 50)


@pytest.mark.trio
async def test_07_a_node_cut_off_during_a_registration_gets_it_afterwards(net: Connected) -> None:
    await linked(net)
    away = net[LATE]
    mark = await away.mark()
    away.cut()
    if net.real_cut:
        await away.event("peers:belowThreshold", after=mark, within_s=30)
    spec = web_app("farshop")
    app_hash = await register(net[1], spec)
    for node in net.others(away):
        await await_message(node, app_hash)
    await net.chain.queue_app(app_hash)
    await net.chain.mine()
    for node in net.others(away):
        await await_resolved(node, app_hash, 60)
    if net.real_cut:
        assert app_hash not in [row["hash"] for row in await away.data("/apps/hashes")]
    away.mend()
    await net.chain.start_ticker()
    await await_resolved(away, app_hash, 120)
    await await_in_force(away, "farshop", app_hash, 50)


@pytest.mark.trio
async def test_07_a_message_that_was_lost_is_fetched_again(net: Connected) -> None:
    node = net[LATE]
    app_hash = (await net[1].data("/apps/appspecifications/devshop"))["hash"]
    await node.stop()
    with sqlite3.connect(node.place.folder / "data" / "registry.sqlite") as database:
        assert database.execute("update hashes set message = 0 where hash = ?", (app_hash,)).rowcount == 1
        for table in ("permanents", "current_specs"):
            assert database.execute(f"delete from {table} where hash = ?", (app_hash,)).rowcount == 1
    database.close()
    await net.chain.start_ticker()
    await node.start()
    await await_resolved(node, app_hash, 120)
    await await_in_force(node, "devshop", app_hash, 50)


@pytest.mark.trio
async def test_08_an_update_is_in_force_everywhere(net: Connected) -> None:
    await linked(net)
    spec = web_app("devshop", description="a bigger shop")
    app_hash = await update(net[1], spec)
    await everywhere(net, await_message, app_hash)
    await net.chain.queue_app(app_hash)
    await net.chain.mine()
    await everywhere(net, await_in_force, "devshop", app_hash, 60)


@pytest.mark.trio
async def test_the_command_line_shows_the_registry(net: Connected, network: Network) -> None:
    for words, wanted in (
        (("apps", "list"), "devshop"),
        (("apps", "show", "devshop"), "library/nginx:1.27"),
        (("apps", "history", "devshop"), "2 messages of devshop"),
        (("apps", "price", "devshop"), "FLUX"),
        (("hashes",), "missing    0"),
        (("explorer", "status"), "at the tip"),
    ):
        shown = await network.command_line(net[1], *words)
        assert wanted in shown, (words, shown)
