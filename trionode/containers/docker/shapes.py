"""The engine's JSON objects and how they become values of the port (docs/spec/lifecycle.md §13)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from trionode.containers.docker.answers import labels_of, time_ms
from trionode.containers.engine import (
    ContainerDetails,
    ContainerRow,
    EngineEvent,
    Image,
    Network,
    Port,
    PullProgress,
    Volume,
)

Labels = dict[str, str] | None
NS_PER_MS = 1_000_000


class _Port(msgspec.Struct, rename="pascal"):
    private_port: int = 0
    public_port: int | None = None
    type: str = "tcp"
    ip: str = msgspec.field(default="", name="IP")


class ListedContainer(msgspec.Struct, rename="pascal"):
    id: str
    names: list[str] | None = None
    image: str = ""
    image_id: str = msgspec.field(default="", name="ImageID")
    command: str = ""
    created: int = 0
    ports: list[_Port] | None = None
    labels: Labels = None
    state: str = ""
    status: str = ""

    def row(self) -> ContainerRow:
        return ContainerRow(
            id=self.id,
            name=_plain_name(self.names or [self.id]),
            image=self.image,
            image_id=self.image_id,
            command=self.command,
            created_s=self.created,
            ports=tuple(Port(p.private_port, p.public_port, p.type, p.ip) for p in self.ports or ()),
            labels=labels_of(self.labels),
            state=self.state,
            status=self.status,
        )


class _Health(msgspec.Struct, rename="pascal"):
    status: str = ""


class _State(msgspec.Struct, rename="pascal"):
    status: str = ""
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = msgspec.field(default=False, name="OOMKilled")
    health: _Health | None = None
    started_at: str | None = None
    finished_at: str | None = None


class _Policy(msgspec.Struct, rename="pascal"):
    name: str = ""


class _Host(msgspec.Struct, rename="pascal"):
    nano_cpus: int = 0
    restart_policy: _Policy | None = None

    @property
    def restarts(self) -> str:
        """Engines say nothing, or an empty name, for `no`."""
        return "no" if self.restart_policy is None else self.restart_policy.name or "no"


class _Config(msgspec.Struct, rename="pascal"):
    image: str = ""
    labels: Labels = None
    tty: bool = False


class _Ipam(msgspec.Struct, rename="pascal"):
    address: str = msgspec.field(default="", name="IPv4Address")


class _Endpoint(msgspec.Struct, rename="pascal"):
    address: str = msgspec.field(default="", name="IPAddress")
    config: _Ipam | None = msgspec.field(default=None, name="IPAMConfig")
    network_id: str = msgspec.field(default="", name="NetworkID")


class _NetworkSettings(msgspec.Struct, rename="pascal"):
    networks: dict[str, _Endpoint | None] | None = None


class _Mount(msgspec.Struct, rename="pascal"):
    source: str = ""
    name: str = ""


class InspectedContainer(msgspec.Struct, rename="pascal"):
    id: str
    name: str = ""
    image: str = ""
    state: _State = msgspec.field(default_factory=_State)
    host_config: _Host = msgspec.field(default_factory=_Host)
    config: _Config = msgspec.field(default_factory=_Config)
    network_settings: _NetworkSettings = msgspec.field(default_factory=_NetworkSettings)
    mounts: list[_Mount] | None = None

    def details(self, document: Mapping[str, Any]) -> ContainerDetails:
        state, networks = self.state, self.network_settings.networks or {}
        return ContainerDetails(
            id=self.id,
            name=self.name.removeprefix("/"),
            image=self.config.image,
            image_id=self.image,
            state=state.status,
            pid=state.pid,
            exit_code=state.exit_code,
            oom_killed=state.oom_killed,
            health="" if state.health is None or state.health.status == "none" else state.health.status,
            started_ms=time_ms(state.started_at),
            finished_ms=time_ms(state.finished_at),
            nano_cpus=self.host_config.nano_cpus,
            restarts=self.host_config.restarts,
            labels=labels_of(self.config.labels),
            addresses={name: _address(endpoint) for name, endpoint in networks.items()},
            network_ids={name: one.network_id if one else "" for name, one in networks.items()},
            mounts=tuple(mount.name or mount.source for mount in self.mounts or ()),
            document=document,
        )


class SizedContainer(msgspec.Struct, rename="pascal"):
    size_root_fs: int = 0


class _Pool(msgspec.Struct, rename="pascal"):
    subnet: str = ""
    gateway: str = ""


class _Pools(msgspec.Struct, rename="pascal"):
    config: list[_Pool] | None = None


class _Attached(msgspec.Struct, rename="pascal"):
    name: str = ""
    address: str = msgspec.field(default="", name="IPv4Address")


class ListedNetwork(msgspec.Struct, rename="pascal"):
    id: str
    name: str
    driver: str = ""
    ipam: _Pools | None = msgspec.field(default=None, name="IPAM")
    labels: Labels = None
    containers: dict[str, _Attached] | None = None

    def network(self) -> Network:
        pools = (self.ipam.config if self.ipam else None) or []
        pool = next((pool for pool in pools if "." in pool.subnet), _Pool())
        return Network(
            id=self.id,
            name=self.name,
            driver=self.driver,
            subnet=pool.subnet,
            gateway=pool.gateway.partition("/")[0],
            labels=labels_of(self.labels),
            endpoints={one.name: one.address.partition("/")[0] for one in (self.containers or {}).values()},
        )


class ListedImage(msgspec.Struct, rename="pascal"):
    id: str
    repo_tags: list[str] | None = None
    repo_digests: list[str] | None = None
    size: int = 0
    created: int | str | None = None
    architecture: str = ""
    labels: Labels = None
    config: _Config | None = None

    def image(self) -> Image:
        created = self.created
        return Image(
            id=self.id,
            tags=tuple(tag for tag in self.repo_tags or () if tag != "<none>:<none>"),
            digests=tuple(name for name in self.repo_digests or () if name != "<none>@<none>"),
            size_bytes=self.size,
            created_s=created if isinstance(created, int) else (time_ms(created) or 0) // 1000,
            architecture=self.architecture,
            labels=labels_of(self.labels or (self.config.labels if self.config else None)),
        )


class ListedVolume(msgspec.Struct, rename="pascal"):
    name: str
    labels: Labels = None

    def volume(self) -> Volume:
        return Volume(self.name, labels_of(self.labels))


class ListedVolumes(msgspec.Struct, rename="pascal"):
    volumes: list[ListedVolume] | None = None


class Created(msgspec.Struct, rename="pascal"):
    id: str


class About(msgspec.Struct, rename="pascal"):
    """Of the answer about the engine and its machine."""

    cpus: int = msgspec.field(default=0, name="NCPU")
    mem_total: int = 0
    driver: str = ""
    driver_status: list[list[str]] | None = None
    docker_root_dir: str = ""
    system_time: str = ""

    @property
    def is_on_xfs(self) -> bool:
        return ["Backing Filesystem", "xfs"] in (self.driver_status or [])


class AboutVersion(msgspec.Struct, rename="pascal"):
    version: str = ""
    api_version: str = ""
    arch: str = ""


class _Actor(msgspec.Struct, rename="pascal"):
    id: str = msgspec.field(default="", name="ID")
    attributes: dict[str, str] | None = None


class ToldEvent(msgspec.Struct):
    kind: str = msgspec.field(default="", name="Type")
    action: str = msgspec.field(default="", name="Action")
    actor: _Actor = msgspec.field(default_factory=_Actor, name="Actor")
    time_ns: int = msgspec.field(default=0, name="timeNano")

    def event(self) -> EngineEvent:
        attributes = dict(self.actor.attributes or {})
        # An action may have a colon and more: that of a health check its result.
        action, _, rest = self.action.partition(": ")
        if action == "health_status":
            attributes["health"] = rest
        named = self.kind in ("container", "network")
        code = attributes.get("exitCode", "")
        return EngineEvent(
            kind=self.kind,
            action=action,
            name=attributes.get("name", self.actor.id) if named else self.actor.id,
            attributes=attributes,
            at_ms=self.time_ns // NS_PER_MS,
            exit_code=int(code) if code.isdigit() and action == "die" else None,
        )


class _Part(msgspec.Struct):
    current: int | None = None
    total: int | None = None


class _Detail(msgspec.Struct):
    message: str = ""


class ToldProgress(msgspec.Struct):
    status: str = ""
    id: str = ""
    detail: _Part | None = msgspec.field(default=None, name="progressDetail")
    error: str = ""
    error_detail: _Detail | None = msgspec.field(default=None, name="errorDetail")

    @property
    def problem(self) -> str:
        return self.error or (self.error_detail.message if self.error_detail else "")

    def progress(self) -> PullProgress:
        part = self.detail or _Part()
        return PullProgress(self.status, self.id, part.current, part.total)


def _plain_name(names: list[str]) -> str:
    """A container's own name among those links gave it, which have a second slash."""
    own = next((name for name in names if "/" not in name[1:]), names[0])
    return own.removeprefix("/")


def _address(endpoint: _Endpoint | None) -> str:
    if endpoint is None:
        return ""
    return endpoint.address or (endpoint.config.address if endpoint.config else "")
