"""Checks of the machine: data folder, store, ports, disk for apps (lifecycle.md §12, api.md §1.6)."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trio

from trionode.cli.doctor_patient import Patient
from trionode.cli.doctor_report import Finding, fail, failed_by, ok, skip, warn
from trionode.cli.preflight import check_data_dir, check_port
from trionode.cli.render import size
from trionode.cli.status_life import store_place, store_trouble
from trionode.config.paths import data_dir
from trionode.containers.machine.imagefiles import ImageFiles
from trionode.errors import StartupError, StoreAway
from trionode.plans.volumes import GB, place_for, reserve_gb, space_rules
from trionode.store.open import FILE_NAME, LOCAL_FILE_NAME, REGISTRY_FILE_NAME, is_mongo

LEAST_FREE_BYTES = 1 * GB
ENOUGH_FREE_BYTES = 5 * GB
VOLUME_TOOLS = ("fallocate", "mkfs.ext4", "losetup", "mount", "umount", "findmnt")
LOOP_CONTROL = Path("/dev/loop-control")
STORE_CHECK_S = 120.0
LISTENING = "0A"
SHOWN = 8


async def data_folder(patient: Patient) -> Sequence[Finding]:
    """Writable, and with room for what the node writes."""
    folder, name = data_dir(patient.settings), "data folder"
    there = await trio.to_thread.run_sync(_nearest, folder)
    if there == folder:
        try:
            await trio.to_thread.run_sync(check_data_dir, folder)
        except (StartupError, StoreAway) as error:
            return [failed_by(name, error)]
        evidence = f"{folder} is writable"
    elif os.access(there, os.W_OK | os.X_OK):
        evidence = f"{folder} is made at the first start"
    else:
        remedy = "set node.data_dir to a folder this user may write to"
        return [fail(name, f"{folder} cannot be made: {there} is not writable", remedy)]
    found = await trio.to_thread.run_sync(os.statvfs, there)
    free = found.f_bavail * found.f_frsize
    evidence += f", {size(free)} free"
    remedy = "free some space on its disk, or move it (node.data_dir)"
    if free < LEAST_FREE_BYTES:
        return [fail(name, evidence, remedy)]
    return [warn(name, evidence, remedy) if free < ENOUGH_FREE_BYTES else ok(name, evidence)]


def _nearest(folder: Path) -> Path:
    """The folder, or the one above it that is there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())


# ---- store ---------------------------------------------------------------------------------------------


async def store(patient: Patient) -> Sequence[Finding]:
    """The database: there, whole, answering."""
    settings, name = patient.settings.store, "store"
    said = patient.status["store"] if patient.status is not None else None
    if said is not None and not said["connected"]:
        return [fail(name, f"{store_place(said)} {store_trouble(said)}", said["remedy"])]
    if is_mongo(settings.url):
        return [await _mongo(patient, said)]
    if settings.url == "memory:":
        return [warn(name, "kept in memory: a restart forgets all of it", "set store.url to an empty text")]
    folder = data_dir(patient.settings)
    path = folder / (settings.url.removeprefix("sqlite:") or FILE_NAME)
    files = [path, path.with_name(REGISTRY_FILE_NAME), path.with_name(LOCAL_FILE_NAME)]
    there = [file for file in files if file.exists()]
    if not there:
        return [ok(name, f"no database in {path.parent} yet: the first start makes one")]
    problems: list[str] = []
    async with trio.open_nursery() as nursery:
        for file in there:
            nursery.start_soon(_quick_check, file, problems)
    total = sum(file.stat().st_size for file in there)
    if problems:
        return [fail(name, "; ".join(problems), "stop the node and move the file away: peers fill it again")]
    return [ok(name, f"{len(there)} SQLite files, {size(total)}, whole")]


async def _quick_check(path: Path, problems: list[str]) -> None:
    place = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(place, uri=True, check_same_thread=False)

    def check() -> None:
        try:
            rows = connection.execute("PRAGMA quick_check(1)").fetchall()
        except sqlite3.Error as error:
            problems.append(f"{path.name}: {error}")
        else:
            problems.extend(f"{path.name}: {row[0]}" for row in rows if row[0] != "ok")
        finally:
            connection.close()

    try:
        await trio.to_thread.run_sync(check, abandon_on_cancel=True)
    except trio.Cancelled:
        with suppress(sqlite3.ProgrammingError):  # it has just ended by itself
            connection.interrupt()
        raise


async def _mongo(patient: Patient, said: dict[str, Any] | None) -> Finding:
    """A running node says how its database is; else it is asked here."""
    if said is not None:
        return ok("store", f"{store_place(said)} answers the node")
    from trionode.store.mongo.checkup import check_mongo

    report = await check_mongo(patient.settings.store)
    if report.problems:
        return fail("store", f"{report.problems} problems in MongoDB", "see `trionode store check`")
    return ok("store", f"{report.name} answers, nothing wrong in it")


