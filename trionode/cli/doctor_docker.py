"""Checks of the container engine and of what is on it (docs/spec/lifecycle.md §12, §13)."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from trionode.cli.doctor_machine import listening_ports, proc_tables, some
from trionode.cli.doctor_patient import Patient
from trionode.cli.doctor_report import Finding, fail, ok, skip, warn
from trionode.cli.render import size
from trionode.containers.docker.engine import open_docker
from trionode.containers.engine import ContainerRow, Engine, EngineError, EngineInfo
from trionode.lifecycle.names import is_app_container
from trionode.registry.constants import Constants

LEAST_API = (1, 41)
USUAL_DRIVERS = frozenset({"overlay2", "overlayfs", "fuse-overlayfs"})
GB_BYTES = 10**9


async def docker(patient: Patient) -> Sequence[Finding]:
    """Reachable, new enough, well set up; nothing on it that restarts by itself or takes ports of apps."""
    hosting = patient.settings.hosting
    if hosting.engine == "none":
        return [skip("Docker", "this node hosts no apps (hosting.engine)")]
    async with open_docker(hosting.engine_url) as engine:
        try:
            about = await engine.info()
        except EngineError as error:
            remedy = error.remedy or (
                "start it (systemctl start docker), see that this user may use its socket, "
                "or set hosting.engine_url"
            )
            return [fail("Docker", error.message, remedy)]
        rows = await engine.containers()
        return [
            *_engine(about),
            await _restarts(engine, rows),
            await _app_ports(patient, rows),
        ]


def _engine(about: EngineInfo) -> list[Finding]:
    found = []
    evidence = f"version {about.version}, API {about.api_version}, {about.architecture}"
    if _version(about.api_version) < LEAST_API:
        found.append(fail("Docker", f"{evidence}: API 1.41 is needed", "install Docker 20.10 or newer"))
    else:
        found.append(ok("Docker", evidence))
    driver = about.storage_driver or "unknown"
    if driver in USUAL_DRIVERS:
        found.append(ok("storage driver", driver))
    else:
        remedy = "prefer overlay2 (daemon.json: storage-driver); changing it loses images and containers"
        found.append(warn("storage driver", f"{driver}: slower, and larger on disk", remedy))
    return found


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


async def _restarts(engine: Engine, rows: Sequence[ContainerRow]) -> Finding:
    """The engine must not start containers of apps by itself: they may run elsewhere by then."""
    name, ours = "restart policies", [row.name for row in rows if is_app_container(row.name)]
    found: list[str] = []

    async def look(container: str) -> None:
        details = await engine.inspect(container)
        host = details.document.get("HostConfig")
        policy = host.get("RestartPolicy") if isinstance(host, dict) else None
        text = policy.get("Name") if isinstance(policy, dict) else None
        if text not in (None, "", "no"):
            found.append(f"{container} ({text})")

    limiter = trio.CapacityLimiter(8)

    async def one(container: str) -> None:
        async with limiter:
            try:
                await look(container)
            except EngineError as error:
                found.append(f"{container} ({error.message})")

    async with trio.open_nursery() as nursery:
        for container in ours:
            nursery.start_soon(one, container)
    if found:
        evidence = f"started by Docker itself after a reboot: {some(sorted(found))}"
        return warn(name, evidence, "docker update --restart=no NAME for each of them")
    return ok(name, f"none on {len(ours)} containers of apps")


async def _app_ports(patient: Patient, rows: Sequence[ContainerRow]) -> Finding:
    """Programs of the machine on ports that apps may want."""
    settings = patient.settings
    constants = Constants(settings.registry, settings.economy, settings.explorer)
    chain = patient.status["chain"] if patient.status is not None else None
    least, most = constants.host_ports(chain["height"] if chain else constants.pon_height)
    published = {port.public for row in rows for port in row.ports}
    node = settings.node.api_port
    own = set(range(node - 5, node + 4))
    tables = await trio.to_thread.run_sync(proc_tables)
    taken = {
        port
        for port in listening_ports(tables)
        if least <= port <= most and port not in published | own and port not in constants.banned_ports
    }
    evidence = f"{least} to {most}, {len(published - {None})} used by containers"
    if taken:
        return ok(
            "app ports", f"{evidence}; apps stay away from {some(sorted(taken))}: other programs have them"
        )
    return ok("app ports", f"{evidence}, no other program in between")


async def machine_room(patient: Patient) -> Sequence[Finding]:
    """What running containers have to themselves (a running node only)."""
    if patient.settings.hosting.engine == "none" or not patient.is_running:
        return []
    usage = await patient.ask("/apps/fluxusage")
    taken = await patient.ask("/apps/appsresources")
    machine = usage["nodeSpecs"]
    evidence = (
        f"{usage['runningApps']} of {usage['totalApps']} apps run; they have "
        f"{taken['appsCpusLocked']:g} of {machine['cpuCores']} cores, "
        f"{size(taken['appsRamLocked'] * 2**20)} of {size(machine['ram'] * 2**20)}, "
        f"{size(taken['appsHddLocked'] * GB_BYTES)} of {size(machine['ssdStorage'] * GB_BYTES)}"
    )
    if usage["stoppedApps"]:
        return [warn("apps", evidence, "see `trionode containers ls` and `trionode containers plan`")]
    return [ok("apps", evidence)]
