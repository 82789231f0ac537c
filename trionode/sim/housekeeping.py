"""What a machine holds against what its table says: nothing may be missing, and nothing left over.

Judged from outside: by the table, the engine, the disk and the firewall themselves, and by what the owners
of the apps wanted; not by anything the node believes (docs/spec/lifecycle.md §12, §15, §16).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trionode.containers.install.records import InstallRecords
from trionode.containers.spawning.porttest import TEST_APP
from trionode.plans.networks import network_name
from trionode.sim.appspecs import AppPlan
from trionode.sim.machines import ContainerMachine

ENGINE_NETWORKS = frozenset({"bridge", "host", "none"})


async def untidy(
    box: ContainerMachine, apps: Mapping[str, AppPlan], ports: Mapping[str, Iterable[int]]
) -> list[str]:
    """Sentences about what is missing or left over. `apps`: all there ever were; `ports`: theirs."""
    rows = {row.name for row in await box.local.rows()}
    here = [apps[name] for name in sorted(rows)]
    containers = {name for plan in here for name in plan.containers}
    there = box.engine.everything()
    # a test of ports may be under way at any time; it listens as long as it has a port open
    tested = {port for port, app in box.firewall.open.items() if app == TEST_APP}
    opened = set(box.firewall.open) - (tested & box.listeners.open)
    found = [
        *_compared("container", there["container"], containers),
        *_compared("network", set(there["network"]) - ENGINE_NETWORKS, map(network_name, rows)),
        *_compared("anonymous volume", there["volume"], ()),
        *_compared("volume", box.disk.held, containers),
        *_compared("open port", opened, {port for name in rows for port in ports[name]}),
        *_left_over("listening port", box.listeners.open, tested),
        *_left_over("image", there["image"], {_tag(part.image) for plan in here for part in plan.parts}),
        *await _records(box, rows),
    ]
    found += [
        f"volume {volume.name} is not mounted for good"
        for volume in box.disk.held.values()
        if not (volume.is_mounted and volume.survives_reboot and volume.is_complete)
    ]
    return [f"{box.name}: {sentence}" for sentence in found]


async def _records(box: ContainerMachine, rows: set[str]) -> list[str]:
    records = InstallRecords(box.local)
    await records.load()
    found = [f"the record of {record.app} says {record.phase}" for record in records.unfinished()]
    return found + _compared("record", [record.app for record in records.all()], rows)


def _compared(what: str, there: Iterable[object], wanted: Iterable[object]) -> list[str]:
    there, wanted = set(there), set(wanted)
    missing = sorted(map(str, wanted - there))
    return [*_left_over(what, there, wanted), *(f"{what} {name} is missing" for name in missing)]


def _left_over(what: str, there: Iterable[object], wanted: Iterable[object]) -> list[str]:
    return [f"{what} {name} is left over" for name in sorted(map(str, set(there) - set(wanted)))]


def _tag(image: str) -> str:
    name = image.removeprefix("docker.io/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
