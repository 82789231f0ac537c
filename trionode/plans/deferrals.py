"""Why an app is left to better suited nodes for a while (docs/spec/lifecycle.md §11, step 10).

A node with a rare quality waits before it takes an app that does not ask for it; the table says how long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from trionode.config.tree import SpawnerSettings
from trionode.plans.parts import is_encrypted, parts_of
from trionode.plans.requirements import Amount, needs_of
from trionode.wire.address import same_address

IN_WORDS = {
    "targeted_nodes": "it names other nodes",
    "non_enterprise_on_arcane": "it needs no hardened node",
    "static_ip": "it needs no static address",
    "datacenter": "it needs no data center",
    "capacity_gap_large": "it is small for this node",
    "capacity_gap_medium": "it is small for this node",
    "capacity_gap_small": "it is small for this node",
    "peers": "a node to sync files with could not be reached",
}
"""Reason of a deferral -> why the app is left to others. `peers` is that of `plans.spawn`."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of node this is. `tier`: cumulus, nimbus or stratus."""

    address: str
    tier: str | None = None
    enterprise: bool = False
    arcane: bool = False
    static_ip: bool = False
    datacenter: bool = False


class Case(msgspec.Struct, frozen=True):
    """An app on a node."""

    kind: Kind
    spec: Mapping[str, Any]
    need: Amount

    @property
    def encrypted(self) -> bool:
        return is_encrypted(self.spec)

    @property
    def targets(self) -> Sequence[str]:
        return [str(node) for node in self.spec.get("nodes") or ()]

    @property
    def targets_us(self) -> bool:
        return any(same_address(node, self.kind.address) for node in self.targets)

    def is_small(self, tier: str, cpu: float, ram_mb: float, hdd_gb: float) -> bool:
        """Whether it names no nodes and is this small for a node of that tier."""
        need, fits = self.need, self.kind.tier == tier and not self.targets
        return fits and need.cpu < cpu and need.ram_mb < ram_mb and need.hdd_gb < hdd_gb


class Deferral(msgspec.Struct, frozen=True):
    """One row: the first that applies is the one. The delays are names of settings."""

    reason: str
    applies: Callable[[Case], bool]
    plain: str
    encrypted: str


def _ordinary(applies: Callable[[Case], bool]) -> Callable[[Case], bool]:
    return lambda case: not case.kind.enterprise and applies(case)


TABLE = (
    Deferral(
        "targeted_nodes",
        lambda case: bool(case.targets) and not case.targets_us,
        "defer_targeted_s",
        "defer_targeted_encrypted_s",
    ),
    Deferral(
        "non_enterprise_on_arcane",
        _ordinary(lambda case: case.kind.arcane and not case.encrypted),
        "defer_plain_on_arcane_s",
        "defer_plain_on_arcane_s",
    ),
    Deferral(
        "static_ip",
        _ordinary(lambda case: case.kind.static_ip and case.spec.get("staticip") is not True),
        "defer_static_ip_s",
        "defer_static_ip_encrypted_s",
    ),
    Deferral(
        "datacenter",
        _ordinary(lambda case: case.kind.datacenter and case.spec.get("datacenter") is not True),
        "defer_datacenter_s",
        "defer_datacenter_encrypted_s",
    ),
    Deferral(
        "capacity_gap_large",
        _ordinary(lambda case: case.is_small("stratus", 3, 6_000, 150)),
        "defer_gap_large_s",
        "defer_gap_large_encrypted_s",
    ),
    Deferral(
        "capacity_gap_medium",
        _ordinary(lambda case: case.is_small("stratus", 7, 29_000, 370)),
        "defer_gap_medium_s",
        "defer_gap_medium_encrypted_s",
    ),
    Deferral(
        "capacity_gap_small",
        _ordinary(lambda case: case.is_small("nimbus", 3, 6_000, 150)),
        "defer_gap_small_s",
        "defer_gap_small_encrypted_s",
    ),
)


def find_deferral(spec: Mapping[str, Any], kind: Kind, settings: SpawnerSettings) -> tuple[str, float] | None:
    """(reason, seconds) if the app is to be left to others for now."""
    case = Case(kind, spec, needs_of(parts_of(spec, kind.tier) or ()))
    for row in TABLE:
        if row.applies(case):
            return row.reason, float(getattr(settings, row.encrypted if case.encrypted else row.plain))
    return None
