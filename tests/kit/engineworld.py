"""A machine with a container engine, as the contract of the Engine port needs it: real Docker or the twin.

Beside the port itself a world offers what happens behind the port's back: images that behave in a given way,
registries, restarts, removals by somebody else.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol

import busyboximages
import trio
from busyboximages import import_image
from dockerengine import DockerEngine, TestEngine
from imageregistry import TestRegistry

from trionode.containers.docker.engine import open_docker
from trionode.containers.engine import Engine, LogLine
from trionode.containers.memory.engine import MemoryEngine
from trionode.containers.memory.objects import RegistryImage
from trionode.plans.createoptions import CreateOptions

APP = "contractapp"
STEADY = "contract/steady:1"
"""Sleeps."""
KEEPER = "contract/keeper:1"
"""Declares a volume."""
OFFERED = "contract/offered:1"
"""Its place in the registry is `world.offered`."""
NETWORK = f"fluxDockerNetwork_{APP}"
WITHIN_S = 120.0
PORTS = range(31_500, 31_600)
"""Host ports for the contract: the kernel gives none of these to anybody who asks for any port."""


def options(name: str = f"fluxweb_{APP}", **more: Any) -> CreateOptions:
    """A small container of the app of the contract."""
    identifier = name.removeprefix("flux")
    members: dict[str, Any] = {
        "name": name,
        "app": APP,
        "identifier": identifier,
        "image": STEADY,
        "hostname": "web",
        "network": NETWORK,
        "host_service_ip": "169.254.43.43",
        "nano_cpus": 250_000_000,
        "memory_bytes": 32 << 20,
        "memory_swap_bytes": (32 + 2000) << 20,
    }
    return CreateOptions(**(members | more))


class World(Protocol):
    """One machine."""

    engine: Engine
    offered: str
    """An image that the registry has."""

    def ending(self, wanted: CreateOptions, exit_code: int) -> CreateOptions:
        """The same container, but it ends by itself as soon as it runs."""
        ...

    async def writing(self, wanted: CreateOptions, lines: Sequence[LogLine]) -> None:
        """Create and start a container that writes these lines at once and runs on."""
        ...

    async def write_more(self, name: str, text: str) -> None:
        """Have it write another line."""
        ...

    async def heeds(self, name: str) -> None:
        """It runs, and ends by itself when it is asked to."""
        ...

    async def vanish(self, name: str) -> None:
        """Somebody removes the container by force."""
        ...

    async def other_policy(self, name: str) -> None:
        """Somebody has the engine start it by itself, always."""
        ...

    async def write_megabytes(self, name: str, megabytes: int) -> None:
        """It writes a file outside its volumes."""
        ...

    async def restart(self) -> None:
        """The engine restarts."""
        ...

    def free_port(self) -> int:
        """A host port nobody uses."""
        ...


class MemoryWorld:
    """The twin."""

    def __init__(self) -> None:
        self.offered = "registry.test:5000/contract/offered:1"
        registry = {
            STEADY: RegistryImage(environment=("FROM_IMAGE=1",), command=("sleep", "100000")),
            KEEPER: RegistryImage(volumes=("/kept",)),
            self.offered: RegistryImage(digest="sha256:" + "ab" * 32),
        }
        self.engine: Engine
        self.twin = self.engine = MemoryEngine(name="contract", registry=registry)

    def ending(self, wanted: CreateOptions, exit_code: int) -> CreateOptions:
        self.twin.exits[wanted.name] = exit_code
        return wanted

    async def writing(self, wanted: CreateOptions, lines: Sequence[LogLine]) -> None:
        await self.engine.create(wanted)
        await self.engine.start(wanted.name)
        for line in lines:
            self.twin.say(wanted.name, line.text, line.stream)

    async def write_more(self, name: str, text: str) -> None:
        self.twin.say(name, text)

    async def heeds(self, name: str) -> None:
        """It does from its start."""

    async def vanish(self, name: str) -> None:
        self.twin.vanish(name)

    async def other_policy(self, name: str) -> None:
        self.twin._find(name).restarts = "always"

    async def write_megabytes(self, name: str, megabytes: int) -> None:
        self.twin._find(name).written_bytes += megabytes << 20

    async def restart(self) -> None:
        self.twin.restart_engine()

    def free_port(self) -> int:
        return 31_000


class DockerWorld:
    """A real engine; what the contract's app has there is taken away at the end."""

    def __init__(
        self, engine: Engine, at: TestEngine, own: DockerEngine | None, registry: TestRegistry
    ) -> None:
        self.engine = engine
        self.offered = registry.image(OFFERED)
        self._api = at.api
        self._own = own

    def ending(self, wanted: CreateOptions, exit_code: int) -> CreateOptions:
        return options(**_members(wanted) | {"command": ("sh", "-c", f"exit {exit_code}")})

    async def writing(self, wanted: CreateOptions, lines: Sequence[LogLine]) -> None:
        await self.engine.create(wanted)
        await self.engine.start(wanted.name)
        with trio.fail_after(WITHIN_S):
            async with self.engine.logs(wanted.name, follow=True) as told:
                for line in lines:
                    # Streams are read by two threads of the engine: only what was heard keeps its place.
                    await self._say(wanted.name, line.text, line.stream)
                    await anext(told)

    async def write_more(self, name: str, text: str) -> None:
        await self._say(name, text, "stdout")

    async def _say(self, name: str, text: str, stream: str) -> None:
        said = f"echo '{text}' > /proc/1/fd/{1 if stream == 'stdout' else 2}"
        assert await self._call(self._api.exec, name, ["sh", "-c", said]) == (0, "")

    async def heeds(self, name: str) -> None:
        await self._call(self._api.heeds_sigterm, name)

    async def vanish(self, name: str) -> None:
        await self._call(self._api.remove, name)

    async def other_policy(self, name: str) -> None:
        policy = {"RestartPolicy": {"Name": "always"}}
        await self._call(partial(self._api.call, "POST", f"/containers/{name}/update", body=policy))

    async def write_megabytes(self, name: str, megabytes: int) -> None:
        command = ["dd", "if=/dev/zero", "of=/filled", "bs=1048576", f"count={megabytes}"]
        await self._call(self._api.exec, name, command)

    async def restart(self) -> None:
        assert self._own is not None, "a shared engine is not restarted"
        await self._own.restart_async()

    def free_port(self) -> int:
        for port in PORTS:
            with (
                socket.socket(type=socket.SOCK_STREAM) as tcp,
                socket.socket(type=socket.SOCK_DGRAM) as udp,
                suppress(OSError),
            ):
                tcp.bind(("0.0.0.0", port))
                udp.bind(("0.0.0.0", port))
                return port
        raise AssertionError(f"all of {PORTS} are in use")

    async def _call(self, call: Any, *args: Any) -> Any:
        return await trio.to_thread.run_sync(call, *args)


