"""Apps on a real engine, real volumes, a real firewall: installed, linked, redeployed, removed, nothing left.

What is not real here: the chain, the node list, and the disk, which is a small one in a file.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import diskmachine
import msgspec
import pytest
import trio
from appworld import ADDRESS, AppWorld, Life, app, part
from busyboximages import STEADY, WEB
from dockerengine import TestEngine
from engineapi import EngineApi
from imageregistry import TestRegistry
from leaks import LeakWatch

from trionode.containers.docker.engine import open_docker
from trionode.containers.engine import Engine
from trionode.containers.health.linking import Linker
from trionode.containers.health.prunes import Pruner
from trionode.containers.images.http import open_image_registry
from trionode.containers.install.appactions import AppLifecycle
from trionode.containers.machine.linuxfirewall import LinuxFirewall
from trionode.runtime.counters import Counters

pytestmark = pytest.mark.trio

SIZE_GB = 0.005
ANSWERS_WITHIN_S = 120.0


@pytest.fixture
def machine(nothing_left: LeakWatch, tmp_path: Path) -> Iterator[diskmachine.DiskMachine]:
    reason = diskmachine.why_not()
    if reason is not None:
        pytest.skip(reason)
    (tmp_path / "disk").mkdir()
    made = diskmachine.DiskMachine(tmp_path / "disk")
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()


@pytest.fixture
def images(engine_api: EngineApi, image_registry: TestRegistry) -> dict[str, str]:
    """Name -> image at the registry; `web` serves a page on port 80."""
    found = {}
    for name in ("core", "web", "db"):
        image_registry.publish(engine_api, f"shop/{name}:v1", name, cmd=WEB)
        found[name] = image_registry.image(f"shop/{name}:v1")
    return found


@asynccontextmanager
async def node(
    engine: TestEngine, machine: diskmachine.DiskMachine, world: AppWorld
) -> AsyncIterator[tuple[Life, Engine]]:
    """A process of the node on this machine."""
    async with (
        open_docker(engine.url) as docker,
        open_image_registry(max_image_bytes=10**9, token_margin_s=900.0) as registry,
    ):
        life = await world.life(recovers=False)
        firewall, counters = LinuxFirewall(), Counters()
        bench = msgspec.structs.replace(
            life.bench,
            engine=docker,
            disk=machine.new_disk(),
            firewall=firewall,
            images=registry,
            links=Linker(docker, life.installed, counters),
            pruner=Pruner(docker, life.installed, life.records, life.operations, counters),
        )
        actions = AppLifecycle(bench, life.operations)
        await actions.recover()
        try:
            yield msgspec.structs.replace(life, actions=actions, bench=bench), docker
        finally:
            with trio.CancelScope(shield=True):
                # of a test that failed: they use the disk
                for row in life.installed.rows() if world.settings.undo_limit_s else ():
                    await actions.remove(row.name, reason="the test has ended", force=True)
                await firewall.unguard()


def base(images: dict[str, str]) -> dict[str, Any]:
    return app("base", part("core", image=images["core"], ports=(31100,), hdd=SIZE_GB, ram=64))


def shop(images: dict[str, str]) -> dict[str, Any]:
    return app(
        "shop",
        part("web", image=images["web"], ports=(31101,), hdd=SIZE_GB, ram=64),
        part(
            "db",
            image=images["db"],
            ports=(31102,),
            hdd=SIZE_GB,
            ram=64,
            containerData="/data|m:config:/config|f:init.sql:/init.sql|0:/web",
            environmentParameters=["MODE=test"],
        ),
        description="networkWith: [base]",
    )


async def said(engine: Engine, container: str, *words: str) -> str:
    async with engine.exec(container, words) as output:
        return b"".join([piece async for piece in output]).decode()


async def page(engine: Engine, container: str, name: str) -> str:
    """What `container` gets from the web server named `name`; it is asked until it answers.

    The name is asked of the engine's name server; a busybox without libraries cannot do it by itself.
    """
    asked = (
        f"until ip=$(nslookup {name} | sed -n '/^Name/{{n;s/.* //p}}') && [ -n \"$ip\" ]"
        " && printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc $ip 80 | grep hello; do sleep 0.1; done"
    )
    with trio.fail_after(ANSWERS_WITHIN_S):
        return await said(engine, container, "sh", "-c", asked)


async def test_linked_apps_live_and_leave_nothing(
    engine: TestEngine,
    engine_api: EngineApi,
    nothing_left: LeakWatch,
    machine: diskmachine.DiskMachine,
    images: dict[str, str],
) -> None:
    world = AppWorld(redeploy_delay_s=0.0, removal_stop_s=5.0)
    watch = LeakWatch(engine_api, folders=[machine.folder], images=True)
    async with node(engine, machine, world) as (life, docker):
        for spec in (base(images), shop(images)):
            outcome = await life.actions.install(spec, reason="the test")
            assert outcome.ok, outcome
        assert await page(docker, "fluxweb_shop", "fluxcore_base") == "hello\n"
        assert await page(docker, "fluxcore_base", "fluxweb_shop") == "hello\n"
        await said(docker, "fluxweb_shop", "sh", "-c", "echo kept > /data/note")
        assert await said(docker, "fluxdb_shop", "cat", "/web/note") == "kept\n"
        assert await said(docker, "fluxdb_shop", "sh", "-c", "ls -d /config /init.sql; echo $MODE") == (
            "/config\n/init.sql\ntest\n"
        )

        before = {row.name: row.id for row in await docker.containers()}
        outcome = await life.actions.redeploy("shop", hard=False, reason="the test")
        assert outcome.ok, outcome
        after = {row.name: row.id for row in await docker.containers()}
        assert [name for name in sorted(before) if before[name] == after[name]] == ["fluxcore_base"]
        assert await said(docker, "fluxweb_shop", "cat", "/data/note") == "kept\n"
        assert await page(docker, "fluxweb_shop", "fluxcore_base") == "hello\n"

        outcome = await life.actions.redeploy("base", hard=True, reason="the test")
        assert outcome.ok, outcome
        assert await page(docker, "fluxweb_shop", "fluxcore_base") == "hello\n"
        outcome = await life.actions.redeploy("shop", hard=True, reason="the test")
        assert outcome.ok, outcome
        assert await said(docker, "fluxweb_shop", "sh", "-c", "ls /data | wc -l") == "0\n"
        assert await page(docker, "fluxcore_base", "fluxweb_shop") == "hello\n"

        await docker.remove("fluxweb_shop", force=True)
        outcome = await life.actions.recreate("shop", "web_shop", keeps_volume=True, start=True)
        assert outcome.ok, outcome
        assert await page(docker, "fluxweb_shop", "fluxcore_base") == "hello\n"

        for name in ("shop", "base"):
            outcome = await life.actions.remove(name, reason="the test")
            assert outcome.ok, outcome
    assert watch.settled() == []
    assert machine.left() == []


async def test_a_new_image_under_the_tag_replaces_the_old_one(
    engine: TestEngine,
    engine_api: EngineApi,
    nothing_left: LeakWatch,
    machine: diskmachine.DiskMachine,
    images: dict[str, str],
    image_registry: TestRegistry,
) -> None:
    watch = LeakWatch(engine_api, folders=[machine.folder], images=True)
    async with node(engine, machine, AppWorld(redeploy_delay_s=0.0)) as (life, docker):
        assert (await life.actions.install(base(images), reason="the test")).ok
        old = (await docker.inspect("fluxcore_base")).image_id
        digest = image_registry.publish(engine_api, "shop/core:v1", "newer", cmd=WEB)
        assert (await life.actions.redeploy("base", hard=False, reason="the test")).ok
        new = (await docker.inspect("fluxcore_base")).image_id
        assert new != old
        shown = await docker.image(images["core"])
        assert any(found.endswith(digest) for found in shown.digests)
        assert old not in {image.id for image in await docker.images()}
        assert (await life.actions.remove("base", reason="the test", force=True)).ok
    assert watch.settled() == []


@pytest.mark.parametrize("step", ["allocate", "mount", "remember"])
async def test_a_volume_that_cannot_be_made_undoes_the_install(
    step: str,
    engine: TestEngine,
    engine_api: EngineApi,
    nothing_left: LeakWatch,
    machine: diskmachine.DiskMachine,
    images: dict[str, str],
) -> None:
    watch = LeakWatch(engine_api, folders=[machine.folder], images=True)
    async with node(engine, machine, AppWorld()) as (life, _):
        machine.faults.failing[step] = 1
        outcome = await life.actions.install(base(images), reason="the test")
        assert not outcome.ok
        assert outcome.step == "volume core_base"
        assert life.records.all() == ()
    assert watch.settled() == []
    assert machine.left() == []


async def test_a_taken_port_undoes_the_install(
    engine: TestEngine,
    engine_api: EngineApi,
    nothing_left: LeakWatch,
    machine: diskmachine.DiskMachine,
    images: dict[str, str],
) -> None:
    watch = LeakWatch(engine_api, folders=[machine.folder], images=True)
    async with node(engine, machine, AppWorld()) as (life, _):
        listeners = await trio.open_tcp_listeners(31100, host="0.0.0.0")
        outcome = await life.actions.install(base(images), reason="the test")
        for listener in listeners:
            await listener.aclose()
        assert not outcome.ok
        assert outcome.step == "start core_base"
    assert watch.settled() == []
    assert machine.left() == []


async def test_an_install_cancelled_anywhere_leaves_nothing(
    engine: TestEngine,
    engine_api: EngineApi,
    nothing_left: LeakWatch,
    machine: diskmachine.DiskMachine,
    images: dict[str, str],
) -> None:
    watch = LeakWatch(engine_api, folders=[machine.folder], images=True)
    async with node(engine, machine, AppWorld()) as (life, _):
        for after_s in (0.02, 0.1, 0.2, 0.3, 0.45):
            with trio.move_on_after(after_s) as limit:
                await life.actions.install(base(images), reason="the test")
            if not limit.cancelled_caught:
                # quicker than that; a removal that is broken off would go on at the next start
                assert (await life.actions.remove("base", reason="the test")).ok
            assert life.records.all() == ()
            assert life.installed.rows() == ()
    assert watch.settled() == []
    assert machine.left() == []


async def test_what_a_killed_process_left_is_removed_by_the_next(
    engine: TestEngine,
    engine_api: EngineApi,
    nothing_left: LeakWatch,
    machine: diskmachine.DiskMachine,
    images: dict[str, str],
) -> None:
    watch = LeakWatch(engine_api, folders=[machine.folder], images=True)
    world = AppWorld(undo_limit_s=0.0)
    async with node(engine, machine, world) as (life, docker):
        # the disk of the second component hangs: everything of the first one is there by then
        machine.faults.hanging.add("finish")
        machine.faults.hangs = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_install, life, base(images))
            await machine.faults.hangs.wait()
            world.store.failing |= {"put_meta", "delete"}
            nursery.cancel_scope.cancel()
        world.store.failing.clear()
        machine.faults.hanging.clear()
        assert [network.name for network in await docker.networks() if "base" in network.name]
        record = life.records.get("base")
        assert record is not None
        assert record.phase == "installing"
    async with node(engine, machine, world) as (life, _):
        assert life.records.all() == ()
        assert life.installed.rows() == ()
    assert watch.settled() == []
    assert machine.left() == []


async def _install(life: Life, spec: dict[str, Any]) -> None:
    await life.actions.install(spec, reason="the test")


RECEIVER = """
import socket, sys
door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
door.bind(("0.0.0.0", 514))
door.settimeout(120)
sys.stdout.buffer.write(door.recv(65536))
"""


async def test_a_collector_receives_what_components_write(
    engine: TestEngine,
    engine_api: EngineApi,
    nothing_left: LeakWatch,
    machine: diskmachine.DiskMachine,
    images: dict[str, str],
    image_registry: TestRegistry,
) -> None:
    image_registry.publish(engine_api, "shop/steady:v1", "steady", cmd=STEADY)
    watch = LeakWatch(engine_api, folders=[machine.folder], images=True)
    spec = app(
        "logs",
        part("sink", image=images["core"], hdd=SIZE_GB, ram=64, environmentParameters=["LOG=COLLECT"]),
        part(
            "web",
            image=image_registry.image("shop/steady:v1"),
            hdd=SIZE_GB,
            ram=64,
            environmentParameters=["LOG=SEND"],
        ),
    )
    async with node(engine, machine, AppWorld()) as (life, docker):
        outcome = await life.actions.install(spec, reason="the test")
        assert outcome.ok, outcome
        pid = (await docker.inspect("fluxsink_logs")).pid
        words = ["nsenter", "-t", str(pid), "-n", sys.executable, "-c", RECEIVER]
        received = await trio.run_process(words, capture_stdout=True)
        datagram = msgspec.json.decode(received.stdout)
        assert datagram["version"] == "1.1"
        assert datagram["short_message"].startswith("line ")
        told = {name: datagram[name] for name in ("_tag", "_app_name", "_host_ip", "_host_id")}
        assert told == {
            "_tag": "web",
            "_app_name": "logs",
            "_host_ip": ADDRESS,
            "_host_id": f"{'c' * 64}0",
        }
        assert (await life.actions.remove("logs", reason="the test")).ok
    assert watch.settled() == []
