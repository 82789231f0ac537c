"""Suites 21 and 27 with a real container engine: what a node leaves to others first, and what it gives up.

Four nodes and a peer stub, which has the messages of encrypted apps. Node 1 has a container engine; whether
its system is secure is changed under way. The tests run in this order on one network: first an app whose
image cannot run, so that the time in which it must not be tried again passes while the others are tried.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import trio
from busyboximages import WEB
from network import Connected, Env, Network
from network.apps import container_app, installed, launch, launch_sealed, sealed

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

IN_ORDER = True
IMAGE = "shop/web:v1"
BROKEN, BLOCKED, SHUT = "brokenshop", "blockedshop", "shutshop"
SHUT_PORT = 36_203
NOT_AGAIN_S = 30.0

Wanted = Mapping[str, tuple[dict[str, Any], str, int]]
"""App -> its specification, why it is left to others, and for how many milliseconds."""


@pytest.fixture(scope="module")
def network(engine_room: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    host = {"enterprise.opens_encrypted": True, "images.lists_keep_s": 0.5}
    env = Env(
        nodes=4,
        peer_stubs=1,
        engine_node=1,
        overrides={"peers.min_outbound": 2},
        ticker_s=1.0,
        node_overrides={1: host},
    )
    with Network(tmp_path_factory.mktemp("net"), env) as network:
        yield network


@pytest.fixture(scope="module")
def failed() -> dict[str, float]:
    """When the install of an app failed, by a clock that goes on between tests."""
    return {}


def shop(net: Connected, name: str, port: int, **changes: Any) -> dict[str, Any]:
    """An app that wants to run in Germany, which is where the stand-in says these nodes are."""
    return container_app(name, net.engine.image(IMAGE), port, geolocation=["acEU_DE"], **changes)


@pytest.mark.trio
async def test_27_an_app_that_cannot_start_is_rolled_back_and_told_of(
    net: Connected, failed: dict[str, float]
) -> None:
    host, witness, engine = net.host, net[3], net.engine
    await engine.publish(IMAGE, cmd=WEB)
    await engine.publish("shop/broken:v1", "broken", entrypoint=["/nonexistent"], cmd=[])
    await net.chain.start_ticker()
    for node in net.nodes:
        # Who has no links yet would not hear what is told once.
        await node.in_phase("READY", 90)
    mark, others_mark = await host.mark(), await witness.mark()
    spec = container_app(BROKEN, engine.image("shop/broken:v1"), 36_201)
    app_hash = await launch(net, net[2], spec)
    told = await host.event("spawner:installFailed", after=mark, within_s=60, appName=BROKEN)
    failed[BROKEN] = time.monotonic()
    assert told.data["hash"] == app_hash
    await witness.event("network:appinstallingerror", after=others_mark, within_s=20, ip=host.ip, name=BROKEN)
    rows = await witness.until(f"/apps/installingerrorslocation/{BROKEN}", lambda rows: len(rows) == 1, 10)
    assert (rows[0]["ip"], rows[0]["hash"]) == (host.ip, app_hash)
    assert BROKEN not in await installed(host)
    assert engine.left_behind() == []
    assert engine.image("shop/broken:v1") not in engine.api.image_tags()


async def left_to_others_first(net: Connected, wanted: Wanted) -> None:
    """Each app is deferred for its reason, once, and comes after that time."""
    host = net.host
    mark = await host.mark()
    hashes = {
        name: await (launch_sealed(net, spec) if spec["enterprise"] else launch(net, net[2], spec))
        for name, (spec, _, _) in wanted.items()
    }
    for name, (_, reason, delay_ms) in wanted.items():
        first = await host.event("spawner:deferred", after=mark, within_s=60, appName=name)
        assert (first.data["reason"], first.data["delayMs"]) == (reason, delay_ms)
        came = await host.event("app:installed", after=first, within_s=60, name=name)
        assert came.data["hash"] == hashes[name]
        await net.engine.up(f"fluxweb_{name}", within_s=5)
    deferrals = await host.seen("spawner:deferred", after=mark)
    assert sorted(event.data["appName"] for event in deferrals) == sorted(wanted)


@pytest.mark.trio
async def test_21_a_secure_node_prefers_encrypted_apps_that_want_what_it_has(net: Connected) -> None:
    await net.chain.start_ticker()
    await net.chain.secure(net.host.ip)
    await net.chain.await_calls("getbenchmarks", net.host.ip)
    await left_to_others_first(
        net,
        {
            "plainarcane": (shop(net, "plainarcane", 36_211), "non_enterprise_on_arcane", 500),
            "anyaddress": (sealed(shop(net, "anyaddress", 36_212)), "static_ip", 200),
            "anyplace": (sealed(shop(net, "anyplace", 36_213, staticip=True)), "datacenter", 250),
        },
    )
    assert (await installed(net.host))["anyaddress"]["compose"] == []


@pytest.mark.trio
async def test_21_another_node_waits_longer(net: Connected) -> None:
    await net.chain.start_ticker()
    await net.chain.insecure(net.host.ip)
    await net.chain.await_calls("getbenchmarks", net.host.ip)
    await left_to_others_first(
        net,
        {
            "legacyaddress": (shop(net, "legacyaddress", 36_221), "static_ip", 400),
            "legacyplace": (shop(net, "legacyplace", 36_222, staticip=True), "datacenter", 500),
        },
    )


async def given_up(net: Connected, app: str, why: str) -> None:
    """Wait for a round of the spawner that ended with these words."""

    def seen(status: Any) -> bool:
        return any(end["app"] == app and why in end["reason"] for end in status["last"])

    await net.host.until("/trionode/spawner", seen, 60)


@pytest.mark.trio
async def test_lists_of_the_network_and_what_other_nodes_reach_decide(net: Connected) -> None:
    """A blocked image is not taken, nor an app whose port no other node reaches."""
    host, engine = net.host, net.engine
    await net.chain.start_ticker()
    await net.services.ask("POST", "/blocked-repos", [engine.image("evil/web:any")])
    engine.refuse(SHUT_PORT)
    mark = await host.mark()
    try:
        await launch(net, net[2], container_app(BLOCKED, engine.image("evil/web:v1"), 36_202))
        await launch(net, net[2], shop(net, SHUT, SHUT_PORT, staticip=True))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(given_up, net, BLOCKED, "on the network's list of blocked repositories")
            nursery.start_soon(given_up, net, SHUT, f"Port {SHUT_PORT} cannot be reached from outside.")
    finally:
        engine.allow(SHUT_PORT)
    assert not await host.seen("app:installed", after=mark)


@pytest.mark.trio
async def test_27_an_app_that_failed_is_not_tried_again(net: Connected, failed: dict[str, float]) -> None:
    host = net.host
    await net.chain.start_ticker()
    await trio.sleep(max(0.0, failed[BROKEN] + NOT_AGAIN_S - time.monotonic()))
    tries = await host.seen("spawner:installFailed", "app:installed", after=0)
    names = [event.data.get("appName", event.data.get("name")) for event in tries]
    assert names.count(BROKEN) == 1
    assert BROKEN not in await installed(host)
    for name in await installed(host):
        await net.operate(host, "remove", name, "--yes")
    assert net.engine.left_behind() == []
