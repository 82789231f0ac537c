"""MemoryEngine: the twin of the container engine, for the simulator and for tests (lifecycle.md §13).

It passes the contract suite real Docker passes. It outlives the process of its node, as containers do; it has
no tasks and no threads; ids follow from its name, times from the clock handed in. Containers run until
somebody ends them, or as `exits` says. Faults: see `Faults`, and `MemoryMachine` for crashes and power cuts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import trio

from trionode.containers.engine import (
    Conflict,
    ContainerDetails,
    ContainerRow,
    Credentials,
    EngineEvent,
    EngineInfo,
    Image,
    LogLine,
    Network,
    PullProgress,
    Volume,
)
from trionode.containers.memory.documents import details_of, row_of, stats_of
from trionode.containers.memory.images import image_of
from trionode.containers.memory.machine import KILLED, MemoryMachine
from trionode.containers.memory.networks import network_of
from trionode.containers.memory.objects import MemoryContainer, RegistryImage
from trionode.plans import labels
from trionode.plans.createoptions import CreateOptions
from trionode.plans.networks import Subnet
from trionode.runtime.clock import VirtualClock, WallClock

DEFAULT_INFO = EngineInfo(
    version="24.0.0",
    api_version="1.43",
    architecture="amd64",
    cpus=8,
    memory_bytes=32 << 30,
    storage_driver="overlay2",
    root="/var/lib/docker",
)
SAMPLE_S = 1.0


class MemoryEngine(MemoryMachine):
    """`Engine` in memory. `name`: whose machine it is; ids differ between machines.

    `on_exec` answers commands run in containers (container, command) -> output.
    """

    def __init__(
        self,
        clock: WallClock | None = None,
        *,
        name: str = "",
        registry: MutableMapping[str, RegistryImage] | None = None,
        info: EngineInfo = DEFAULT_INFO,
        on_exec: Callable[[str, Sequence[str]], bytes] | None = None,
    ) -> None:
        super().__init__(clock or VirtualClock(), name, {} if registry is None else registry)
        self.about = info
        """What `info()` answers."""
        self._on_exec = on_exec

    async def info(self) -> EngineInfo:
        """See `Engine.info`."""
        await self.before("info")
        return self.about

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        """See `Engine.events`."""
        self.calls["events"] += 1
        await trio.lowlevel.checkpoint()
        with self.hub.listening() as stream:
            yield stream

    # --- containers ---------------------------------------------------------------------------

    async def containers(self) -> tuple[ContainerRow, ...]:
        """See `Engine.containers`."""
        await self.before("containers")
        now_ms = self.clock.now_ms()
        return tuple(row_of(container, now_ms) for container in self._containers.values())

    async def inspect(self, container: str) -> ContainerDetails:
        """See `Engine.inspect`."""
        await self.before("inspect", container)
        return details_of(self._find(container), self._networks.by_name)

    async def create(self, options: CreateOptions) -> str:
        """See `Engine.create`."""
        await self.before("create", options.name)
        made = self._create(options)
        self.done("create", options.name)
        return made

    async def start(self, container: str) -> None:
        """See `Engine.start`."""
        await self.before("start", container)
        self._start(self._find(container))
        self.done("start", container)

    async def stop(self, container: str, grace_s: float) -> None:
        """See `Engine.stop`. A stop that takes longer than the grace ends as a kill."""
        takes_s = self.takes_s.get("stop", 0.0)
        await self.before("stop", container, at_most_s=grace_s)
        code = KILLED if takes_s > grace_s else 0
        self._stop(self._find(container), code, "stop", "15")
        self.done("stop", container)

    async def kill(self, container: str) -> None:
        """See `Engine.kill`."""
        await self.before("kill", container)
        self._stop(self._find(container), KILLED, "kill", "9")
        self.done("kill", container)

    async def pause(self, container: str) -> None:
        """See `Engine.pause`."""
        await self.before("pause", container)
        self._pause(self._find(container))
        self.done("pause", container)

    async def unpause(self, container: str) -> None:
        """See `Engine.unpause`."""
        await self.before("unpause", container)
        self._unpause(self._find(container))
        self.done("unpause", container)

    async def never_restart(self, container: str) -> None:
        """See `Engine.never_restart`."""
        await self.before("never_restart", container)
        self._find(container).restarts = "no"
        self.done("never_restart", container)

    async def root_bytes(self, container: str) -> int:
        """See `Engine.root_bytes`."""
        await self.before("root_bytes", container)
        found = self._find(container)
        return found.image.source.size_bytes + found.written_bytes

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """See `Engine.remove`."""
        await self.before("remove", container)
        self._remove(self._find(container), force=force, volumes=volumes)
        self.done("remove", container)

    async def top(self, container: str) -> Mapping[str, Any]:
        """See `Engine.top`."""
        await self.before("top", container)
        found = self._alive(container)
        return {
            "Titles": ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"],
            "Processes": [
                ["root", str(found.pid), "1", "0", "00:00", "?", "00:00:00", " ".join(found.command)]
            ],
        }

    async def changes(self, container: str) -> Sequence[Mapping[str, Any]]:
        """See `Engine.changes`."""
        await self.before("changes", container)
        self._find(container)
        return [{"Path": "/tmp", "Kind": 0}, {"Path": "/tmp/state", "Kind": 1}]

    @asynccontextmanager
    async def logs(
        self,
        container: str,
        *,
        lines: int | None = None,
        since_s: float | None = None,
        follow: bool = False,
        timestamps: bool = False,
    ) -> AsyncIterator[AsyncIterator[LogLine]]:
        """See `Engine.logs`."""
        await self.before("logs", container)
        found = self._find(container)
        first_ms = 0 if since_s is None else since_s * 1000
        kept = [line for at_ms, line in found.lines if at_ms >= first_ms]
        start = kept if lines is None else kept[len(kept) - min(max(lines, 0), len(kept)) :]
        async with aclosing(self._lines(found, start, follow=follow, timestamps=timestamps)) as found_lines:
            yield found_lines

    async def stats(self, container: str) -> Mapping[str, Any]:
        """See `Engine.stats`."""
        await self.before("stats", container)
        return stats_of(self._find(container), self.clock.now_ms(), self.about.cpus)

    @asynccontextmanager
    async def stats_stream(self, container: str) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """See `Engine.stats_stream`."""
        await self.before("stats", container)
        async with aclosing(self._samples(self._find(container))) as samples:
            yield samples

    @asynccontextmanager
    async def exec(
        self, container: str, command: Sequence[str], environment: Sequence[str] = ()
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `Engine.exec`. Knows `echo` and `env`; all else says nothing unless `on_exec` answers."""
        await self.before("exec", container)
        found = self._alive(container)
        async with aclosing(_once(self._output(found, command, environment))) as output:
            yield output

    # --- networks -----------------------------------------------------------------------------

    async def networks(self) -> tuple[Network, ...]:
        """See `Engine.networks`."""
        await self.before("networks")
        return tuple(network_of(network, endpoints=False) for network in self._networks.by_name.values())

    async def network(self, name: str) -> Network:
        """See `Engine.network`."""
        await self.before("network", name)
        return network_of(self._networks.find(name), endpoints=True)

    async def create_network(self, name: str, subnet: Subnet, app: str) -> None:
        """See `Engine.create_network`."""
        await self.before("create_network", name)
        self._networks.add(
            name,
            ipaddress.IPv4Network(subnet.cidr),
            gateway=subnet.gateway,
            labels={labels.OWNER: app},
        )
        self.done("create_network", name)

    async def remove_network(self, name: str) -> None:
        """See `Engine.remove_network`."""
        await self.before("remove_network", name)
        self._networks.remove(name)
        self.done("remove_network", name)

    async def connect(self, container: str, network: str) -> None:
        """See `Engine.connect`."""
        await self.before("connect", container)
        self._networks.connect(self._find(container), network)
        self.done("connect", container)

    async def disconnect(self, container: str, network: str, *, force: bool = False) -> None:
        """See `Engine.disconnect`."""
        await self.before("disconnect", container)
        self._networks.disconnect(self._find(container), network)
        self.done("disconnect", container)

    # --- images and volumes -------------------------------------------------------------------

    async def images(self) -> tuple[Image, ...]:
        """See `Engine.images`."""
        await self.before("images")
        return tuple(image_of(image) for image in self._images.by_id.values())

    async def image(self, repotag: str) -> Image:
        """See `Engine.image`."""
        await self.before("image", repotag)
        return image_of(self._images.find(repotag))

    @asynccontextmanager
    async def pull(
        self, repotag: str, credentials: Credentials | None = None
    ) -> AsyncIterator[AsyncIterator[PullProgress]]:
        """See `Engine.pull`."""
        async with aclosing(self._pull(repotag, credentials)) as messages:
            yield messages

    async def remove_image(self, image: str) -> None:
        """See `Engine.remove_image`."""
        await self.before("remove_image", image)
        self._images.remove(image, self._used_images())
        self.done("remove_image", image)

    async def volumes(self) -> tuple[Volume, ...]:
        """See `Engine.volumes`."""
        await self.before("volumes")
        return tuple(self._volumes.values())

    async def remove_volume(self, name: str) -> None:
        """See `Engine.remove_volume`."""
        await self.before("remove_volume", name)
        self._remove_volume(name)
        self.done("remove_volume", name)

    # --- inside -------------------------------------------------------------------------------

    def _alive(self, name: str) -> MemoryContainer:
        found = self._find(name)
        if not found.is_alive:
            raise Conflict(f"container {found.name} is not running", remedy="start it first", status=409)
        return found

    async def _lines(
        self, container: MemoryContainer, start: Sequence[LogLine], *, follow: bool, timestamps: bool
    ) -> AsyncGenerator[LogLine, None]:
        told = container.written
        for line in start:
            yield line if timestamps else LogLine(line.stream, line.text)
        while follow:
            new = min(container.written - told, len(container.lines))
            told = container.written
            for _, line in list(container.lines)[len(container.lines) - new :]:
                yield line if timestamps else LogLine(line.stream, line.text)
            if container.written == told:
                if not container.is_alive:
                    return
                await self._news_of(container).wait()

    async def _samples(self, container: MemoryContainer) -> AsyncGenerator[Mapping[str, Any], None]:
        while container.name in self._containers:
            yield stats_of(container, self.clock.now_ms(), self.about.cpus)
            await trio.sleep(SAMPLE_S)

    async def _pull(
        self, repotag: str, credentials: Credentials | None
    ) -> AsyncGenerator[PullProgress, None]:
        await self.before("pull", repotag)
        for message in self._images.fetch(repotag, credentials):
            yield message
            await trio.lowlevel.checkpoint()
        self.done("pull", repotag)

    def _output(
        self, container: MemoryContainer, command: Sequence[str], environment: Sequence[str]
    ) -> bytes:
        if self._on_exec is not None:
            return self._on_exec(container.name, command)
        if command[:1] == ["echo"]:
            return f"{' '.join(command[1:])}\n".encode()
        if list(command) == ["env"]:
            return "".join(f"{entry}\n" for entry in (*container.environment, *environment)).encode()
        return b""


async def _once(output: bytes) -> AsyncGenerator[bytes, None]:
    await trio.lowlevel.checkpoint()
    if output:
        yield output
