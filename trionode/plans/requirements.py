"""Whether this machine may host an app: resources, place, address, kind of node.

Facts: docs/spec/lifecycle.md §11 (requirements). Asked before an install, a redeploy, and by the spawner.
What installed apps take is summed from their opened components, encrypted ones included (D-14).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from trionode.config.tree import ResourceSettings
from trionode.lifecycle.limits import Machine
from trionode.plans.parts import Part, parts_of
from trionode.wire.address import same_address

GEOLOCATION_VERSION = 5
TARGETS_VERSION = 7
DATACENTER_VERSION = 8
ENTERPRISE_SPARE_CORES = 4
ENTERPRISE_KEPT_CORES = 1


class Amount(msgspec.Struct, frozen=True):
    """CPU in cores, memory in MiB, disk in GB."""

    cpu: float = 0
    ram_mb: float = 0
    hdd_gb: float = 0


class Place(msgspec.Struct, frozen=True):
    """Where the node is: codes of continent and country, name of the region."""

    continent: str
    country: str
    region: str

    @property
    def names(self) -> tuple[str, str, str]:
        """CONT, CONT_CC, CONT_CC_REGION."""
        country = f"{self.continent}_{self.country}"
        return self.continent, country, f"{country}_{self.region}"


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What this node is. `collateral`: txhash:outidx. `tier`: cumulus, nimbus or stratus."""

    machine: Machine
    locked: Amount = Amount()
    address: str = ""
    collateral: str = ""
    tier: str | None = None
    place: Place | None = None
    has_static_ip: bool = False
    is_datacenter: bool = False
    is_enterprise: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """The app may not run here. `code` is for programs, `sentence` for people."""

    code: str
    sentence: str


def needs_of(parts: Sequence[Part]) -> Amount:
    """What all components take together."""
    return Amount(
        sum(part.cpu for part in parts),
        sum(part.ram_mb for part in parts),
        sum(part.hdd_gb for part in parts),
    )


def locked_by(apps: Iterable[Sequence[Part]], settings: ResourceSettings) -> Amount:
    """What installed apps take, with what each component takes besides its volume."""
    every = [part for parts in apps for part in parts]
    extra_gb = settings.component_hdd_gb + settings.component_swap_gb
    sums = needs_of(every)
    return Amount(sums.cpu, sums.ram_mb, sums.hdd_gb + extra_gb * len(every))


def refusal(
    spec: Mapping[str, Any], node: NodeFacts, settings: ResourceSettings, *, spawning: bool = False
) -> Refusal | None:
    """Why the app may not run here; None when it may.

    `spec` is opened. `spawning`: the spawner asks, which also minds the wish for a datacenter and what an
    enterprise node keeps free.
    """
    parts = parts_of(spec, node.tier)
    if parts is None:
        return Refusal("unreadable", "Its specification cannot be opened here.")
    return (
        _resources(needs_of(parts), node, settings)
        or _kind(spec, node, spawning=spawning)
        or _targets(spec, node)
        or _geolocation(spec, node)
        or (_headroom(needs_of(parts), node) if spawning and node.is_enterprise else None)
    )


def _resources(need: Amount, node: NodeFacts, settings: ResourceSettings) -> Refusal | None:
    machine, locked = node.machine, node.locked
    kept_gb = settings.locked_hdd_gb + settings.locked_extra_hdd_gb
    disk_gb = machine.ssd_gb * settings.usable_hdd_share - kept_gb - locked.hdd_gb
    cpu_tenths = machine.cores * 10 - settings.locked_cpu_tenths - locked.cpu * 10
    ram_mb = machine.ram_mb - settings.locked_ram_mb - locked.ram_mb
    rows = (
        ("disk", "GB", need.hdd_gb, disk_gb),
        ("cpu", "tenths of a core", need.cpu * 10, cpu_tenths),
        ("memory", "MiB", need.ram_mb, ram_mb),
    )
    for what, unit, wanted, free in rows:
        if wanted > free:
            return Refusal(what, f"It needs {wanted:g} {unit} of {what}, {max(free, 0):g} are free.")
    return None


def _kind(spec: Mapping[str, Any], node: NodeFacts, *, spawning: bool) -> Refusal | None:
    version = spec.get("version", 0)
    if version >= TARGETS_VERSION and spec.get("staticip") is True and not node.has_static_ip:
        return Refusal("static_ip", "It needs a node with a static address.")
    wants_datacenter = version >= DATACENTER_VERSION and spec.get("datacenter") is True
    if spawning and wants_datacenter and not node.is_datacenter:
        return Refusal("datacenter", "It needs a node in a datacenter.")
    return None


def _targets(spec: Mapping[str, Any], node: NodeFacts) -> Refusal | None:
    targets = spec.get("nodes") or ()
    if spec.get("version") != TARGETS_VERSION or not targets:
        return None
    if any(same_address(str(target), node.address) or target == node.collateral for target in targets):
        return None
    return Refusal("nodes", "It names the nodes it runs on, and this is none of them.")


def _geolocation(spec: Mapping[str, Any], node: NodeFacts) -> Refusal | None:
    entries = [str(entry) for entry in spec.get("geolocation") or ()]
    if spec.get("version", 0) < GEOLOCATION_VERSION or not entries:
        return None
    if node.place is None:
        return Refusal("geolocation", "Where this node is is not known.")
    return (
        None if fits_place(entries, node.place) else Refusal("geolocation", "It does not want this region.")
    )


def fits_place(entries: Sequence[str], place: Place) -> bool:
    """Whether a node at this place may host an app with these `geolocation` entries."""
    names = place.names
    forbidden = [entry.removeprefix("a!c") for entry in entries if entry.startswith("a!c")]
    allowed = [entry.removeprefix("ac") for entry in entries if entry.startswith("ac")]
    if any(entry in names for entry in forbidden):
        return False
    if allowed and not any(
        entry in (*names, "ALL", f"{names[0]}_ALL", f"{names[1]}_ALL") for entry in allowed
    ):
        return False
    countries = [entry.removeprefix("b") for entry in entries if entry.startswith("b")]
    if any(country != place.country for country in countries):
        return False
    if allowed or forbidden:
        return True
    continent = next((entry.removeprefix("a") for entry in entries if entry.startswith("a")), None)
    return continent is None or continent == place.continent


def _headroom(need: Amount, node: NodeFacts) -> Refusal | None:
    spare = node.machine.cores - ENTERPRISE_KEPT_CORES - node.locked.cpu - need.cpu
    if spare > ENTERPRISE_SPARE_CORES:
        return None
    return Refusal("headroom", "An enterprise node keeps more than 4 cores free.")
