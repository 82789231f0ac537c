"""Stage 6 of validation: the hardware an app may ask for (docs/spec/registry.md §6).

v1-3 name one container, whose values have a step and a range, each tier its own. From v4 on only the sums
over all components are bounded: no step, no minimum and no sign is looked at, and old rows rely on that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from trionode.registry.coercion import num
from trionode.registry.reasons import Reason, reject
from trionode.wire.jsjson import JsValue, truthy

TIERS = ("basic", "super", "bamf")
"""Suffixes of the fields of the node tiers cumulus, nimbus and stratus."""
RESOURCES = ("cpu", "ram", "hdd")


class _Most(msgspec.Struct, frozen=True):
    """The most a container or an app may ask for: cores, MB, GB."""

    cpu: float
    ram: float
    hdd: float


_MOST_OF_TIER = {
    "basic": _Most(3, 5_000, 160),
    "super": _Most(7, 28_000, 380),
    "bamf": _Most(15, 59_000, 820),
}
_MOST = _MOST_OF_TIER["bamf"]
_RANGE_REASON = {
    "cpu": Reason.HW_CPU_RANGE,
    "ram": Reason.HW_RAM_RANGE,
    "hdd": Reason.HW_HDD_RANGE,
}


def check_flat_hardware(spec: Mapping[str, JsValue]) -> None:
    """v1-3: cpu in tenths of a core, ram in hundreds of MB, hdd in whole GB."""
    for resource in RESOURCES:
        most = getattr(_MOST, resource)
        if not _fits(resource, spec[resource], most):
            reject(_RANGE_REASON[resource], resource, spec[resource], _range_text(resource, most))
    if truthy(spec["tiered"]):
        for tier in TIERS:
            for resource in RESOURCES:
                field, most = resource + tier, getattr(_MOST_OF_TIER[tier], resource)
                if not _fits(resource, spec[field], most):
                    reject(Reason.HW_TIER_RANGE, field, spec[field], _range_text(resource, most))


def check_total_hardware(components: Sequence[Mapping[str, JsValue]]) -> None:
    """v4+: the sums over all components; those of the tiers as soon as one component is tiered."""
    if any(component.get("tiered") is True for component in components):
        for tier in TIERS:
            _check_tier_totals(components, tier)
        return
    cpu = ram = hdd = 0.0
    for component in components:
        cpu += component["cpu"] * 10
        ram += component["ram"]
        hdd += component["hdd"]
    if cpu > _MOST.cpu * 10:
        reject(Reason.HW_CPU_TOTAL, "compose", cpu, _MOST.cpu * 10)
    if ram > _MOST.ram:
        reject(Reason.HW_RAM_TOTAL, "compose", ram, _MOST.ram)
    if hdd > _MOST.hdd:
        reject(Reason.HW_HDD_TOTAL, "compose", hdd, _MOST.hdd)


def _check_tier_totals(components: Sequence[Mapping[str, JsValue]], tier: str) -> None:
    for resource in RESOURCES:
        factor = 10 if resource == "cpu" else 1
        total = 0.0
        for component in components:
            own = component.get(resource + tier)
            total += num(own if truthy(own) else component[resource]) * factor
        most = getattr(_MOST_OF_TIER[tier], resource) * factor
        if total > most:
            reject(Reason.HW_TIER_TOTAL, resource + tier, total, most)


def _fits(resource: str, value: float, most: float) -> bool:
    if resource == "cpu":
        tenths = value * 10  # in doubles: 0.3 * 10 is 3, and that is what counts
        return tenths % 1 == 0 and 1 <= tenths <= most * 10
    step = 100 if resource == "ram" else 1
    return value % step == 0 and step <= value <= most


def _range_text(resource: str, most: float) -> str:
    least = {"cpu": "0.1", "ram": "100", "hdd": "1"}[resource]
    return f"{least}-{most:g}"
