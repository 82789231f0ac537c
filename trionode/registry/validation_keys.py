"""Stage 4 of validation: no key that its version does not know (docs/spec/registry.md §4, §6)."""

from __future__ import annotations

from collections.abc import Iterable

from trionode.registry.hardware import RESOURCES, TIERS
from trionode.registry.reasons import Reason, reject
from trionode.wire.jsjson import JsValue

_COMMON = "version name description owner"
_TIERED = " ".join(["tiered", *(resource + tier for resource in RESOURCES for tier in TIERS)])
_V1 = (
    f"{_COMMON} repotag port enviromentParameters commands containerPort containerData cpu ram hdd {_TIERED}"
)
_V2 = (
    f"{_COMMON} repotag ports domains enviromentParameters commands containerPorts containerData cpu ram hdd"
    f" {_TIERED}"
)
_V4 = f"{_COMMON} compose instances"
_V5 = f"{_V4} contacts geolocation"
_V6 = f"{_V5} expire"
_V7 = f"{_V6} nodes staticip"
_V8 = f"{_V7} datacenter enterprise"

_TOP: dict[int, frozenset[str]] = {
    version: frozenset(keys.split())
    for version, keys in {
        1: _V1,
        2: _V2,
        3: f"{_V2} instances",
        4: _V4,
        5: _V5,
        6: _V6,
        7: _V7,
        8: _V8,
    }.items()
}

_COMPONENT = (
    "name description repotag ports domains environmentParameters commands containerPorts containerData"
    " cpu ram hdd"
)
_COMPONENT_V4 = frozenset(f"{_COMPONENT} {_TIERED}".split())
_PARTS: dict[int, frozenset[str]] = {
    4: _COMPONENT_V4,
    5: _COMPONENT_V4,
    6: _COMPONENT_V4,
    7: _COMPONENT_V4 | {"secrets", "repoauth"},
    8: frozenset(f"{_COMPONENT} repoauth".split()),
}


def check_keys(spec: dict[str, JsValue]) -> None:
    """Raise UNKNOWN_KEY for the first key that the version of the app or of its components lacks."""
    version = spec["version"]
    known = _TOP[version]
    if not known.issuperset(spec):
        _unknown("", spec, known)
    if version >= 4:
        known = _PARTS[version]
        for number, component in enumerate(spec["compose"]):
            if not known.issuperset(component):
                _unknown(f"compose[{number}].", component, known)


def _unknown(path: str, keys: Iterable[str], known: frozenset[str]) -> None:
    key = next(key for key in keys if key not in known)
    reject(Reason.UNKNOWN_KEY, path + key)
