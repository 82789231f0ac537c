"""How containers of the engine twin are listed and looked at, in the shapes of the engine's own JSON.

The figures are plausible and follow from the clock alone, so that a run can be repeated (lifecycle.md §13).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from trionode.containers.engine import ContainerDetails, ContainerRow, Port
from trionode.containers.memory.objects import MemoryContainer, MemoryNetwork
from trionode.plans.createoptions import PROTOCOLS, docker_body

NEVER = "0001-01-01T00:00:00Z"
NS_PER_MS = 1_000_000
PERIOD_NS = 1_000_000_000
_NO_LOAD: Mapping[str, Any] = {"cpu_usage": {"total_usage": 0, "usage_in_usermode": 0}, "throttling_data": {}}


def row_of(container: MemoryContainer, now_ms: int) -> ContainerRow:
    """A row of the list call."""
    return ContainerRow(
        id=container.id,
        name=container.name,
        image=container.options.image,
        image_id=container.image.id,
        command=" ".join(container.command),
        created_s=container.created_ms // 1000,
        ports=_ports(container) if container.is_alive else (),
        labels=container.labels,
        state=container.state,
        status=status_of(container, now_ms),
    )


def status_of(container: MemoryContainer, now_ms: int) -> str:
    """The engine's sentence about a state."""
    if container.is_alive and container.started_ms is not None:
        text = f"Up {_ago(now_ms - container.started_ms)}"
        if container.health:
            shown = "health: starting" if container.health == "starting" else container.health
            text += f" ({shown})"
        return f"{text} (Paused)" if container.state == "paused" else text
    if container.state == "created" or container.finished_ms is None:
        return "Created"
    return f"Exited ({container.exit_code}) {_ago(now_ms - container.finished_ms)} ago"


def details_of(container: MemoryContainer, networks: Mapping[str, MemoryNetwork]) -> ContainerDetails:
    """One container looked at."""
    addresses = container.addresses(networks)
    sources = tuple(bind.source for bind in container.options.binds)
    return ContainerDetails(
        id=container.id,
        name=container.name,
        image=container.options.image,
        image_id=container.image.id,
        state=container.state,
        pid=container.pid,
        exit_code=container.exit_code,
        oom_killed=container.oom_killed,
        health=container.health,
        started_ms=container.started_ms,
        finished_ms=container.finished_ms,
        nano_cpus=container.options.nano_cpus,
        restarts=container.restarts,
        labels=container.labels,
        addresses=addresses,
        network_ids={name: container.network_ids.get(name, "") for name in container.networks},
        mounts=sources + container.volumes,
        document=document_of(container, networks, addresses),
    )


def document_of(
    container: MemoryContainer, networks: Mapping[str, MemoryNetwork], addresses: Mapping[str, str]
) -> dict[str, Any]:
    """What the engine's inspect call answers."""
    body = docker_body(container.options)
    host = body.pop("HostConfig")
    # Sent in capitals and shown in small letters; engines read either.
    host["NanoCpus"] = host.pop("NanoCPUs")
    body.pop("NetworkingConfig", None)
    body.pop("name", None)
    command = container.command
    state: dict[str, Any] = {
        "Status": container.state,
        "Running": container.is_alive,
        "Paused": container.state == "paused",
        "Restarting": False,
        "OOMKilled": container.oom_killed,
        "Dead": container.state == "dead",
        "Pid": container.pid,
        "ExitCode": container.exit_code,
        "Error": "",
        "StartedAt": stamp(container.started_ms),
        "FinishedAt": stamp(container.finished_ms),
    }
    if container.health:
        state["Health"] = {"Status": container.health, "FailingStreak": 0, "Log": []}
    return {
        "Id": container.id,
        "Created": stamp(container.created_ms),
        "Path": command[0] if command else "",
        "Args": list(command[1:]),
        "State": state,
        "Image": container.image.id,
        "Name": f"/{container.name}",
        "RestartCount": 0,
        "HostConfig": host,
        "Mounts": [
            {"Type": "bind", "Source": bind.source, "Destination": bind.target, "Mode": "", "RW": True}
            for bind in container.options.binds
        ],
        "Config": body
        | {
            "Env": list(container.environment),
            "Cmd": list(container.options.command) or None,
            "Labels": dict(container.labels),
        },
        "NetworkSettings": {
            "Ports": host["PortBindings"] if container.is_alive else {},
            "Networks": {
                name: {
                    "IPAMConfig": {"IPv4Address": static} if static else None,
                    "NetworkID": container.network_ids.get(name, ""),
                    "Gateway": networks[name].gateway if name in networks and container.is_alive else "",
                    "IPAddress": addresses[name] if container.is_alive else "",
                }
                for name, static in container.networks.items()
            },
        },
    }


def stats_of(container: MemoryContainer, now_ms: int, cpus: int) -> dict[str, Any]:
    """One sample of its use; of one that does not run, an empty one."""
    sample: dict[str, Any] = {
        "id": container.id,
        "name": f"/{container.name}",
        "read": stamp(now_ms) if container.is_alive else NEVER,
        "preread": NEVER,
        "pids_stats": {},
        "blkio_stats": {"io_service_bytes_recursive": None},
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _NO_LOAD,
        "precpu_stats": _NO_LOAD,
        "memory_stats": {},
    }
    if not container.is_alive or container.started_ms is None:
        return sample
    ran_ns = max(now_ms - container.started_ms, 1000) * NS_PER_MS
    limit = container.options.memory_bytes or 1 << 30
    return sample | {
        "preread": stamp(now_ms - 1000),
        "pids_stats": {"current": 1},
        "cpu_stats": _cpu(container, ran_ns, now_ms, cpus),
        "precpu_stats": _cpu(container, ran_ns - PERIOD_NS, now_ms - 1000, cpus),
        "memory_stats": {"usage": limit // 4, "limit": limit, "stats": {"cache": 0, "inactive_file": 0}},
        "networks": {"eth0": {"rx_bytes": 1024, "rx_packets": 8, "tx_bytes": 1024, "tx_packets": 8}},
    }


def stamp(at_ms: int | None) -> str:
    """A time as the engine writes it."""
    if at_ms is None:
        return NEVER
    at = datetime.datetime.fromtimestamp(at_ms // 1000, datetime.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}000000Z"


def _cpu(container: MemoryContainer, ran_ns: int, now_ms: int, cpus: int) -> dict[str, Any]:
    used = int(ran_ns * container.load * (container.options.nano_cpus or PERIOD_NS) / PERIOD_NS)
    return {
        "cpu_usage": {"total_usage": used, "usage_in_kernelmode": 0, "usage_in_usermode": used},
        "system_cpu_usage": now_ms * NS_PER_MS * cpus,
        "online_cpus": cpus,
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


def _ports(container: MemoryContainer) -> tuple[Port, ...]:
    published = [
        Port(inside, outside, protocol, "0.0.0.0")
        for inside, outside in container.options.ports
        for protocol in PROTOCOLS
    ]
    inside_only = {outside for _, outside in container.options.ports} - {
        inside for inside, _ in container.options.ports
    }
    exposed = [Port(number, None, protocol) for number in sorted(inside_only) for protocol in PROTOCOLS]
    return (*published, *exposed)


def _ago(passed_ms: int) -> str:
    seconds = max(passed_ms, 0) // 1000
    for size, word in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {word}"
    return f"{seconds} seconds"
