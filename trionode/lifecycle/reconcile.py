"""What to do with each installed app after a reboot within the bounds (docs/spec/lifecycle.md §4).

Containers do not start by themselves. An app whose place in the network has lapsed meanwhile is removed;
the others are started, except what waits for the election of its folder (`g:`, true flags, D-2). Which
container belongs to which app is looked up among the installed ones, never parsed (D-1).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from trionode.lifecycle.local import RUNNING, Component, Container, InstalledApp
from trionode.lifecycle.names import bare, container_name, is_app_container, parse_name


class StartApp(msgspec.Struct, frozen=True):
    """Start these components in order. `partial`: others of the app are left to the election."""

    app: str
    identifiers: tuple[str, ...]
    partial: bool = False


class RemoveApp(msgspec.Struct, frozen=True):
    """The network no longer lists the app here."""

    app: str
    reason: str


class LeaveApp(msgspec.Struct, frozen=True):
    """Nothing is done. `why`: `no_spec` (no row, or none in force), `election`, `stopped` (on purpose)."""

    app: str
    why: str


ReconcileStep = StartApp | RemoveApp | LeaveApp

Specs = Callable[[str], Sequence[Component] | None]
"""Components by the specification in force, None when there is none."""
Listed = Callable[[str], bool]
"""Whether an app has an unexpired location row at our address; True also when that is not known."""


def plan_reconcile(
    installed: Sequence[InstalledApp],
    containers: Sequence[Container],
    specs: Specs,
    listed: Listed,
    *,
    stops: Collection[str] = (),
) -> tuple[ReconcileStep, ...] | None:
    """One step for each app with a container that does not run; None when there is no such app.

    `stops`: components somebody stopped on purpose, or keeps back; they stay as they are.
    """
    owners = owners_of(installed)
    stopped = [c for c in containers if c.state != RUNNING and is_app_container(c.name)]
    if not installed or not stopped:
        return None
    rows = {row.name for row in installed}
    names = dict.fromkeys(owners.get(bare(c.name)) or parse_name(c.name)[1] for c in stopped)
    return tuple(_step(name, rows, specs, listed, stops) for name in names)


def owners_of(installed: Sequence[InstalledApp]) -> Mapping[str, str]:
    """Container name -> app, for everything installed."""
    return {container_name(part.identifier): row.name for row in installed for part in row.components}


def _step(name: str, rows: set[str], specs: Specs, listed: Listed, stops: Collection[str]) -> ReconcileStep:
    components = specs(name) if name in rows else None
    if components is None:
        return LeaveApp(name, "no_spec")
    ours = starting_components(components)
    if not ours:
        return LeaveApp(name, "election")
    if not listed(name):
        return RemoveApp(name, "the network no longer lists it here")
    wanted = tuple(identifier for identifier in ours if identifier not in stops)
    if not wanted:
        return LeaveApp(name, "stopped")
    return StartApp(name, wanted, partial=len(wanted) < len(components))


def starting_components(components: Sequence[Component]) -> tuple[str, ...]:
    """Identifiers of the components that do not wait for an election, in order."""
    return tuple(part.identifier for part in components if "g" not in part.flags)
