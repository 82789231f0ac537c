"""The hosting seam: which apps run well on this node (docs/spec/events.md §9).

Implementations: `hosting.apps_file.AppsFile` (a small file), later the container engine. A change
is told on the bus as `hosting:appsChanged` {names}.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from trionode.runtime.bus import EventBus

APPS_CHANGED = "hosting:appsChanged"


class RunningApp(msgspec.Struct, frozen=True):
    """One app of this node. `hash` is the hash of its registration message.

    `running_since_ms`: Unix time of its start, None if the source does not know it.
    """

    name: str
    hash: str
    running_since_ms: int | None = None


class RunningApps(Protocol):
    """What runs here right now."""

    def apps(self) -> tuple[RunningApp, ...] | None:
        """The apps to announce, by name; None while that is not known (nothing is announced)."""
        ...


class FixedApps:
    """A list that changes only by `replace`: nodes without an apps file, simulated nodes, tests."""

    def __init__(self, bus: EventBus, apps: tuple[RunningApp, ...] | None = ()) -> None:
        self._bus = bus
        self._apps = apps

    def apps(self) -> tuple[RunningApp, ...] | None:
        return self._apps

    def replace(self, apps: tuple[RunningApp, ...] | None) -> None:
        """Put another list in its place and tell the bus."""
        self._apps = apps
        self._bus.publish(APPS_CHANGED, {"names": [app.name for app in apps or ()]})
