"""Suites 09, 20, 23 and 24 with a real container engine: an app comes, is renewed, healed, and goes.

Four nodes and a peer stub, which has the messages of encrypted apps. Node 1 has a container engine and a
secure system, the others have neither: they test ports, hear what node 1 tells, and keep its location. The
tests run in this order on one network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from busyboximages import WEB
from network import Connected, Env, Network, Node
from network.apps import (
    await_in_force,
    container_app,
    installed,
    launch,
    sealed,
)
from network.events import Event

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

IN_ORDER = True
SHOP, VAULT = "webshop", "vaultshop"
IMAGES = {SHOP: "shop/web:v1", VAULT: "vault/web:v1"}
PORTS = {SHOP: 36_101, VAULT: 36_102}
CONTAINERS = {name: f"fluxweb_{name}" for name in IMAGES}
FILE = "/data/kept"


@pytest.fixture(scope="module")
def network(engine_room: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    env = Env(
        nodes=4,
        peer_stubs=1,
        engine_node=1,
        secure=(1,),
        overrides={"peers.min_outbound": 2},
        ticker_s=1.0,
        node_overrides={1: {"enterprise.opens_encrypted": True, "appstate.announce_interval_s": 3.0}},
    )
    with Network(tmp_path_factory.mktemp("net"), env) as network:
        yield network


async def located(witness: Node, app: str, hosts: list[Node], within_s: float) -> None:
    wanted = sorted(host.ip for host in hosts)
    await witness.until(
        f"/apps/location/{app}", lambda rows: sorted(row["ip"] for row in rows) == wanted, within_s
    )


async def publish(net: Connected, app: str, version: str) -> str:
    """Another image under the tag that the app names; its digest."""
    files = {"/www/index.html": f"{app} {version}\n"}
    return await net.engine.publish(IMAGES[app], f"{app}-{version}", cmd=WEB, files=files)


@pytest.mark.trio
async def test_09_a_paid_app_is_installed_by_the_node_with_an_engine(net: Connected) -> None:
    host, registrar, witness = net.host, net[2], net[3]
    await publish(net, SHOP, "v1")
    await net.chain.start_ticker()
    for node in net.nodes:
        # Who has no links yet would not hear what is told once.
        await node.in_phase("READY", 90)
    marks = await net.marks()
    spec = container_app(SHOP, net.engine.image(IMAGES[SHOP]), PORTS[SHOP])
    app_hash = await launch(net, registrar, spec)
    for node in (registrar, witness):
        found = await await_in_force(node, SHOP, app_hash, 30)
        assert (found["name"], found["instances"]) == (SHOP, 3)

    came = await host.event("app:installed", after=marks[1], within_s=60, name=SHOP)
    assert came.data["hash"] == app_hash
    assert SHOP in await installed(host)
    assert (await installed(host))[SHOP]["height"] > 2_100_000
    for node in net.others(host):
        told = await node.event(
            "network:appinstalling", after=marks[node.number], within_s=10, ip=host.ip, name=SHOP
        )
        await node.event("network:apprunning", after=told, within_s=20, ip=host.ip)
        await located(node, SHOP, [host], 10)
    await net.engine.up(CONTAINERS[SHOP], within_s=5)
    assert await net.page(host.ip, PORTS[SHOP]) == f"{SHOP} v1\n"


@pytest.mark.trio
async def test_20_an_encrypted_app_is_installed_and_stays_encrypted_at_rest(net: Connected) -> None:
    """Only a secure node can say whether what is inside may be registered."""
    await publish(net, VAULT, "v1")
    await net.chain.start_ticker()
    mark = await net.host.mark()
    spec = sealed(container_app(VAULT, net.engine.image(IMAGES[VAULT]), PORTS[VAULT]))
    app_hash = await launch(net, net.host, spec)
    came = await net.host.event("app:installed", after=mark, within_s=60, name=VAULT)
    assert came.data["hash"] == app_hash
    row = (await installed(net.host))[VAULT]
    assert (row["enterprise"], row["compose"]) == (spec["enterprise"], [])
    assert await net.page(net.host.ip, PORTS[VAULT]) == f"{VAULT} v1\n"


@pytest.mark.trio
async def test_the_commands_of_the_operator_agree_with_docker(net: Connected, network: Network) -> None:
    host = net.host
    assert net.engine.ps() == dict.fromkeys(CONTAINERS.values(), "running")
    listed = json.loads(await net.command(host, "containers", "ls", "--json"))
    parts = {part["container"]: part for app in listed["apps"] for part in app["components"]}
    assert {name: part["state"] for name, part in parts.items()} == net.engine.ps()
    assert {name: part["ports"] for name, part in parts.items()} == {
        CONTAINERS[name]: [PORTS[name]] for name in PORTS
    }
    assert listed["leftovers"] == []
    plan = None
    with trio.move_on_after(60):
        # A round of the spawner that is under way, say, is in the plan, too, and comes to nothing.
        while plan != []:
            plan = json.loads(await net.command(host, "containers", "plan", "--json"))
    assert plan == [], "nothing is to be done"
    net.engine.api.exec(CONTAINERS[SHOP], ["sh", "-c", "echo a line of the shop > /proc/1/fd/1"])
    # The engine keeps a line a little after it was written.
    words = ("containers", "logs", f"web_{SHOP}")
    with trio.fail_after(60):
        while "a line of the shop" not in await net.command(host, *words, signed=True):
            pass
    doctor: dict[str, Any] = {}
    with trio.move_on_after(240):
        # Whatever a busy machine does not answer in time counts as a failure.
        while not doctor.get("healthy"):
            doctor = json.loads((await network.ended_command(host, "doctor", "--json"))[1])
    assert doctor["healthy"], doctor


@pytest.mark.trio
@pytest.mark.parametrize("app", [SHOP, VAULT])
async def test_20_a_new_image_under_the_tag_is_taken(net: Connected, app: str) -> None:
    host = net.host
    await net.chain.start_ticker()
    before = (await installed(host))[app]
    assert before["height"] > 0
    old = net.engine.digests(CONTAINERS[app])
    mark = await host.mark()
    digest = await publish(net, app, "v2")
    assert digest not in old
    begun = await host.event("imageUpdate:redeployTriggered", after=mark, within_s=30, appName=app)
    await host.event("imageUpdate:redeployComplete", after=begun, within_s=60, appName=app)
    assert digest in net.engine.digests(CONTAINERS[app])
    await net.engine.up(CONTAINERS[app], within_s=10)
    assert await net.page(host.ip, PORTS[app]) == f"{app} v2\n"
    assert (await installed(host))[app] == before

    height = await net.chain.mine(8)
    await host.event("block:processed", after=mark, within_s=20, where=lambda data: data["height"] >= height)
    assert not await host.seen("app:removed", after=mark)
    assert (await installed(host))[app] == before
    assert digest in net.engine.digests(CONTAINERS[app])


@pytest.mark.trio
async def test_23_a_rebooted_machine_starts_its_apps_again(net: Connected) -> None:
    host, engine = net.host, net.engine
    await net.chain.start_ticker()
    await located(net[3], SHOP, [host], 20)
    engine.api.exec(CONTAINERS[SHOP], ["sh", "-c", f"echo note > {FILE}"])
    runs = {name: engine.run_id(name) for name in CONTAINERS.values()}
    assert await host.shut_down() == 0
    engine.reboot()
    assert set(engine.ps().values()) == {"exited"}, "nothing starts by itself"
    await host.boot("another-boot")
    settled = await host.event("boot:settled", after=0, within_s=60)
    for name, run in runs.items():
        assert run is not None
        assert (await engine.up(name, within_s=20, other_than=run))[0] == run[0], "it is not made anew"
    # The first announcement may come between the two.
    await host.event(
        "app:running",
        after=settled,
        within_s=50,
        where=lambda data: {row["name"] for row in data["apps"]} == set(CONTAINERS),
    )
    assert engine.api.exec(CONTAINERS[SHOP], ["cat", FILE]) == (0, "note\n"), "its volume is mounted again"
    assert not await host.seen("app:removed", after=0)


@pytest.mark.trio
async def test_23_what_is_removed_or_stopped_behind_its_back_comes_up_again(net: Connected) -> None:
    engine, name = net.engine, CONTAINERS[SHOP]
    run = await engine.up(name, within_s=5)
    other = await engine.up(CONTAINERS[VAULT], within_s=5)
    engine.api.remove(name)
    made = await engine.up(name, within_s=60, other_than=run)
    assert made[0] != run[0]
    assert engine.api.exec(name, ["cat", FILE]) == (0, "note\n"), "its data stays"
    engine.api.stop(name)
    assert (await engine.up(name, within_s=60, other_than=made))[0] == made[0]
    assert await net.page(net.host.ip, PORTS[SHOP]) == f"{SHOP} v2\n"
    assert engine.run_id(CONTAINERS[VAULT]) == other, "nothing is done to the other one"
    assert not await net.host.seen("app:removed", after=0)


@pytest.mark.trio
async def test_23_what_is_held_for_a_backup_stays_down_over_a_reboot_until_it_is_released(
    net: Connected,
) -> None:
    host, engine, name = net.host, net.engine, CONTAINERS[SHOP]
    run = await engine.up(name, within_s=5)
    said = await net.command(host, "containers", "hold", SHOP, "--minutes", "30", signed=True)
    assert said.startswith(f"{SHOP} is held until ")
    assert engine.ps()[name] == "exited"
    assert await host.shut_down() == 0
    engine.reboot()
    await host.boot("a-third-boot")
    settled = await host.event("boot:settled", after=0, within_s=60)
    await engine.up(CONTAINERS[VAULT], within_s=20)
    await host.event(
        "app:running",
        after=settled,
        within_s=50,
        where=lambda data: {row["name"] for row in data["apps"]} == set(CONTAINERS),
    )
    assert engine.ps()[name] == "exited", "nobody starts it, and it is announced all the same"
    said = await net.command(host, "containers", "release", SHOP, signed=True)
    assert said.strip() == f"{SHOP} is no longer held"
    assert (await engine.up(name, within_s=20, other_than=run))[0] == run[0], "it is not made anew"
    assert engine.api.exec(name, ["cat", FILE]) == (0, "note\n"), "its data stays"
    assert not await host.seen("app:removed", after=0)


@pytest.mark.trio
@pytest.mark.parametrize("how", ["halt", "kill"])
async def test_an_engine_that_was_away_gets_its_apps_back(net: Connected, how: str) -> None:
    """Stopped in order (its containers end with it) or killed; nobody is told that an app is gone."""
    host, engine = net.host, net.engine
    runs = {name: await engine.up(name, within_s=5) for name in CONTAINERS.values()}
    mark, others_mark = await host.mark(), await net[3].mark()
    getattr(engine, how)()
    with trio.fail_after(120):
        while json.loads(await net.command(host, "containers", "ls", "--json"))["engine"]["reachable"]:
            pass
    engine.start()
    for name, run in runs.items():
        assert (await engine.up(name, within_s=30, other_than=run))[0] == run[0], "it is not made anew"
    assert not await host.seen("app:removed", after=mark)
    assert not await net[3].seen("network:appremoved", after=others_mark)
    # What happens from now on is heard of again.
    engine.api.remove(CONTAINERS[SHOP])
    await engine.up(CONTAINERS[SHOP], within_s=30, other_than=runs[CONTAINERS[SHOP]])


@pytest.mark.trio
async def test_the_operator_redeploys_removes_and_installs(net: Connected) -> None:
    host, engine, name = net.host, net.engine, CONTAINERS[SHOP]
    # What its spawner has looked at since the reboot it leaves alone for hours, and does not install again.
    await host.until("/trionode/spawner", lambda status: status["tried"] == len(CONTAINERS), 60)
    run = await engine.up(name, within_s=5)
    mark = await host.mark()
    said = await net.operate(host, "redeploy", SHOP)
    assert f"Flux App {SHOP} was successfully redeployed" in said
    run = await engine.up(name, within_s=5, other_than=run)
    assert engine.api.exec(name, ["cat", FILE]) == (0, "note\n")

    assert f"{SHOP} is removed" in await net.operate(host, "remove", SHOP, "--yes")
    gone = await host.event("app:removed", after=mark, within_s=5, name=SHOP)
    assert set(engine.ps()) == {CONTAINERS[VAULT]}
    await located(net[3], SHOP, [], 20)

    assert f"Flux App {SHOP} was successfully installed" in await net.operate(host, "install", SHOP)
    await engine.up(name, within_s=5, other_than=run)
    assert engine.api.exec(name, ["cat", FILE])[0] != 0, "it is another volume"
    await host.event("app:installed", after=gone, within_s=5, name=SHOP)


async def lost(net: Connected, mark: int | Event) -> Event:
    """Both apps are removed, whole; the last news of it."""
    for app in CONTAINERS:
        gone = await net.host.event("app:removed", after=mark, within_s=60, name=app)
    assert not await installed(net.host)
    assert not net.engine.ps()
    assert net.engine.left_behind() == []
    return gone


@pytest.mark.trio
async def test_24_a_host_that_loses_confirmation_removes_its_apps(net: Connected) -> None:
    host = net.host
    assert set(await installed(host)) == set(CONTAINERS)
    mark = await host.mark()
    await net.chain.unconfirm(host.ip)
    unconfirmed = await host.event("confirmation:changed", after=mark, within_s=20, confirmed=False)
    await lost(net, unconfirmed)
    await net.chain.confirm(host.ip)
    await host.event("confirmation:changed", after=unconfirmed, within_s=20, confirmed=True)


@pytest.mark.trio
async def test_24_a_host_whose_daemon_is_silent_removes_its_apps(net: Connected) -> None:
    host = net.host
    await net.chain.start_ticker()
    await host.in_phase("READY", 60)
    for app in CONTAINERS:
        await net.operate(host, "install", app)
    assert set(await installed(host)) == set(CONTAINERS)
    mark = await host.mark()
    await net.chain.fail_rpc(host.ip)
    await lost(net, mark)
