"""The machine under the engine twin: its containers, and what happens to them (lifecycle.md §13).

Everything here happens at once; `memory.MemoryEngine` is the port in front of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping
from typing import Literal

import trio

from trionode.containers.engine import Conflict, EngineError, LogLine, NotFound, Volume
from trionode.containers.memory.documents import stamp
from trionode.containers.memory.events import EventHub
from trionode.containers.memory.faults import Faults
from trionode.containers.memory.images import MemoryImages
from trionode.containers.memory.networks import MemoryNetworks
from trionode.containers.memory.objects import MemoryContainer, RegistryImage, digest_of
from trionode.plans import labels
from trionode.plans.createoptions import PROTOCOLS, CreateOptions
from trionode.runtime.clock import WallClock

FIRST_PID = 1000
KILLED = 137
"""Exit code of a container that was killed."""
NOT_STARTED = 128
"""Exit code of a container that could not be started."""
CUT = 255
"""Exit code of containers the engine finds dead when it starts."""


class MemoryMachine(Faults):
    """Containers, networks, images and volumes of one machine, and the faults ordered for it."""

    def __init__(self, clock: WallClock, seed: str, registry: MutableMapping[str, RegistryImage]) -> None:
        super().__init__(EventHub(clock))
        self.clock = clock
        self.registry = registry
        """What can be pulled: repotag -> image. May be shared by several engines and change at any time."""
        self.exits: dict[str, int] = {}
        """Containers that end as soon as they are started, with these exit codes."""
        self.busy_ports: set[int] = set()
        """Host ports that something else on the machine has."""
        self.missing_paths: set[str] = set()
        """Paths of the machine that are not there: containers that bind them cannot be created."""
        self._seed = seed
        self._made = 0
        self._pids = FIRST_PID
        self._containers: dict[str, MemoryContainer] = {}
        self._networks = MemoryNetworks(seed, self.hub)
        self._images = MemoryImages(registry, clock, self.hub)
        self._volumes: dict[str, Volume] = {}
        self._bound: dict[tuple[int, str], str] = {}
        self._told: dict[str, trio.Event] = {}

    # --- what happens to the machine ----------------------------------------------------------

    def crash(self, container: str, exit_code: int = 1, *, oom: bool = False) -> None:
        """A running container ends by itself."""
        found = self._find(container)
        if oom:
            self._tell(found, "oom")
        self._end(found, exit_code, oom=oom)

    def vanish(self, container: str) -> None:
        """Somebody removes a container by force behind the node's back."""
        self._remove(self._find(container), force=True, volumes=False)

    def set_health(self, container: str, health: Literal["", "starting", "healthy", "unhealthy"]) -> None:
        """The own check of a container comes to another result."""
        found = self._find(container)
        found.health = health
        self._tell(found, "health_status", health=health)

    def set_load(self, container: str, load: float) -> None:
        """It uses this share of its processors."""
        self._find(container).load = load

    def say(self, container: str, text: str, stream: Literal["stdout", "stderr"] = "stdout") -> None:
        """A container writes a line."""
        found = self._find(container)
        now_ms = self.clock.now_ms()
        found.lines.append((now_ms, LogLine(stream, text, stamp(now_ms))))
        found.written += 1
        self._wake(found)

    def power_cut(self) -> None:
        """The machine goes down and comes up: nothing runs any more, and nobody was told."""
        self._end_all(CUT)
        self.hub.interrupt()

    def restart_engine(self, *, live: bool = False) -> None:
        """The engine alone restarts: containers end with it, unless it is one that keeps them `live`."""
        if not live:
            self._end_all(0)
        self.hub.interrupt()

    def reaches(self, container: str, other: str) -> bool:
        """Whether one running container finds another by its name: they share a network."""
        one, two = self._containers.get(container), self._containers.get(other)
        if one is None or two is None or not (one.is_alive and two.is_alive):
            return False
        return any(name in two.networks and name != "bridge" for name in one.networks)

    @property
    def running_names(self) -> tuple[str, ...]:
        """Names of the containers that run."""
        return tuple(one.name for one in self._containers.values() if one.state == "running")

    @property
    def bound_ports(self) -> frozenset[int]:
        """Ports of the machine on which containers accept connections."""
        return frozenset(port for port, _ in self._bound)

    def everything(self) -> dict[str, tuple[str, ...]]:
        """Names of all there is, by kind, for a comparison of before and after."""
        return {
            "container": tuple(self._containers),
            "network": tuple(self._networks.by_name),
            "image": tuple(tag for image in self._images.by_id.values() for tag in image.tags),
            "volume": tuple(self._volumes),
        }

    # --- what the port does -------------------------------------------------------------------

    def _find(self, name: str) -> MemoryContainer:
        found = self._containers.get(name)
        if found is None:
            found = next((one for one in self._containers.values() if one.id.startswith(name)), None)
        if found is None:
            raise NotFound(f"no such container: {name}", remedy="install the app again", status=404)
        return found

    def _create(self, options: CreateOptions) -> str:
        image = self._images.find(options.image)
        if options.name in self._containers:
            raise Conflict(
                f"the container name {options.name} is already in use", remedy="remove it first", status=409
            )
        for bind in options.binds:
            if bind.source in self.missing_paths:
                raise EngineError(f"bind source path does not exist: {bind.source}", status=400)
        self._made += 1
        container_id = digest_of(self._seed, "container", self._made)
        volumes = tuple(digest_of(container_id, path) for path in image.source.volumes)
        for name in volumes:
            self._volumes[name] = Volume(name)
            self.hub.tell("volume", "create", name, {"driver": "local"})
        network = "bridge" if options.network in ("", "default") else options.network
        marks = {**image.source.labels, **dict(options.labels)}
        container = MemoryContainer(
            id=container_id,
            options=options,
            image=image,
            created_ms=self.clock.now_ms(),
            labels=marks | {labels.OWNER: options.app, labels.PART: options.identifier},
            networks={network: options.static_ip},
            volumes=volumes,
        )
        self._containers[options.name] = container
        self._tell(container, "create")
        return container_id

    def _start(self, container: MemoryContainer) -> None:
        if container.state == "running":
            return
        if container.state == "paused":
            raise Conflict(f"cannot start {container.name}, which is paused: unpause it", status=409)
        wanted = [(outside, protocol) for _, outside in container.options.ports for protocol in PROTOCOLS]
        try:
            self._must_be_free(container.name, wanted)
            self._networks.join_all(container)
        except EngineError:
            container.exit_code = NOT_STARTED
            raise
        self._bound |= dict.fromkeys(wanted, container.name)
        self._pids += 1
        container.state = "running"
        container.pid = self._pids
        container.started_ms = self.clock.now_ms()
        container.exit_code = 0
        container.oom_killed = False
        container.health = "starting" if container.health else ""
        self._tell(container, "start")
        if container.name in self.exits:
            self._end(container, self.exits[container.name])

    def _must_be_free(self, name: str, wanted: Iterable[tuple[int, str]]) -> None:
        for port, protocol in wanted:
            if (port, protocol) in self._bound or port in self.busy_ports:
                raise EngineError(
                    f"cannot start {name}: port {port}/{protocol} is already allocated",
                    remedy="free the port",
                    status=500,
                )

    def _stop(self, container: MemoryContainer, exit_code: int, action: str, signal: str) -> None:
        if not container.is_alive:
            return
        self._tell(container, "kill", signal=signal)
        if container.state == "paused":
            self._tell(container, "unpause")
        self._end(container, exit_code)
        if action != "kill":
            self._tell(container, action)

    def _pause(self, container: MemoryContainer) -> None:
        if container.state != "running":
            raise Conflict(f"cannot pause {container.name}, which is {container.state}", status=409)
        container.state = "paused"
        self._tell(container, "pause")

    def _unpause(self, container: MemoryContainer) -> None:
        if container.state != "paused":
            raise Conflict(f"cannot unpause {container.name}, which is not paused", status=409)
        container.state = "running"
        self._tell(container, "unpause")

    def _remove(self, container: MemoryContainer, *, force: bool, volumes: bool) -> None:
        if container.is_alive:
            if not force:
                raise Conflict(
                    f"cannot remove {container.name}, which is {container.state}: stop it first", status=409
                )
            self._stop(container, KILLED, "kill", "9")
        self._discard(container, volumes=volumes)

    def _remove_volume(self, name: str) -> None:
        if name not in self._volumes:
            raise NotFound(f"get {name}: no such volume", status=404)
        if any(name in container.volumes for container in self._containers.values()):
            raise Conflict(f"remove {name}: volume is in use", status=409)
        del self._volumes[name]
        self.hub.tell("volume", "destroy", name, {"driver": "local"})

    def _used_images(self) -> frozenset[str]:
        return frozenset(container.image.id for container in self._containers.values())

    def _news_of(self, container: MemoryContainer) -> trio.Event:
        """Set when it writes, ends or goes."""
        return self._told.setdefault(container.id, trio.Event())

    # --- inside -------------------------------------------------------------------------------

    def _end(self, container: MemoryContainer, exit_code: int, *, oom: bool = False) -> None:
        if not container.is_alive:
            return
        self._set_ended(container, exit_code, oom=oom)
        self._tell(container, "die", exit_code=exit_code)
        self._networks.leave_all(container)

    def _end_all(self, exit_code: int) -> None:
        for container in self._containers.values():
            if container.is_alive:
                self._set_ended(container, exit_code)
        self._networks.cut()

    def _set_ended(self, container: MemoryContainer, exit_code: int, *, oom: bool = False) -> None:
        container.state = "exited"
        container.pid = 0
        container.exit_code = exit_code
        container.oom_killed = oom
        container.finished_ms = self.clock.now_ms()
        for _, outside in container.options.ports:
            for protocol in PROTOCOLS:
                self._bound.pop((outside, protocol), None)
        self._wake(container)

    def _discard(self, container: MemoryContainer, *, volumes: bool) -> None:
        del self._containers[container.name]
        self._tell(container, "destroy")
        self._wake(container)
        if volumes:
            self._drop_volumes(container.volumes)

    def _drop_volumes(self, names: Collection[str]) -> None:
        for name in names:
            if self._volumes.pop(name, None) is not None:
                self.hub.tell("volume", "destroy", name, {"driver": "local"})

    def _tell(
        self, container: MemoryContainer, action: str, exit_code: int | None = None, **more: str
    ) -> None:
        if not self.hub.is_heard:
            return
        attributes: Mapping[str, str] = {
            **container.labels,
            "image": container.options.image,
            "name": container.name,
            **more,
        }
        if exit_code is not None:
            attributes = {**attributes, "exitCode": str(exit_code)}
        self.hub.tell("container", action, container.name, attributes, exit_code)

    def _wake(self, container: MemoryContainer) -> None:
        news = self._told.pop(container.id, None)
        if news is not None:
            news.set()
