"""Containers of a real engine that are killed, removed or sick are back, after its restart too (§9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diskmachine
import pytest
import trio
from appworld import app, part
from busyboximages import SLEEP, WEB
from dockerengine import DockerEngine, TestEngine
from engineapi import EngineApi
from hostworld import HostWorld, Node
from imageregistry import TestRegistry
from leaks import LeakWatch
from realnode import real_node

from trionode.containers.engine import EngineError
from trionode.containers.health.tampering import TAMPERING
from trionode.containers.host import CONTAINER_CHANGED

pytestmark = pytest.mark.trio

CORE = "fluxcore_base"
SOON_S = 120.0
"""Nothing here is a matter of speed: the machine may be busy."""


@pytest.fixture
def machine(engine_turn: None, tmp_path: Path) -> Iterator[diskmachine.DiskMachine]:
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
def image(engine_api: EngineApi, image_registry: TestRegistry) -> str:
    image_registry.publish(engine_api, "health/core:v1", "core", cmd=SLEEP)
    return image_registry.image("health/core:v1")


def base(image: str) -> dict[str, Any]:
    return app("base", part("core", image=image, hdd=0.005, ram=64))


async def install(node: Node, spec: dict[str, Any]) -> None:
    outcome = await node.life.actions.install(spec, reason="the test")
    assert outcome.ok, outcome.problem


async def until(check: Callable[[], bool], what: str) -> None:
    with trio.move_on_after(SOON_S):
        while True:
            if check():
                return
            await trio.sleep(0.05)
    pytest.fail(f"not within {SOON_S:g} s: {what}")


async def started_at(node: Node) -> int | None:
    try:
        details = await node.engine.inspect(CORE)
    except EngineError:
        return None
    return details.started_ms if details.state == "running" else None


async def back(node: Node, before_ms: int | None) -> None:
    """Wait until it runs anew."""
    with trio.move_on_after(SOON_S):
        while True:
            if await started_at(node) not in {None, before_ms}:
                return
            await trio.sleep(0.05)
    told = [dict(data) for data in node.told(CONTAINER_CHANGED)]
    pytest.fail(f"not back within {SOON_S:g} s; the engine told {told}")


async def test_killed_vanished_and_stopped(
    nothing_left: LeakWatch, engine: TestEngine, machine: diskmachine.DiskMachine, image: str
) -> None:
    async with real_node(engine.url, machine, HostWorld()) as node:
        await install(node, base(image))
        first_ms = await started_at(node)
        await until(lambda: [found.name for found in node.host.apps() or ()] == ["base"], "announced")

        # its process dies: it ended by itself
        details = await node.engine.inspect(CORE)
        await trio.run_process(["kill", "-9", str(details.pid)])
        await back(node, first_ms)
        assert node.health.crashes["core_base"].count == 1

        # docker rm -f: it is made again, its volume is the same
        second_ms = await started_at(node)
        await node.engine.remove(CORE, force=True)
        await back(node, second_ms)
        await until(lambda: bool(node.told(TAMPERING)), "noted")
        assert [data["kind"] for data in node.told(TAMPERING)] == ["container_vanished"]

        # docker stop: somebody wanted that; nothing happens before two passes have seen it
        await node.engine.stop(CORE, 5)
        await until(lambda: node.host.states().get(CORE) == "exited", "seen to be stopped")
        await trio.sleep(2)
        assert await started_at(node) is None
        assert node.health.crashes == {}


async def test_a_linked_app_starts_though_its_network_went_or_is_another_one(
    nothing_left: LeakWatch, engine: TestEngine, machine: diskmachine.DiskMachine, image: str
) -> None:
    guest = {**app("guest", part("db", image=image, hdd=0.005, ram=64)), "description": "networkWith: [base]"}
    async with real_node(engine.url, machine, HostWorld()) as node:
        await install(node, base(image))
        await install(node, guest)
        await node.engine.stop("fluxdb_guest", 0)
        assert (await node.life.actions.remove("base", reason="the test")).ok
        await node.host.start("db_guest")
        assert set((await node.engine.inspect("fluxdb_guest")).addresses) == {"fluxDockerNetwork_guest"}

        await install(node, base(image))
        assert "fluxdb_guest" in (await node.engine.network("fluxDockerNetwork_base")).endpoints
        await node.engine.stop("fluxdb_guest", 0)
        assert (await node.life.actions.remove("base", reason="the test")).ok
        await install(node, base(image))
        await node.engine.start("fluxdb_guest")
        assert "fluxdb_guest" in (await node.engine.network("fluxDockerNetwork_base")).endpoints


async def test_unhealthy_is_restarted(
    nothing_left: LeakWatch,
    engine: TestEngine,
    engine_api: EngineApi,
    image_registry: TestRegistry,
    machine: diskmachine.DiskMachine,
) -> None:
    image_registry.publish(
        engine_api,
        "health/sick:v1",
        "core",
        cmd=WEB,
        healthcheck="test ! -e /tmp/sick",
    )
    spec = base(image_registry.image("health/sick:v1"))
    async with real_node(engine.url, machine, HostWorld()) as node:
        await install(node, spec)
        first_ms = await started_at(node)
        async with node.engine.exec(CORE, ["touch", "/tmp/sick"]) as output:
            assert [piece async for piece in output] == []
        await back(node, first_ms)
        assert node.counters["containers.health.ended.unhealthy"] >= 1


async def test_the_engine_restarts_under_the_node(
    own_engine: DockerEngine, machine: diskmachine.DiskMachine, image: str
) -> None:
    async with real_node(own_engine.at.url, machine, HostWorld()) as node:
        await install(node, base(image))
        first_ms = await started_at(node)
        await own_engine.halt_async()
        await until(lambda: not node.reachable.is_open or node.host.states().get(CORE) != "running", "away")
        assert node.life.installed.names() == {"base"}
        await own_engine.start_async()
        await back(node, first_ms)
        assert node.life.installed.names() == {"base"}

        second_ms = await started_at(node)
        await own_engine.kill_async()
        await own_engine.start_async()
        await back(node, second_ms)
        assert node.life.installed.names() == {"base"}
        assert node.told(TAMPERING) == []
