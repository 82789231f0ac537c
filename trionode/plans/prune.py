"""What is cleared away: leftovers that carry our label, and containers of apps that left.

Facts: docs/spec/lifecycle.md §12 (prune guard), §16 (orphans). Nothing is ever pruned by the engine's own
judgement, which takes stopped for unwanted. An object goes only if it says whose it is, and that app is
neither installed nor being installed; whether a specification can be opened plays no part.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from trionode.lifecycle.local import Container, InstalledApp
from trionode.lifecycle.names import bare, container_name, is_app_container, parse_name
from trionode.lifecycle.reconcile import owners_of


class Kind(enum.Enum):
    """In the order in which they have to go: what uses something before what is used."""

    CONTAINER = "container"
    NETWORK = "network"
    VOLUME = "volume"
    IMAGE = "image"


_ORDER = {kind: number for number, kind in enumerate(Kind)}


class EngineObject(msgspec.Struct, frozen=True):
    """Something the engine has. `apps`: those it is there for by our labels and records, empty: not ours.

    An image is there for every app that was installed with it. `in_use`: by a container of any state.
    """

    kind: Kind
    name: str
    apps: frozenset[str] = frozenset()
    in_use: bool = False


class Prune(msgspec.Struct, frozen=True):
    """Remove it."""

    kind: Kind
    name: str
    reason: str


class Keep(msgspec.Struct, frozen=True):
    """Leave it."""

    kind: Kind
    name: str
    reason: str


def plan_prune(
    objects: Iterable[EngineObject],
    installed: Iterable[str],
    installing: Iterable[str] = (),
    *,
    busy: bool = False,
) -> tuple[Prune | Keep, ...]:
    """A decision on each object, those to remove in an order that works.

    `installed`: names of the local rows, of encrypted apps too. While `busy` nothing is removed: an
    operation may have made what no row tells of yet.
    """
    here = frozenset(installed) | frozenset(installing)
    containers = {name for app in here for name in (app, container_name(app))}
    steps = [_judge(item, here, containers, busy=busy) for item in objects]
    return tuple(sorted(steps, key=lambda step: _ORDER[step.kind]))


def _judge(item: EngineObject, here: frozenset[str], names: set[str], *, busy: bool) -> Prune | Keep:
    if not item.apps:
        return Keep(item.kind, item.name, "it is not ours")
    owners = item.apps & here
    if owners:
        return Keep(item.kind, item.name, f"{', '.join(sorted(owners))} is installed")
    if item.kind is Kind.CONTAINER and _is_of(item.name, here, names):
        return Keep(item.kind, item.name, "it is named like a container of an installed app")
    if busy:
        return Keep(item.kind, item.name, "an app is being installed or removed")
    if item.in_use and item.kind is not Kind.CONTAINER:
        return Keep(item.kind, item.name, "a container uses it")
    return Prune(item.kind, item.name, f"{', '.join(sorted(item.apps))} is not installed")


def _is_of(name: str, here: Collection[str], names: Collection[str]) -> bool:
    listed = bare(name)
    _, separator, app = listed.partition("_")
    return listed in names or (bool(separator) and app in here)


class RemoveOrphan(msgspec.Struct, frozen=True):
    """Containers of an app that is not installed: remove the app by force, tell the network if listed."""

    app: str
    containers: tuple[str, ...]
    reason: str
    tell: bool


def plan_orphans(
    installed: Sequence[InstalledApp],
    containers: Sequence[Container],
    *,
    is_app: Callable[[str], bool],
    listed: Callable[[str], bool],
    busy: bool = False,
) -> tuple[RemoveOrphan, ...]:
    """The apps with containers but without a local row, by name.

    `is_app`: whether the network ever had an app of that name; a container of the operator that happens to
    begin with `flux` is left alone. `listed`: whether we are listed as a place of the app.
    """
    if busy:
        return ()
    owners, rows = owners_of(installed), {row.name for row in installed}
    names_here = {container_name(row) for row in rows}
    orphans: dict[str, list[str]] = {}
    for container in containers:
        name = bare(container.name)
        if name in owners or _is_of(name, rows, names_here) or not is_app_container(name):
            continue
        app = _app_of(name, is_app)
        if app is not None and app not in rows:
            orphans.setdefault(app, []).append(name)
    return tuple(
        RemoveOrphan(app, tuple(names), "its app is not installed here", listed(app))
        for app, names in sorted(orphans.items())
    )


def _app_of(name: str, is_app: Callable[[str], bool]) -> str | None:
    """The app of a container nobody here owns: by its name, with or without a prefix (D-1)."""
    candidates = (parse_name(name)[1], name.partition("_")[2] or name)
    return next((app for app in candidates if is_app(app)), None)
