"""A container to be created: in our words, and as the engine's API is told (docs/spec/lifecycle.md §13).

The original's containers are read by other tools, so the body is theirs to the letter; only the label that
says whose the container is comes on top, because nothing is ever pruned without it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from trionode.plans import labels
from trionode.plans.containerdata import Bind, binds, parse_container_data
from trionode.plans.logs import LogFile, LogShipping
from trionode.plans.networks import NetworkState, network_name, next_free_address
from trionode.plans.parts import Part
from trionode.wire.jsnumber import normal, number_text

MIB = 1 << 20
SWAP_MB = 2000
OPEN_FILES = 100_000
HOST_SERVICE = "fluxnode.service"
XFS_LIMIT_GB = 10
BURST_LABEL = "flux.burst.eligible"
PROTOCOLS = ("tcp", "udp")


class CreateOptions(msgspec.Struct, frozen=True):
    """One container. `ports` are (in the container, on the host)."""

    name: str
    app: str
    identifier: str
    image: str
    hostname: str
    network: str
    ports: tuple[tuple[int, int], ...] = ()
    environment: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    binds: tuple[Bind, ...] = ()
    nano_cpus: int = 0
    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    log: LogFile | LogShipping = LogFile()
    host_service_ip: str = ""
    static_ip: str | None = None
    disk_limit_gb: int | None = None

    def __repr__(self) -> str:
        # the environment may hold secrets
        return f"CreateOptions({self.name!r}, {self.image!r})"


def create_options(
    part: Part,
    identifiers: Sequence[str],
    *,
    environment: Sequence[str],
    command: Sequence[str],
    log: LogFile | LogShipping,
    network: NetworkState | None,
    apps_dir: str,
    host_service_ip: str,
    bursts: bool = False,
    disk_quota: bool = False,
) -> CreateOptions:
    """The container of a component. Raises PlanError when its `containerData` cannot be used.

    `identifiers`: of all components of the app in order. `bursts`: its owner may use spare CPU here.
    `disk_quota`: the engine keeps its images on xfs with project quotas.
    """
    data = parse_container_data(part.container_data)
    burst = ((BURST_LABEL, "true"), ("flux.burst.cores", _number(part.cpu))) if bursts else ()
    return CreateOptions(
        name=part.container,
        app=part.app,
        identifier=part.identifier,
        image=part.repotag,
        hostname=part.name,
        network=network_name(part.app),
        ports=tuple(zip(part.container_ports, part.ports, strict=True)),
        environment=tuple(environment),
        command=tuple(command),
        binds=binds(data, identifiers, identifiers.index(part.identifier), apps_dir),
        nano_cpus=math.floor(part.cpu * 1e9 + 0.5),
        memory_bytes=round(part.ram_mb * MIB),
        memory_swap_bytes=round((part.ram_mb + SWAP_MB) * MIB),
        labels=burst + (log.labels if isinstance(log, LogShipping) else ()),
        log=log,
        host_service_ip=host_service_ip,
        static_ip=next_free_address(network),
        disk_limit_gb=XFS_LIMIT_GB if disk_quota else None,
    )


def may_burst(owner: object, enterprise_owners: Collection[str], *, supported: bool) -> bool:
    """Whether containers of this owner may use more CPU than they pay for while it is idle."""
    return supported and owner in enterprise_owners


def burst_us(cpu: float, usable_cores: float, period_us: int) -> int:
    """Microseconds per period beyond its quota: at most as much again, and what the host keeps is kept."""
    quota_us = cpu * period_us
    return int(min(quota_us, usable_cores * period_us - quota_us))


def docker_body(options: CreateOptions, *, owned: bool = True) -> dict[str, Any]:
    """The body of the engine's create call; `owned`: with the labels that say whose it is."""
    marks = dict(options.labels)
    if owned:
        marks |= {labels.OWNER: options.app, labels.PART: options.identifier}
    body: dict[str, Any] = {
        "Image": options.image,
        "name": options.name,
        "Hostname": options.hostname,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Cmd": list(options.command),
        "Env": list(options.environment),
        "Tty": False,
        "ExposedPorts": _exposed(options),
        "HostConfig": _host_config(options),
    }
    if marks:
        body["Labels"] = marks
    if options.static_ip is not None:
        address = {"IPAMConfig": {"IPv4Address": options.static_ip}}
        body["NetworkingConfig"] = {"EndpointsConfig": {options.network: address}}
    return body


def _host_config(options: CreateOptions) -> dict[str, Any]:
    config: dict[str, Any] = {
        "NanoCPUs": options.nano_cpus,
        "Memory": options.memory_bytes,
        "MemorySwap": options.memory_swap_bytes,
        "Mounts": [_mount(bind) for bind in options.binds],
        "Ulimits": [{"Name": "nofile", "Soft": OPEN_FILES, "Hard": OPEN_FILES}],
        "PortBindings": _bindings(options),
        "RestartPolicy": {"Name": "no"},
        "NetworkMode": options.network,
        "LogConfig": options.log.config(),
        "ExtraHosts": [f"{HOST_SERVICE}:{options.host_service_ip}"],
    }
    if options.disk_limit_gb is not None:
        config["StorageOpt"] = {"size": f"{options.disk_limit_gb}G"}
    return config


def _mount(bind: Bind) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": bind.source,
        "Target": bind.target,
        "ReadOnly": False,
        "BindOptions": {"Propagation": "rprivate"},
    }


def _exposed(options: CreateOptions) -> Mapping[str, Any]:
    numbers = [port for _, port in options.ports] + [port for port, _ in options.ports]
    return {f"{number}/{protocol}": {} for number in numbers for protocol in PROTOCOLS}


def _bindings(options: CreateOptions) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for inside, outside in options.ports:
        for protocol in PROTOCOLS:
            found.setdefault(f"{inside}/{protocol}", []).append({"HostPort": str(outside)})
    return found


def _number(value: float) -> str:
    return number_text(normal(value))
