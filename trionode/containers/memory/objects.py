"""What the engine twin holds: containers, networks, images, and what registries offer (lifecycle.md §13)."""

from __future__ import annotations

import hashlib
import ipaddress
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from trionode.containers.engine import Credentials, LogLine
from trionode.plans.createoptions import CreateOptions

LINES_KEPT = 500
"""Of the output of one container."""
ALIVE = frozenset({"running", "paused"})
MIB = 1 << 20

State = Literal["created", "running", "paused", "restarting", "exited", "dead"]


class RegistryImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image as a registry offers it. `volumes`: paths it declares; `command`: what it runs by itself.

    `digest` "" is one made of the name. `credentials`: without them it cannot be fetched.
    """

    digest: str = ""
    size_bytes: int = 10 * MIB
    architecture: str = "amd64"
    credentials: Credentials | None = None
    layers: int = 2
    command: tuple[str, ...] = ("/app",)
    environment: tuple[str, ...] = ("PATH=/bin",)
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}

    def digest_for(self, repotag: str) -> str:
        """`sha256:...` of its manifest."""
        return self.digest or f"sha256:{digest_of(repotag)}"


@dataclass(slots=True)
class LocalImage:
    """An image that was pulled."""

    id: str
    source: RegistryImage
    tags: list[str]
    digests: list[str]
    created_s: int


@dataclass(slots=True)
class MemoryNetwork:
    """A network with what is attached to it now: container name -> address."""

    id: str
    name: str
    driver: str = "bridge"
    subnet: ipaddress.IPv4Network | None = None
    gateway: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)

    def free_address(self, wanted: str | None) -> str | None:
        """The wanted address, else the lowest free one; None when it is taken, foreign, or none is left."""
        if self.subnet is None:
            return ""
        taken = {self.gateway, *self.endpoints.values()}
        if wanted is not None:
            return wanted if wanted not in taken and ipaddress.IPv4Address(wanted) in self.subnet else None
        return next((found for host in self.subnet.hosts() if (found := str(host)) not in taken), None)


@dataclass(slots=True)
class MemoryContainer:
    """One container. `networks`: name -> the static address asked for, None: any.

    `network_ids`: name -> the network it was last attached to. It starts in that very network or not at all:
    one made anew under the same name is another one, until it is connected again.
    """

    id: str
    options: CreateOptions
    image: LocalImage
    created_ms: int
    labels: Mapping[str, str]
    networks: dict[str, str | None]
    network_ids: dict[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    state: State = "created"
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    health: str = ""
    started_ms: int | None = None
    finished_ms: int | None = None
    restarts: str = "no"
    written_bytes: int = 0
    """What it has written outside its volumes."""
    load: float = 0.1
    """Share of its processors that it uses."""
    lines: deque[tuple[int, LogLine]] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))
    written: int = 0
    """Lines ever written: the number of the next one."""

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def is_alive(self) -> bool:
        """It runs or is paused."""
        return self.state in ALIVE

    @property
    def environment(self) -> tuple[str, ...]:
        return (*self.options.environment, *self.image.source.environment)

    @property
    def command(self) -> tuple[str, ...]:
        return self.options.command or self.image.source.command

    def addresses(self, networks: Mapping[str, MemoryNetwork]) -> dict[str, str]:
        """Network -> address: the one it has, else the one set for it, else ""."""
        found = {}
        for name, static in self.networks.items():
            network = networks.get(name)
            found[name] = (network.endpoints.get(self.name) if network else None) or static or ""
        return found


def digest_of(*parts: object) -> str:
    """64 hexadecimal digits that follow from the parts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def familiar(repotag: str) -> str:
    """The short form engines list images by: no docker.io, no library/, `latest` written out."""
    name = repotag.removeprefix("docker.io/").removeprefix("index.docker.io/").removeprefix("library/")
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"


def repository_of(repotag: str) -> str:
    """`host/name` of `host/name:tag` and of `host/name@sha256:...`."""
    name = repotag.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def overlapping(subnet: ipaddress.IPv4Network, networks: Iterable[MemoryNetwork]) -> MemoryNetwork | None:
    """The first network that shares addresses with a subnet."""
    for network in networks:
        if network.subnet is not None and network.subnet.overlaps(subnet):
            return network
    return None
