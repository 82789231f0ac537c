"""A node process of a local network hosts an app on a real engine, and is told so by the command line alone.

What is not real: the chain daemon, the other services, and whoever pays. Volumes are image files of the disk.
"""

from __future__ import annotations

import json
import random
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import diskmachine
import pytest
import trio
from busyboximages import WEB
from dockerengine import TestEngine
from engineapi import EngineApi
from imageregistry import TestRegistry
from leaks import LeakWatch

from trionode.containers.machine.linuxfirewall import LinuxFirewall
from trionode.devnet import registering
from trionode.devnet.layout import NodePlace
from trionode.devnet.network import LocalNetwork, local_network
from trionode.devnet.observe import fetch
from trionode.devnet.processes import child_process, module_command
from trionode.runtime.clock import SystemClock
from trionode.wire.keys import NodeKey

pytestmark = [pytest.mark.trio, pytest.mark.timeout(900)]

OFFSET = 110
SERVICES_IP = f"127.{OFFSET}.255.2"
SERVICES = f"http://{SERVICES_IP}:3000"
OWNER = NodeKey.generate(random.Random(77), compressed=True)
OPERATOR = NodeKey.generate(random.Random(78), compressed=True)
SETTINGS = {
    "services.lists_url": SERVICES,
    "services.geolocation_url": SERVICES,
    "services.stats_url": SERVICES,
    "services.managers_url": f"http://127.{OFFSET}.255.9:16130/appips/{{app}}?{{region}}{{group}}",
    # nothing comes here but what the test installs
    "spawner.delay_factor": 1000.0,
    "resources.locked_hdd_gb": 0,
    "resources.locked_extra_hdd_gb": 0,
}
WITHIN_S = 240.0
T = TypeVar("T")


@pytest.fixture
def images(engine_api: EngineApi, image_registry: TestRegistry) -> dict[str, str]:
    found = {}
    for name in ("web", "db"):
        image_registry.publish(engine_api, f"cli/{name}:v1", name, cmd=WEB)
        found[name] = image_registry.image(f"cli/{name}:v1")
    return found


def specification(images: dict[str, str]) -> dict[str, Any]:
    spec = registering.specification("demo", OWNER.address)
    part = spec["compose"][0]
    changes = [
        {
            "name": name,
            "repotag": images[name],
            "ports": [port],
            "cpu": 0.1,
            "ram": 100,
            "hdd": 1,
            "environmentParameters": [f"TOKEN=secret-{name}"],
        }
        for name, port in (("web", 31121), ("db", 31122))
    ]
    return {**spec, "compose": [{**part, **change} for change in changes]}


def let_host(place: NodePlace, engine_url: str, apps_dir: Path) -> None:
    """Change the settings of a node that has not started: it hosts apps on this engine."""
    named = f'apps_file = "{place.folder / "apps.toml"}"'
    text = place.config.read_text("utf-8")
    assert named in text
    text = text.replace(named, f'apps_file = ""\noperator_id = "{OPERATOR.address}"')
    text += f'\n[hosting]\nengine = "docker"\nengine_url = "{engine_url}"\napps_dir = "{apps_dir}"\n'
    place.config.write_text(text, "utf-8")


@asynccontextmanager
async def hosting_network(engine: TestEngine, folder: Path) -> AsyncIterator[LocalNetwork]:
    """Three nodes, the first of which has the engine; the services around them."""
    services = module_command("trionode.sim.stub_services", "--host", SERVICES_IP)
    async with (
        child_process(services, folder / "services.log", stop_within_s=2.0),
        local_network(folder / "net", 3, offset=OFFSET, overrides=SETTINGS, held_back={1}) as network,
    ):
        with trio.fail_after(WITHIN_S):
            # what a node asks in vain it asks again much later
            await until(partial(_answers, SERVICES_IP, 3000))
        place = network.layout.nodes[0]
        let_host(place, engine.url, folder / "disk" / "apps")
        await network.start(1)
        try:
            yield network
        finally:
            with trio.CancelScope(shield=True):
                # the guard of private networks stays as long as the machine hosts apps
                await LinuxFirewall().unguard()


async def register(network: LocalNetwork, spec: dict[str, Any]) -> None:
    """Register and pay for it, and wait until it is in force at the node that hosts."""
    layout = network.layout
    with trio.fail_after(WITHIN_S):
        ready = await until(partial(_ready, layout))
        now_ms = SystemClock().now_ms()
        await trio.to_thread.run_sync(registering.register_and_pay, ready, layout, spec, OWNER, now_ms)
        await until(partial(fetch, layout.nodes[0].ip, "/trionode/registered?name=demo"))


