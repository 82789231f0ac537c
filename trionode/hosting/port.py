"""The hosting seams: what runs on this node, and the engine that runs it.

`RunningApps` is what the announcer reads, `AppHost` the whole engine port (docs/spec/lifecycle.md §4, §13;
events.md §9). Implementations: `hosting.memory.MemoryHost` (simulator, tests), `hosting.apps_file.AppsFile`
(a small file), later the container engine. A change is told on the bus as `hosting:appsChanged` {names}, an
app that is gone as `app:removed` {name} as well, whether or not the network may be told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Protocol, TypeVar

import msgspec
import trio

from trionode.errors import HostError
from trionode.lifecycle.local import Container, InstalledApp
from trionode.runtime.bus import EventBus

APPS_CHANGED = "hosting:appsChanged"
APP_REMOVED = "app:removed"

T = TypeVar("T")


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

    def names(self) -> frozenset[str]:
        """Every app that is here, running or not: one that is only stopped has not been removed."""
        ...


class AppHost(RunningApps, Protocol):
    """The engine: apps installed here, their containers, and what can be done to them.

    Every method that waits raises HostError when the engine refuses or does not answer. Whoever waits
    sets the time limit; a cancelled call may or may not have taken effect.
    """

    @property
    def registry_free(self) -> bool:
        """True when apps here need not be registered on the chain (stand-ins for an engine)."""
        ...

    def installed(self) -> tuple[InstalledApp, ...]:
        """The local rows, by name. What is installed but stopped is among them."""
        ...

    async def containers(self) -> tuple[Container, ...]:
        """Every container there is, in any state, also those that belong to no app."""
        ...

    async def start(self, identifier: str) -> None:
        """Start the container of a component (`component_app`, or the app name up to v3)."""
        ...

    async def stop(self, container: str, grace_s: float) -> None:
        """Ask a container to stop; after the grace the engine ends it. Returns when it has stopped."""
        ...

    async def kill(self, container: str) -> None:
        """End a container at once."""
        ...

    async def remove(self, app: str, *, reason: str) -> None:
        """Remove an app whole: containers, data, local row. `reason` is for log and people.

        The announcer tells the network by itself. Removing an app that is not installed does nothing.
        """
        ...

    async def link(self) -> None:
        """Connect the containers of linked apps again (lifecycle.md §14, the sweep)."""
        ...


class TooSlow(HostError):
    """The engine did not do in time what it was asked for."""

    code = "too_slow"


async def in_time(call: Awaitable[T], limit_s: float, doing: str) -> T:
    """The result of a call to the engine. Raises TooSlow when it takes longer than `limit_s`."""
    with trio.move_on_after(limit_s):
        return await call
    raise TooSlow(
        f"the container engine did not {doing} within {limit_s:g} s", remedy="see whether the engine is well"
    )


class AppNews:
    """Tells the bus what became of the apps of an engine: `app:removed` {name}, `hosting:appsChanged`."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(names)

    def tell(self, bus: EventBus | None, host: RunningApps) -> None:
        """After any change; without a bus it is only remembered."""
        before, self._names = self._names, host.names()
        if bus is None:
            return
        for name in sorted(before - self._names):
            bus.publish(APP_REMOVED, {"name": name})
        bus.publish(APPS_CHANGED, {"names": [app.name for app in host.apps() or ()]})


class FixedApps:
    """A list that changes only by `replace`: for tests that need no engine."""

    def __init__(self, bus: EventBus, apps: tuple[RunningApp, ...] | None = ()) -> None:
        self._bus = bus
        self._apps = apps
        self._news = AppNews(self.names())

    def apps(self) -> tuple[RunningApp, ...] | None:
        return self._apps

    def names(self) -> frozenset[str]:
        return frozenset(app.name for app in self._apps or ())

    def replace(self, apps: tuple[RunningApp, ...] | None) -> None:
        """Put another list in its place and tell the bus."""
        self._apps = apps
        self._news.tell(self._bus, self)
