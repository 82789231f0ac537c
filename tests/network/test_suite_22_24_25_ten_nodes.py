"""Suites 22, 24 and 25: late nodes get the state of the network, unconfirmed ones lose peers and apps.

Ten nodes: 9 and 10 come later, 9 unconfirmed at first, 10 wanting three answers of each kind. Nodes 1, 2 and
3 host an app each; 3 is killed before the late ones come, so that nobody but the others tells them of its
app, which stays listed. Node 4 is the only one that 9 has no link to. The tests run in this order on one
network.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from network import Connected, Env, Network, Node
from network.apps import await_in_force, await_message, await_resolved, register, web_app

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

IN_ORDER = True
LATE, CAREFUL = 9, 10
GONE = 3
HOSTED = {1: ("webshop",), 2: ("mailshop",), GONE: ("goneshop",)}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    env = Env(
        nodes=10,
        held_back=(LATE, CAREFUL),
        apps=HOSTED,
        ticker_s=1.0,
        node_overrides={CAREFUL: {"state_sync.min_completions": 3, "peers.threshold_reached": 3}},
    )
    with Network(tmp_path_factory.mktemp("net"), env) as network:
        yield network


def has_links(outbound: int, inbound: int = 0) -> Any:
    return lambda s: s["peers"]["outbound"] >= outbound and s["peers"]["inbound"] >= inbound


def has_app(node: Node, app: str) -> bool:
    return app in (node.place.folder / "apps.toml").read_text("utf-8")


async def located(node: Node, app: str, hosts: list[Node], within_s: float) -> None:
    """Wait until the node lists exactly these hosts of an app."""
    wanted = sorted(host.ip for host in hosts)
    await node.until(
        f"/apps/location/{app}", lambda rows: sorted(row["ip"] for row in rows) == wanted, within_s
    )


@pytest.mark.trio
async def test_22_an_app_is_registered_before_the_late_ones_come(net: Connected) -> None:
    for node in net.nodes:
        # An unpaid message is told once: who has no link by then does not hear of it.
        await node.until("/trionode/status", has_links(*((4, 2) if node is net[1] else (1, 1))), 60)
        await node.until("/explorer/issynced", lambda synced: synced is True, 60)
    app_hash = await register(net[1], web_app("latershop"))
    for node in net.nodes:
        await await_message(node, app_hash)
    await net.chain.queue_app(app_hash)
    await net.chain.mine()
    for node in net.nodes:
        await await_resolved(node, app_hash, 60)
    for node in net.nodes:
        for host, (app,) in HOSTED.items():
            await located(node, app, [net[host]], 60)
    await net[GONE].stop(signal.SIGKILL)


@pytest.mark.trio
async def test_25_a_node_that_was_never_confirmed_has_no_links(net: Connected) -> None:
    await net.chain.unconfirm(net[LATE].ip)
    await net.start(LATE)
    late = net[LATE]
    await late.event("confirmation:changed", after=0, within_s=20, confirmed=False)
    await late.no_event("peers:added", after=0, for_s=3)
    assert await late.links() == (set(), set())
    for node in net.others(late):
        await node.until("/trionode/status", lambda s: s["peers"]["outbound"] + s["peers"]["inbound"], 20)


@pytest.mark.trio
async def test_22_a_late_node_gets_locations_and_messages_and_is_ready(net: Connected) -> None:
    late = net[LATE]
    app_hash = (await net[1].data("/apps/appspecifications/latershop"))["hash"]
    await net.chain.start_ticker()
    await late.enters("READY", after=0, within_s=120)
    for host, (app,) in HOSTED.items():
        await located(late, app, [net[host]], 10)
    await await_resolved(late, app_hash, 10)
    await await_in_force(late, "latershop", app_hash, 10)
    assert (await late.data("/trionode/missinghashes"))["rows"] == []
    run = await late.event("hashSync:run", after=0, within_s=10, where=lambda data: data["resolved"] > 0)
    assert (run.data["missing"], run.data["resolved"]) == (0, 1)
    await late.event("sync:chunkVerified", after=0, within_s=10, where=lambda data: data["stored"] > 0)


@pytest.mark.trio
async def test_22_26_a_careful_node_asks_three_peers_and_waits_for_all(net: Connected) -> None:
    await net.chain.start_ticker()
    await net.start(CAREFUL)
    late = net[CAREFUL]
    requested = await late.event("ephemeralSync:requested", after=0, within_s=120)
    assert requested.data["peerCount"] >= 3
    assert len(set(requested.data["peers"])) == requested.data["peerCount"]
    for completions in (1, 2, 3):
        await late.event(
            "ephemeralSync:peerComplete",
            after=requested,
            within_s=90,
            syncType="apprunning",
            completions=completions,
            required=3,
        )
    done = await late.event("ephemeralSync:allComplete", after=requested, within_s=90)
    assert all(done.data[kind] >= 3 for kind in ("apprunning", "appinstalling", "apperrors"))
    ready = await late.enters("READY", after=0, within_s=90)
    assert ready.id > done.id
    await late.event(
        "sync:chunkVerified", after=requested, within_s=5, where=lambda data: data["verified"] > 0
    )
    for host, (app,) in HOSTED.items():
        await located(late, app, [net[host]], 10)


@pytest.mark.trio
async def test_25_losing_confirmation_empties_the_links_and_regaining_fills_them(net: Connected) -> None:
    node = net[5]
    await node.until("/trionode/status", has_links(4, 2), 60)
    mark = await node.mark()
    await net.chain.unconfirm(node.ip)
    lost = await node.event("confirmation:changed", after=mark, within_s=20, confirmed=False)
    await node.until("/trionode/status", lambda s: s["peers"]["outbound"] + s["peers"]["inbound"] == 0, 30)
    assert await node.links() == (set(), set())
    await net.chain.confirm(node.ip)
    await node.event("confirmation:changed", after=lost, within_s=20, confirmed=True)
    await node.until("/trionode/status", has_links(4), 120)


@pytest.mark.trio
async def test_24_a_host_that_loses_confirmation_removes_its_apps(net: Connected) -> None:
    host = net[1]
    assert has_app(host, "webshop")
    mark = await host.mark()
    await net.chain.unconfirm(host.ip)
    await host.event("app:removed", after=mark, within_s=60, name="webshop")
    assert not has_app(host, "webshop")


@pytest.mark.trio
async def test_24_a_host_whose_daemon_is_silent_removes_its_apps(net: Connected) -> None:
    host = net[2]
    assert has_app(host, "mailshop")
    mark = await host.mark()
    await net.chain.fail_rpc(host.ip)
    await host.event("app:removed", after=mark, within_s=60, name="mailshop")
    assert not has_app(host, "mailshop")
