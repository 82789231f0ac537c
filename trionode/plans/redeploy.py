"""What becomes of an installed app when its specification or the number of its instances changed.

Facts: docs/spec/lifecycle.md §16. Nothing here draws or waits: how likely a redeploy is now and the pauses
between its steps are the business of who carries the plan out.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trionode.lifecycle.local import LAST_SINGLE_VERSION
from trionode.plans.parts import is_encrypted
from trionode.plans.spawnneeds import Instance
from trionode.wire.address import same_address
from trionode.wire.jsjson import stringify

STRUCTURE_VERSION = 8
UNIMPORTANT = ("description", "expire", "hash", "height", "instances", "owner")
"""Fields no container is made from."""


class Depth(enum.Enum):
    """How much of an app is made anew."""

    NOTHING = "nothing"
    ROW = "the local row only"
    SOFT = "containers, volumes stay"
    HARD = "containers and volumes"
    LEAVE = "removed, it cannot be opened here"


class PartChange(msgspec.Struct, frozen=True):
    """One component, named by its identifier."""

    identifier: str
    depth: Depth
    reason: str


class UpdatePlan(msgspec.Struct, frozen=True):
    """What to do with the app; `parts`: those made anew, removed last first, installed in order."""

    depth: Depth
    reason: str
    parts: tuple[PartChange, ...] = ()
    links_changed: bool = False


def plan_update(
    installed: Mapping[str, Any], current: Mapping[str, Any], *, opened: bool = True
) -> UpdatePlan:
    """From the specification installed to the one in force, both opened.

    `opened` False: the one in force is encrypted and cannot be read here; the app has to go elsewhere.
    """
    if is_encrypted(current) and not opened:
        return UpdatePlan(Depth.LEAVE, "its new specification is encrypted and cannot be opened here")
    if installed.get("hash") == current.get("hash"):
        return UpdatePlan(Depth.NOTHING, "it is the specification installed")
    links_changed = installed.get("description") != current.get("description")
    if _important(installed) == _important(current):
        reason = "nothing a container is made from changed"
        return UpdatePlan(Depth.ROW, reason, links_changed=links_changed)
    before, after = _version(installed), _version(current)
    if after <= LAST_SINGLE_VERSION:
        return _whole(installed, current)
    if before <= LAST_SINGLE_VERSION:
        return UpdatePlan(Depth.HARD, "it has components now")
    if after >= STRUCTURE_VERSION and _names(installed) != _names(current):
        return UpdatePlan(Depth.HARD, "it has other components now")
    return _by_component(installed, current)


def _whole(installed: Mapping[str, Any], current: Mapping[str, Any]) -> UpdatePlan:
    depth = Depth.SOFT if installed.get("hdd") == current.get("hdd") else Depth.HARD
    return UpdatePlan(depth, _why(depth))


def _by_component(installed: Mapping[str, Any], current: Mapping[str, Any]) -> UpdatePlan:
    name = current["name"]
    known = {part["name"]: part for part in installed.get("compose") or ()}
    changes = []
    for part in current.get("compose") or ():
        old = known.get(part["name"])
        if old is not None and stringify(dict(old)) == stringify(dict(part)):
            continue
        depth = Depth.SOFT if old is not None and old.get("hdd") == part.get("hdd") else Depth.HARD
        changes.append(PartChange(f"{part['name']}_{name}", depth, _why(depth)))
    if not changes:
        return UpdatePlan(Depth.ROW, "no component changed")
    depth = Depth.HARD if any(change.depth is Depth.HARD for change in changes) else Depth.SOFT
    return UpdatePlan(depth, f"{len(changes)} components changed", tuple(changes))


def _why(depth: Depth) -> str:
    return "its volume keeps its size" if depth is Depth.SOFT else "its volume gets another size"


def _important(spec: Mapping[str, Any]) -> str:
    return stringify({key: value for key, value in spec.items() if key not in UNIMPORTANT})


def _names(spec: Mapping[str, Any]) -> list[str]:
    return [part["name"] for part in spec.get("compose") or ()]


def _version(spec: Mapping[str, Any]) -> int:
    return int(spec.get("version", 0))


class Surplus(msgspec.Struct, frozen=True):
    """Remove the app here, not by force, and tell the network."""

    app: str
    reason: str


def plan_surplus(
    app: str, places: Sequence[Instance], required: int, own_address: str, *, synced: bool, known: bool
) -> Surplus | None:
    """Whether this node is the one to go when an app runs too often: the latest to start goes first.

    `synced`: the explorer is. `known`: the app has a specification in force.
    """
    if len(places) <= required or not (synced and known):
        return None
    latest = max(places, key=lambda place: place.age_key)
    if not same_address(latest.address, own_address):
        return None
    return Surplus(app, f"{len(places)} nodes run it, {required} are wanted, and this one is the latest")