@asynccontextmanager
async def docker_world(
    at: TestEngine, registry: TestRegistry, own: DockerEngine | None = None
) -> AsyncIterator[DockerWorld]:
    """The world of a real engine for the length of a block; `own`: it may be restarted."""
    await trio.to_thread.run_sync(_prepare, at, registry)
    try:
        async with open_docker(at.url) as engine:
            yield DockerWorld(engine, at, own, registry)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_clear, at, registry)


_publishers: set[int] = set()
"""Registries, by process id, that have the offered image: making it takes longer than most tests."""


def _prepare(at: TestEngine, registry: TestRegistry) -> None:
    _clear(at, registry)
    known = at.api.image_tags()
    if STEADY not in known:
        import_image(at.api, STEADY, env={"FROM_IMAGE": "1"}, cmd=busyboximages.SLEEP)
    if KEEPER not in known:
        import_image(at.api, KEEPER, changes=["VOLUME /kept"])
    if registry.pid not in _publishers:
        # A layer of its own, or there would be nothing to fetch.
        registry.publish(at.api, OFFERED, files={"/offered": "1"})
        _publishers.add(registry.pid)


def _clear(at: TestEngine, registry: TestRegistry) -> None:
    marked = {"filters": f'{{"label":["trionode.app={APP}"]}}'}
    for row in at.api.call("GET", "/containers/json", {"all": "1", **marked}):
        at.api.remove(row["Id"])
    for row in at.api.call("GET", "/networks", marked):
        at.api.remove_network(row["Id"])
    at.api.remove_image(registry.image(OFFERED))


def _members(wanted: CreateOptions) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in wanted.__struct_fields__}
