"""Small things between the containers and the rest of the node, each the narrow form somebody asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from trionode.containers.monitors.expiry import ExpiredApps
from trionode.registry.housekeeping import Life
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.store.appregistry import AppRegistry

INSTALLED = "app:installed"
REMOVED = "containers:removed"
REMOVALS_KEPT = 50


class AppsOfRegistry:
    """The registry's view of the apps here (`LocalApps`): it is made before them, and asks them later."""

    builtin_names: Sequence[str] = ()

    def __init__(self) -> None:
        self._apps: ExpiredApps | None = None

    def follow(self, apps: ExpiredApps) -> None:
        """Answer from these from now on."""
        self._apps = apps

    def installed(self) -> Sequence[Life]:
        return () if self._apps is None else self._apps.installed()

    async def remove(self, names: Sequence[str]) -> None:
        if self._apps is not None:
            await self._apps.remove(names)


class Removal(msgspec.Struct, frozen=True):
    """What was removed and why. `problem`: what could not be removed, "" if nothing is left."""

    app: str
    reason: str
    at_ms: int
    problem: str


class InstallNews:
    """Tells the bus of installs and of the reasons of removals, the last of which are kept for the API. That
    an app is gone is told by the engine host, when it is.

    Whether peers hear of it depends on what they were told: only what was announced is withdrawn.
    """

    def __init__(self, bus: EventBus, clock: WallClock) -> None:
        self._bus = bus
        self._clock = clock
        self._removals: deque[Removal] = deque(maxlen=REMOVALS_KEPT)

    @property
    def removals(self) -> tuple[Removal, ...]:
        """The last ones, newest first."""
        return tuple(reversed(self._removals))

    def removal(self, app: str, *, reason: str, problem: str) -> None:
        self._removals.append(Removal(app, reason, self._clock.now_ms(), problem))
        self._bus.publish(REMOVED, {"name": app, "reason": reason, "problem": problem})

    def app_installed(self, app: str, hash: str) -> None:
        self._bus.publish(INSTALLED, {"name": app, "hash": hash})

    def app_removed(self, app: str, *, tell_peers: bool) -> None:
        return None


def ever_known_in(registry: AppRegistry) -> Callable[[str], Awaitable[bool]]:
    """Whether the network ever had an app of a name."""

    async def ever_known(name: str) -> bool:
        if registry.current.get(name) is not None:
            return True
        return await registry.store.newest_permanent(name) is not None

    return ever_known
