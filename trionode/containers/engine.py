"""The container engine as a port, in our words (docs/spec/lifecycle.md §13).

Implementations: `containers.docker.engine` (aiodocker), `containers.memory.engine` (simulator, tests). Names
of containers have no leading slash. Every method raises EngineError: NotFound, Conflict, EngineUnreachable,
or itself.
Whoever waits sets the time limits; an engine that is silent for ten minutes is away in any case. A cancelled
call may or may not have taken effect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

import msgspec

from trionode.errors import HostError
from trionode.plans.createoptions import CreateOptions
from trionode.plans.networks import Subnet

CHANGES_BYTES = 4 << 20
"""The longest list of changed files that is read."""


class EngineError(HostError):
    """The engine refused. `status`: its HTTP status, None when there was none."""

    code = "engine"

    def __init__(self, message: str, *, remedy: str = "", status: int | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class NotFound(EngineError):
    """There is no such container, image, network or volume."""

    code = "engine_not_found"


class Conflict(EngineError):
    """The name is taken, or the object is in use or in a state that does not allow it."""

    code = "engine_conflict"


class EngineUnreachable(EngineError):
    """The engine does not answer at all: not started, restarting, or no permission."""

    code = "engine_unreachable"


class EngineFull(EngineError):
    """The disk of the engine is full: nothing can be made on it, whatever it is."""

    code = "engine_full"


class EngineInfo(msgspec.Struct, frozen=True):
    """What the engine is. `architecture`: amd64, arm64, ... `disk_quota`: xfs with project quotas."""

    version: str
    api_version: str
    architecture: str
    cpus: int
    memory_bytes: int
    storage_driver: str = ""
    disk_quota: bool = False
    root: str = ""


class Port(msgspec.Struct, frozen=True):
    """A published port as the engine lists it."""

    private: int
    public: int | None = None
    protocol: str = "tcp"
    ip: str = ""


class ContainerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the one list call. `state`: running, exited, created, paused, restarting, dead.

    `status` is the engine's sentence ("Up 5 minutes (unhealthy)"), `created_s` Unix time in seconds.
    """

    id: str
    name: str
    image: str
    image_id: str
    command: str = ""
    created_s: int = 0
    ports: tuple[Port, ...] = ()
    labels: Mapping[str, str] = {}
    state: str
    status: str = ""

    @property
    def is_unhealthy(self) -> bool:
        """Its own health check fails."""
        return "(unhealthy)" in self.status


class ContainerDetails(msgspec.Struct, frozen=True, kw_only=True):
    """One container looked at. Times are Unix milliseconds, None before the first.

    `addresses`: every network it is attached to -> its IPv4 address there; while it does not run the one set
    for it, else "". `network_ids`: the same networks -> the id it was last attached to, "" before that; it
    starts in none of the same name with another id. `mounts`: host paths and names of volumes. `health`:
    starting, healthy, unhealthy, "" of one without a check. `document`: the engine's own JSON, for answers of
    the API only; its environment is secret.
    """

    id: str
    name: str
    image: str
    image_id: str
    state: str
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    health: str = ""
    started_ms: int | None = None
    finished_ms: int | None = None
    nano_cpus: int = 0
    restarts: str = "no"
    labels: Mapping[str, str] = {}
    addresses: Mapping[str, str] = {}
    network_ids: Mapping[str, str] = {}
    mounts: tuple[str, ...] = ()
    document: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        # the document holds the environment
        return f"ContainerDetails({self.name!r}, {self.state!r})"


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network. `endpoints`: container name -> IPv4 address, of attached (running) containers."""

    id: str
    name: str
    driver: str = "bridge"
    subnet: str = ""
    gateway: str = ""
    labels: Mapping[str, str] = {}
    endpoints: Mapping[str, str] = {}


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A local image. `digests`: `repository@sha256:...` as pulled."""

    id: str
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    size_bytes: int = 0
    created_s: int = 0
    architecture: str = ""
    labels: Mapping[str, str] = {}


class Volume(msgspec.Struct, frozen=True):
    """A named volume of the engine (apps have none; leftovers of images that declare one)."""

    name: str
    labels: Mapping[str, str] = {}


