"""A component in one form, whatever the version of its specification (docs/spec/registry.md §4).

Versions 1 to 3 describe one container in the specification itself, with names of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trionode.lifecycle.local import LAST_SINGLE_VERSION
from trionode.lifecycle.names import container_name, true_flags
from trionode.registry.coercion import num
from trionode.registry.hardware import RESOURCES
from trionode.wire.jsjson import truthy

TIER_SUFFIX = {"cumulus": "basic", "nimbus": "super", "stratus": "bamf"}
ENVIRONMENT_KEYS = ("environmentParameters", "enviromentParameters")
"""The second spelling is that of versions 1 to 3."""
SWITCHES = frozenset("grs")


class Part(msgspec.Struct, frozen=True):
    """One container of an app. `identifier` is `component_app`, or the app's name up to version 3."""

    app: str
    name: str
    identifier: str
    repotag: str = ""
    ports: tuple[int, ...] = ()
    container_ports: tuple[int, ...] = ()
    environment: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    container_data: str = ""
    cpu: float = 0
    ram_mb: float = 0
    hdd_gb: float = 0
    secrets: str = ""
    credentials: str = ""

    @property
    def container(self) -> str:
        return container_name(self.identifier)

    @property
    def flags(self) -> frozenset[str]:
        """Its true file sync flags."""
        return true_flags(self.container_data)

    def __repr__(self) -> str:
        # secrets and credentials must not reach a log through a printed value
        return f"Part({self.identifier!r}, {self.repotag!r})"


def parts_of(spec: Mapping[str, Any], tier: str | None = None) -> tuple[Part, ...] | None:
    """The components in order; None of an encrypted specification that is not opened.

    `tier` (cumulus, nimbus, stratus): a tiered component counts with the values of that tier.
    """
    name = spec.get("name")
    if not isinstance(name, str):
        return None
    if spec.get("version", 0) <= LAST_SINGLE_VERSION:
        return (part_of(spec, name, single=True, tier=tier),)
    compose = spec.get("compose")
    if not isinstance(compose, list) or not compose:
        return None
    return tuple(part_of(entry, name, single=False, tier=tier) for entry in compose)


def part_of(entry: Mapping[str, Any], app: str, *, single: bool, tier: str | None = None) -> Part:
    """One component; `single`: of a specification that describes one container."""
    name = str(entry.get("name", app))
    cpu, ram_mb, hdd_gb = (_resource(entry, resource, tier) for resource in RESOURCES)
    return Part(
        app=app,
        name=name,
        identifier=app if single else f"{name}_{app}",
        repotag=str(entry.get("repotag", "")),
        ports=_ports(entry, "ports", "port"),
        container_ports=_ports(entry, "containerPorts", "containerPort"),
        environment=environment_of(entry),
        commands=_texts(entry.get("commands")),
        container_data=str(entry.get("containerData", "")),
        cpu=cpu,
        ram_mb=ram_mb,
        hdd_gb=hdd_gb,
        secrets=str(entry.get("secrets") or ""),
        credentials=str(entry.get("repoauth") or ""),
    )


def environment_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The environment under either spelling of its name."""
    return next((_texts(entry[key]) for key in ENVIRONMENT_KEYS if entry.get(key)), ())


def is_encrypted(spec: Mapping[str, Any]) -> bool:
    """Whether the specification can be read only where it may be opened."""
    return truthy(spec.get("enterprise"))


def syncs_files(parts: Sequence[Part]) -> bool:
    """Whether any component has a true file sync flag (D-2)."""
    return any(part.flags & SWITCHES for part in parts)


def _resource(entry: Mapping[str, Any], resource: str, tier: str | None) -> float:
    own = entry.get(resource + TIER_SUFFIX[tier]) if tier is not None and entry.get("tiered") else None
    value = own if truthy(own) else entry.get(resource)
    return float(num(value)) if truthy(value) else 0.0


def _ports(entry: Mapping[str, Any], many: str, one: str) -> tuple[int, ...]:
    values = entry.get(many) if many in entry else [entry[one]] if one in entry else []
    return tuple(int(num(value)) for value in values or ())


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else ()
