"""Suites 10 and 15 with a real container engine: what becomes of containers when node or machine were away.

Node 1 has a container engine; the others keep its locations and are started once it has been READY alone. It
takes no app by itself here: what is installed was installed by hand. The tests run in this order on one
network, and a reboot is one: containers end and volumes are unmounted.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import trio
from busyboximages import WEB
from network import Connected, Env, Network
from network.apps import await_in_force, container_app, installed, launch
from network.boot import leave_heartbeat
from network.env import NO_DAEMON, NO_DATA, SETTINGS, TEAM, BootContext
from network.http import Unanswered
from network.network import BUSY
from network.node import PATIENCE

from trionode.containers.install.records import KEY as INSTALL_RECORDS

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

IN_ORDER = True
APP, CONTAINER, IMAGE, PORT = "webshop", "fluxweb_webshop", "shop/web:v1", 36_301
FILE = "/data/kept"
TRIES = 10
PATIENT = {name: SETTINGS[name] for name in (*NO_DAEMON, *NO_DATA)}


@pytest.fixture(scope="module")
def network(engine_room: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    env = Env(
        # With the stand-in the list is long enough that no two nodes dial each other: who counts a link as
        # outgoing, which registering asks for, is no race.
        nodes=4,
        peer_stubs=1,
        held_back=(2, 3, 4),
        engine_node=1,
        overrides={"peers.min_outbound": 2},
        node_overrides={1: {"hosting.max_containers": 0, "appstate.announce_interval_s": 3.0}},
    )
    with Network(tmp_path_factory.mktemp("net"), env) as network:
        yield network


@pytest.mark.trio
async def test_10_ready_by_blocks_and_back_when_unconfirmed(net: Connected) -> None:
    node = net.host
    await node.event("messageCapability:changed", after=0, within_s=30, capable=True)
    # Only blocks that come after the chain was read count one by one.
    await node.event("explorer:synced", after=0, within_s=30)
    await net.chain.mine(252)
    entered = await node.enters("READY", after=0, within_s=120)
    await node.event("spawner:resumed", after=0, within_s=5)
    await net.chain.unconfirm(node.ip)
    lost = await node.event("confirmation:changed", after=entered, within_s=20, confirmed=False)
    left = await node.event("orchestrator:stateChanged", after=entered, within_s=20)
    assert (left.data["from"], left.data["to"]) == ("READY", "SYNCING")
    paused = await node.event("spawner:paused", after=entered, within_s=5)
    assert min(left.id, paused.id) > lost.id
    await net.chain.confirm(node.ip)
    await node.event("confirmation:changed", after=lost, within_s=20, confirmed=True)


async def hosted(net: Connected) -> tuple[str, str]:
    """The app runs on node 1, which is READY, and everybody knows; the run of its container."""
    host = net.host
    await net.chain.start_ticker()
    await host.in_phase("READY", 90)
    if APP not in await installed(host):
        await net.operate(host, "install", APP)
    await net[3].until(f"/apps/location/{APP}", lambda rows: [row["ip"] for row in rows] == [host.ip], 30)
    return await net.engine.up(CONTAINER, within_s=10)


@pytest.mark.trio
async def test_an_app_comes_to_run_there(net: Connected) -> None:
    await net.start(2, 3, 4)
    await net.engine.publish(IMAGE, cmd=WEB)
    await net.chain.start_ticker()
    await net[2].in_phase("READY", 90)
    app_hash = await launch(net, net[2], container_app(APP, net.engine.image(IMAGE), PORT))
    await await_in_force(net.host, APP, app_hash, 30)
    await hosted(net)
    net.engine.api.exec(CONTAINER, ["sh", "-c", f"echo note > {FILE}"])


async def back(
    net: Connected,
    context: BootContext,
    *,
    reboot: bool = True,
    settings: Mapping[str, Any] = PATIENT,
) -> dict[str, Any]:
    """The node dies, its machine reboots or not, and it starts again; the boot context it found."""
    host = net.host
    await host.stop(signal.SIGKILL)
    host.set_up({**PATIENT, **settings})
    if reboot:
        net.engine.reboot()
    await leave_heartbeat(host.place, context)
    await host.start()
    started = await host.event("orchestrator:started", after=0, within_s=20)
    return dict(started.data["bootContext"])


async def everything_removed(net: Connected, why: str, within_s: float = 50.0) -> None:
    """The decision, made for that reason, is carried out: no app and nothing of it is left."""
    await net.host.event("app:removed", after=0, within_s=within_s, name=APP)
    await net.host.event("boot:settled", after=0, within_s=within_s)
    boot = (await net.host.data("/trionode/status"))["boot"]
    assert (boot["action"], boot["removed"]) == ("remove_all", [APP])
    assert why in boot["reason"]
    assert not await installed(net.host)
    assert not net.engine.ps()
    assert net.engine.left_behind() == []


@pytest.mark.trio
async def test_15_only_the_process_was_restarted(net: Connected) -> None:
    run = await hosted(net)
    context = await back(net, "running", reboot=False)
    await net.host.event("boot:settled", after=0, within_s=20)
    assert (context["machineRebooted"], context["firstBoot"]) == (False, False)
    await net.host.event("app:running", after=0, within_s=30)
    assert net.engine.run_id(CONTAINER) == run, "containers are left alone"
    assert not await net.host.seen("app:removed", after=0)


@pytest.mark.trio
@pytest.mark.parametrize(
    "context", [{"rebooted": True, "clean": False, "downtime_s": 60}, "firstBoot"], ids=["power cut", "first"]
)
async def test_15_after_a_reboot_containers_are_started_when_the_network_agrees(
    net: Connected, context: BootContext
) -> None:
    run = await hosted(net)
    found = await back(net, context)
    assert found["machineRebooted"] is True
    assert (found["firstBoot"], found["cleanShutdown"]) == (context == "firstBoot", False)
    settled = await net.host.event("boot:settled", after=0, within_s=50)
    assert (await net.engine.up(CONTAINER, within_s=20, other_than=run))[0] == run[0]
    told = await net.host.event("app:running", after=settled, within_s=30)
    assert [row["name"] for row in told.data["apps"]] == [APP]
    assert net.engine.api.exec(CONTAINER, ["cat", FILE]) == (0, "note\n")


@pytest.mark.trio
async def test_15_a_clean_reboot_waits_for_the_registry_in_vain(net: Connected) -> None:
    """Without peers and blocks the registry never gets ready: the wait ends, everything is removed."""
    await hosted(net)
    await net.chain.stop_ticker()
    for other in net.others(net.host):
        other.cut()
    context = await back(net, "rebooted", settings=NO_DATA)
    assert (context["machineRebooted"], context["cleanShutdown"], context["firstBoot"]) == (True, True, False)
    assert 0 <= context["downtimeMs"] < 420_000
    await everything_removed(net, "the app data was not complete in time")


@pytest.mark.trio
async def test_15_rebooted_and_the_daemon_does_not_answer(net: Connected) -> None:
    await hosted(net)
    await net.chain.fail_rpc(net.host.ip)
    await back(net, "rebooted", settings=NO_DAEMON)
    await everything_removed(net, "the chain daemon did not answer in time")


@pytest.mark.trio
async def test_15_rebooted_and_not_confirmed(net: Connected) -> None:
    await hosted(net)
    await net.chain.unconfirm(net.host.ip)
    await back(net, "rebooted")
    await everything_removed(net, "the node is not confirmed")


@pytest.mark.trio
async def test_15_away_too_long(net: Connected) -> None:
    """Longer than the network kept its place: nothing is waited for."""
    await hosted(net)
    mark = await net[3].mark()
    context = await back(net, {"rebooted": True, "clean": True, "downtime_s": 500})
    away_ms = context["downtimeMs"]
    assert 500_000 <= away_ms < 800_000
    await everything_removed(net, f"the machine was shut down for {away_ms / 60_000:.1f} min", 20.0)
    await net[3].event("network:appremoved", after=mark, within_s=30, ip=net.host.ip, name=APP)


def has_volume(net: Connected) -> bool:
    return any((net.host.place.folder / "data" / "appvolumes").glob("*.unfinished"))


def has_container(net: Connected) -> bool:
    return CONTAINER in net.engine.api.container_names()


async def killed_while_it_installs(net: Connected, so_far: Callable[[Connected], bool]) -> bool:
    """False when the install was quicker than our look at it: that proves nothing."""
    host = net.host
    session = await host.sign_in(host.admin)

    async def ask() -> None:
        said = BUSY
        with contextlib.suppress(Unanswered):
            while BUSY in said:
                answer = await host.ask("GET", f"/apps/installapplocally/{APP}", session=session)
                said = str(answer["data"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        with trio.fail_after(30 * PATIENCE):
            while not so_far(net):  # noqa: ASYNC110 - neither disk nor engine tell it at once
                await trio.sleep(0.002)
        await host.stop(signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(host.place.folder / "data" / "local.sqlite")) as database:
        (text,) = database.execute("SELECT value FROM meta WHERE key = ?", (INSTALL_RECORDS,)).fetchone()
    return [record["phase"] for record in json.loads(text)] == ["installing"]


@pytest.mark.trio
@pytest.mark.parametrize("so_far", [has_volume, has_container])
async def test_a_node_killed_while_it_installs_leaves_nothing_and_can_do_it_again(
    net: Connected, so_far: Callable[[Connected], bool]
) -> None:
    host = net.host
    await net.chain.start_ticker()
    for _ in range(TRIES):
        await host.in_phase("READY", 90)
        assert APP not in await installed(host)
        if await killed_while_it_installs(net, so_far):
            break
        await host.start()
        await net.operate(host, "remove", APP, "--yes")
    else:
        pytest.fail("each time the install was through before the node was killed")
    assert net.engine.left_behind() != [], "it was killed in the middle"
    await host.start()
    await host.event("boot:settled", after=0, within_s=30)
    await host.until("/trionode/containers", lambda found: found["apps"] == [], 10)
    assert net.engine.left_behind() == []


@pytest.mark.trio
async def test_10_a_high_penalty_shuts_people_out_and_takes_the_apps(net: Connected) -> None:
    await hosted(net)
    node, session = net.host, await net.host.sign_in(TEAM)
    mark = await node.mark()
    for state in (10, 11, 100):
        body = {"dosState": state, "dosMessage": None}
        assert (await node.ask("POST", "/flux/dosstate", body, session=session))["status"] == "success"
        await node.event("dos:changed", after=mark, within_s=10, **body)
        answer = await node.ask("GET", "/id/loginphrase")
        if state == 10:
            assert answer["status"] == "success"
            assert APP in await installed(node)
        else:
            assert answer["data"]["name" if state == 11 else "code"] == ("CONNERROR" if state == 11 else 100)
    await node.event("app:removed", after=mark, within_s=30, name=APP)
    assert net.engine.left_behind() == []