class Credentials(msgspec.Struct, frozen=True):
    """Login at an image registry."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(...)"


class PullProgress(msgspec.Struct, frozen=True):
    """One message while an image is fetched. `layer` is empty for messages about the whole image."""

    status: str
    layer: str = ""
    done_bytes: int | None = None
    total_bytes: int | None = None


class LogLine(msgspec.Struct, frozen=True):
    """One line a container wrote, without its newline. `at`: RFC 3339 when timestamps were asked for."""

    stream: Literal["stdout", "stderr"]
    text: str
    at: str = ""


class EngineEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in the engine.

    `kind`: container, network, image, volume. `action`: create, start, kill, die, oom, stop, pause, unpause,
    destroy, health_status (its result is `attributes["health"]`), connect, disconnect, pull, tag, untag,
    delete. `attributes` of a container: its labels, `name`, `image`; of a connect: `container` (its id).
    `exit_code` comes with die. `lost`: the stream was interrupted, `away_s` ago, and some may be missing; the
    other members are empty then.
    """

    kind: str = ""
    action: str = ""
    name: str = ""
    attributes: Mapping[str, str] = {}
    at_ms: int = 0
    exit_code: int | None = None
    lost: bool = False
    away_s: float = 0.0


class Engine(Protocol):
    """The engine of this machine."""

    async def info(self) -> EngineInfo: ...

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[EngineEvent]]:
        """From the moment the block is entered, for as long as it is open.

        The stream survives a restart of the engine: it waits until it answers again, and then yields one
        event with `lost` set. Entering raises nothing when the engine is away; it waits inside the block.
        Read it promptly: an engine waits for slow readers, and in the end drops events without a word.
        """
        ...

    # Containers

    async def containers(self) -> tuple[ContainerRow, ...]:
        """All of them, in any state, by one call."""
        ...

    async def inspect(self, container: str) -> ContainerDetails: ...

    async def create(self, options: CreateOptions) -> str:
        """Create a container, labelled with whose it is; its id. Conflict when the name is taken."""
        ...

    async def start(self, container: str) -> None:
        """One that runs already stays as it is."""
        ...

    async def stop(self, container: str, grace_s: float) -> None:
        """Ask it to stop; killed after the grace. One that does not run stays as it is."""
        ...

    async def kill(self, container: str) -> None:
        """End it at once. One that does not run stays as it is."""
        ...

    async def pause(self, container: str) -> None: ...

    async def unpause(self, container: str) -> None: ...

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """`force`: even while it runs. `volumes`: its anonymous volumes too."""
        ...

    async def never_restart(self, container: str) -> None:
        """From now on the engine does not start it by itself (restart policy `no`)."""
        ...

    async def root_bytes(self, container: str) -> int:
        """What its root file system holds, its image included; volumes are not part of it."""
        ...

    async def top(self, container: str) -> Mapping[str, Any]:
        """{Titles, Processes} of a running one."""
        ...

    async def changes(self, container: str) -> Sequence[Mapping[str, Any]]:
        """[{Path, Kind}] against its image; EngineError when they take more than CHANGES_BYTES."""
        ...

    def logs(
        self,
        container: str,
        *,
        lines: int | None = None,
        since_s: float | None = None,
        follow: bool = False,
        timestamps: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """What it wrote: the last `lines` (None: all) since a Unix time; then what follows, if asked."""
        ...

    async def stats(self, container: str) -> Mapping[str, Any]:
        """One sample in the engine's JSON."""
        ...

    def stats_stream(self, container: str) -> AbstractAsyncContextManager[AsyncIterator[Mapping[str, Any]]]:
        """About one sample a second while the block is open."""
        ...

    def exec(
        self, container: str, command: Sequence[str], environment: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Run a command in a running container; its output (both streams) as it comes.

        Conflict when it does not run. A command that cannot be run says so in its output. Leaving the block
        early does not end the command.
        """
        ...

    # Networks

    async def networks(self) -> tuple[Network, ...]:
        """All networks; `endpoints` may be empty here."""
        ...

    async def network(self, name: str) -> Network:
        """One network with its endpoints."""
        ...

    async def create_network(self, name: str, subnet: Subnet, app: str) -> None:
        """A labelled bridge network. Conflict: the name is taken, or the subnet overlaps with another."""
        ...

    async def remove_network(self, name: str) -> None:
        """Conflict while containers are attached."""
        ...

    async def connect(self, container: str, network: str) -> None:
        """Conflict when it runs and is attached already.

        Of one that does not run nothing is said, not even that the network is missing: its start fails.
        """
        ...

    async def disconnect(self, container: str, network: str, *, force: bool = False) -> None:
        """Conflict when it is not attached."""
        ...

    # Images and volumes

    async def images(self) -> tuple[Image, ...]: ...

    async def image(self, repotag: str) -> Image:
        """By tag or id. NotFound when it is not here."""
        ...

    def pull(
        self, repotag: str, credentials: Credentials | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[PullProgress]]:
        """Fetch an image: iterate to the end. An error told in the stream is raised as EngineError."""
        ...

    async def remove_image(self, image: str) -> None:
        """Conflict while a container uses it."""
        ...

    async def volumes(self) -> tuple[Volume, ...]: ...

    async def remove_volume(self, name: str) -> None: ...
