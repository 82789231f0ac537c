"""What there is of an app on this machine, from everything that knows (docs/spec/lifecycle.md §15, D-14).

Its opened specification, its record, the engine's list and the volumes each know a part: an app whose
specification cannot be opened, or that has no row any more, is found and removed all the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from trionode.containers.engine import ContainerRow
from trionode.containers.install.records import AppRecord, PartRecord, records_of
from trionode.containers.install.workbench import Workbench
from trionode.errors import HostError
from trionode.lifecycle.names import container_name, containers_of
from trionode.plans import labels
from trionode.plans.networks import network_name
from trionode.plans.parts import parts_of


class Trace(msgspec.Struct, frozen=True):
    """One component. `image_id`: of its container, "" when it has none."""

    container: str
    image: str = ""
    image_id: str = ""
    ports: tuple[int, ...] = ()
    is_container: bool = False


class Traces(msgspec.Struct, frozen=True):
    """All of an app in order of its specification; `problems`: who could not be asked."""

    parts: tuple[Trace, ...]
    has_network: bool = False
    problems: tuple[str, ...] = ()


async def record_of(bench: Workbench, app: str, *, anywhere: bool = False) -> AppRecord | None:
    """The record of an app, or what would be in it. `anywhere`: by the specification in force as well."""
    record = bench.records.get(app)
    parts = records_of(bench.installed.parts(app))
    if not parts and record is None and anywhere and bench.installed.get(app) is None:
        spec = await bench.specs.in_force(app)
        parts = records_of((parts_of(spec) if spec is not None else None) or ())
    if record is None:
        return AppRecord(app, "installed", parts) if parts or bench.installed.get(app) else None
    return msgspec.structs.replace(record, parts=_merged(record.parts, parts))


async def traces_of(bench: Workbench, app: str, *, anywhere: bool = False) -> Traces:
    """Everything there is of an app."""
    record = await record_of(bench, app, anywhere=anywhere)
    problems: list[str] = []
    found = {
        container_name(part.identifier): Trace(container_name(part.identifier), part.image, ports=part.ports)
        for part in (record.parts if record is not None else ())
    }
    rows: tuple[ContainerRow, ...] = ()
    networks: frozenset[str] = frozenset()
    try:
        rows = await bench.engine.containers()
        networks = frozenset(network.name for network in await bench.engine.networks())
    except HostError as error:
        problems.append(f"containers: {error.message}")
    named = frozenset(containers_of(app, [row.name for row in rows]))
    for row in rows:
        if row.name in named | found.keys() or row.labels.get(labels.OWNER) == app:
            found[row.name] = _seen(found.get(row.name), row)
    try:
        volumes = [volume.name for volume in await bench.disk.volumes()]
    except HostError as error:
        problems.append(f"volumes: {error.message}")
        volumes = []
    for name in containers_of(app, volumes):
        found.setdefault(name, Trace(name))
    return Traces(tuple(found.values()), network_name(app) in networks, tuple(problems))


def _seen(known: Trace | None, row: ContainerRow) -> Trace:
    trace = known if known is not None else Trace(row.name)
    listed = tuple(port.public for port in row.ports if port.public is not None)
    return Trace(
        row.name,
        trace.image or ("" if row.image == row.image_id else row.image),
        row.image_id,
        tuple(dict.fromkeys((*trace.ports, *listed))),
        is_container=True,
    )


def _merged(left: Iterable[PartRecord], right: Iterable[PartRecord]) -> tuple[PartRecord, ...]:
    """By identifier; what only one side knows is kept, ports of both."""
    found = {part.identifier: part for part in left}
    for part in right:
        known = found.get(part.identifier)
        ports = part.ports if known is None else tuple(dict.fromkeys((*part.ports, *known.ports)))
        found[part.identifier] = PartRecord(part.identifier, part.image, ports)
    return tuple(found.values())