async def until(look: Callable[[], T | None]) -> T:
    """What `look` finds, as soon as it finds anything; it asks other processes."""
    while True:
        if found := await trio.to_thread.run_sync(look):
            return found
        await trio.sleep(0.3)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=60).close()
    except OSError:
        return False
    return True


def _ready(layout: Any) -> NodePlace | None:
    try:
        found = registering.ready_node(layout)
        fetch(layout.nodes[0].ip, "/trionode/containers")
    except (OSError, ValueError):
        return None
    return found


class CommandLine:
    """`trionode` as its operator types it."""

    def __init__(self, place: NodePlace, key_file: Path) -> None:
        self._words = [sys.executable, "-m", "trionode", "--config", str(place.config)]
        self._env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TRIONODE_SIGN_IN_KEY": str(key_file)}

    async def __call__(self, *words: str, code: int = 0) -> str:
        done = await trio.run_process(
            [*self._words, *words], capture_stdout=True, capture_stderr=True, check=False, env=self._env
        )
        text = (done.stdout + done.stderr).decode()
        assert done.returncode == code, text
        return text


async def test_an_operator_hosts_an_app_by_hand(
    engine: TestEngine,
    nothing_left: LeakWatch,
    images: dict[str, str],
    tmp_path: Path,
) -> None:
    if (reason := diskmachine.why_not()) is not None:
        pytest.skip(reason)
    key_file = tmp_path / "operator.key"
    key_file.write_text(OPERATOR.wif)
    (tmp_path / "disk").mkdir()
    async with hosting_network(engine, tmp_path) as network:
        run = CommandLine(network.layout.nodes[0], key_file)
        await register(network, specification(images))

        try:
            await host_and_command(run, engine)
        finally:
            with trio.CancelScope(shield=True):
                # of a test that failed: volumes, mounts, lines in the crontab of the machine
                if "0 apps installed" not in await run("containers", "ls"):
                    await run("remove", "demo", "--yes", "--force")


async def comes_to(look: Callable[[], Awaitable[T]], wanted: T) -> None:
    """The node hears of its containers by and by."""
    found = await look()
    with trio.move_on_after(WITHIN_S):
        while found != wanted:
            await trio.sleep(0.3)
            found = await look()
    assert found == wanted


async def states_of(run: CommandLine) -> dict[str, str]:
    """What runs, as the node knows it: component -> state."""
    found = json.loads(await run("containers", "ls", "--json"))
    return {part["identifier"]: part["state"] for part in found["apps"][0]["components"]}


async def verdicts_of(run: CommandLine, wanted: Iterable[str]) -> dict[str, str | None]:
    """What the doctor says of these: check -> verdict."""
    checks = json.loads(await run("doctor", "--json"))["checks"]
    said = {check["check"]: check["verdict"] for check in checks}
    return {name: said.get(name) for name in wanted}


async def host_and_command(run: CommandLine, engine: TestEngine) -> None:
    """Install, look, stop, start, redeploy, ask the doctor, remove."""
    said = await run("install", "demo")
    assert "Starting db_demo..." in said
    assert said.endswith("Flux App demo was successfully installed\n")
    assert "installed already" in await run("install", "demo", code=1)

    await comes_to(partial(states_of, run), {"web_demo": "running", "db_demo": "running"})

    assert "TOKEN=" in (shown := await run("containers", "inspect", "web_demo"))
    assert "secret" not in shown

    await run("containers", "stop", "web_demo")
    await comes_to(partial(states_of, run), {"web_demo": "exited", "db_demo": "running"})
    assert "stopped on purpose" in await run("containers", "plan")
    assert engine.api.inspect("fluxweb_demo")["State"]["Running"] is False
    await run("containers", "start", "demo")
    assert engine.api.inspect("fluxweb_demo")["State"]["Running"] is True

    before = engine.api.inspect("fluxdb_demo")["Id"]
    await run("redeploy", "db_demo", "--hard", "--yes")
    assert engine.api.inspect("fluxdb_demo")["Id"] != before

    # whether the node is READY yet is up to its peers
    wanted = (
        "Docker",
        "storage driver",
        "restart policies",
        "volume tools",
        "loop devices",
        "app disk",
        "apps",
    )
    await comes_to(partial(verdicts_of, run, wanted), dict.fromkeys(wanted, "ok"))

    assert "--yes" in await run("remove", "demo", code=1)
    assert (await run("remove", "demo", "--yes")).endswith("successfully removed\n")
    assert "0 apps installed" in await run("containers", "ls")