# ---- ports ---------------------------------------------------------------------------------------------


async def ports(patient: Patient) -> Sequence[Finding]:
    """The API's port and the two beside it: free, or ours."""
    settings = patient.settings
    node = settings.node
    if patient.foreign:
        return [
            fail(
                "API port",
                f"something else answers at {patient.api.url}",
                f"stop it (`ss -ltnp 'sport = :{patient.api.port}'` names it) or set node.api_port",
            )
        ]
    found: list[Finding] = []
    if patient.is_running:
        found.append(ok("API port", f"the node answers at {patient.api.url}"))
    else:
        found.append(await _free("API port", node.bind_host, node.api_port))
    if not settings.api.side_ports:
        return [*found, skip("side ports", "switched off (api.side_ports)")]
    for name, offset in (("home port", -1), ("sync port", 2)):
        port = node.api_port + offset
        if patient.is_running:
            found.append(_service_port(patient, name, port))
        else:
            found.append(await _free(name, node.bind_host, port))
    return found


async def _free(name: str, host: str, port: int) -> Finding:
    try:
        await trio.to_thread.run_sync(check_port, host, port)
    except StartupError as error:
        return fail(name, error.message, f"`ss -ltnp 'sport = :{port}'` names the program; {error.remedy}")
    return ok(name, f"{port} is free")


def _service_port(patient: Patient, name: str, port: int) -> Finding:
    assert patient.status is not None
    service = next((row for row in patient.status["services"] if row["name"] == name), None)
    if service is not None and service["state"] == "ready":
        return ok(name, f"the node listens on {port}")
    said = "not served" if service is None else service["lastError"] or service["state"]
    return fail(name, f"{port}: {said}", "other nodes take this one for broken without it: free the port")


def listening_ports(tables: Iterable[str]) -> set[int]:
    """Ports with a listener, from the text of /proc/net/tcp and tcp6."""
    found = set()
    for text in tables:
        for row in text.splitlines()[1:]:
            cells = row.split()
            if len(cells) > 3 and cells[3] == LISTENING:
                found.add(int(cells[1].rpartition(":")[2], 16))
    return found


def proc_tables() -> list[str]:
    """The kernel's tables of sockets."""
    paths = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    return [path.read_text("ascii") for path in paths if path.exists()]


def some(values: Iterable[object]) -> str:
    """A few of them as text."""
    texts = [str(value) for value in values]
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more


# ---- disk for apps -------------------------------------------------------------------------------------


def apps_dir(patient: Patient) -> Path:
    """Where the volumes of apps are mounted."""
    given = patient.settings.hosting.apps_dir
    return Path(given).expanduser() if given else data_dir(patient.settings) / "apps"


async def volumes(patient: Patient) -> Sequence[Finding]:
    """What is needed to make a volume: rights, tools, loop devices, room by the rules of the network."""
    if patient.settings.hosting.engine == "none":
        return [skip("volumes", "this node hosts no apps (hosting.engine)")]
    return await trio.to_thread.run_sync(_volumes, patient, abandon_on_cancel=True)


def _volumes(patient: Patient) -> list[Finding]:
    found: list[Finding] = []
    missing = [tool for tool in VOLUME_TOOLS if shutil.which(tool) is None]
    if missing:
        remedy = "install them: apt-get install e2fsprogs util-linux mount"
        found.append(fail("volume tools", f"missing: {', '.join(missing)}", remedy))
    else:
        found.append(ok("volume tools", ", ".join(VOLUME_TOOLS)))
    if os.geteuid() != 0:
        user = f"user id {os.geteuid()}"
        found.append(fail("rights", f"this is {user}; volumes are mounted by root", "run the node as root"))
    if not LOOP_CONTROL.exists():
        found.append(
            fail("loop devices", f"there is no {LOOP_CONTROL}", "load the kernel's module: modprobe loop")
        )
    elif os.geteuid() == 0 and not os.access(LOOP_CONTROL, os.R_OK | os.W_OK):
        found.append(fail("loop devices", f"{LOOP_CONTROL} cannot be opened", "run outside of a container"))
    else:
        found.append(ok("loop devices", f"{LOOP_CONTROL} is there"))
    return [*found, _room(patient)]


def _room(patient: Patient) -> Finding:
    name, remedy = "app disk", "free space, or add a disk: nothing can be installed here"
    rules = space_rules(patient.settings.resources)
    disks = ImageFiles(os.path.realpath(apps_dir(patient)), ()).data_volumes()
    if not disks:
        return fail(name, "no disk of this machine can hold volumes", remedy)
    free_gb, kept_gb = sum(disk.free_gb for disk in disks), reserve_gb(disks, rules)
    evidence = f"{free_gb} GB free on {some(disk.mount_point for disk in disks)}, {kept_gb:g} GB are kept"
    if place_for(1, disks, rules) is None:
        return fail(name, f"{evidence}: no room for a volume of 1 GB", remedy)
    return ok(name, evidence)
