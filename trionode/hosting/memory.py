"""MemoryHost: an engine of values, for the simulator and for tests (the twin of the container engine).

It outlives the process of its node, as containers do: a new process puts its own bus in. A power cut
stops every container; nothing starts by itself, because restart policies are off (lifecycle.md §13).
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from trionode.errors import HostError
from trionode.hosting.port import AppNews, RunningApp
from trionode.lifecycle.local import EXITED, RUNNING, Component, Container, InstalledApp
from trionode.lifecycle.names import container_name
from trionode.lifecycle.running import runs_well
from trionode.runtime.bus import EventBus


class MemoryHost:
    """`AppHost` in memory. Faults are set as attributes; `actions` records what was done.

    An app given as RunningApp has one component of its own name.
    """

    registry_free = True

    def __init__(
        self,
        apps: Iterable[InstalledApp | RunningApp] = (),
        *,
        bus: EventBus | None = None,
        stop_s: float = 0.0,
    ) -> None:
        self.bus = bus
        """The bus of the process that runs now."""
        self.stop_s = stop_s
        """How long containers take to stop; one that takes longer than its grace is ended."""
        self.failing: set[str] = set()
        """Identifiers, containers and apps whose start, stop, kill or removal fails."""
        self.hanging = False
        """True: the engine does not answer at all."""
        self.actions: list[tuple[str, str]] = []
        self._rows: dict[str, InstalledApp] = {}
        self._since_ms: dict[str, int | None] = {}
        self._states: dict[str, str] = {}
        self._install(apps)
        self._news = AppNews(self.names())

    # --- what tests and the simulator do ------------------------------------------------------

    def replace(self, apps: Iterable[InstalledApp | RunningApp]) -> None:
        """Have these apps installed and running from now on, and no others."""
        self._install(apps)
        self._tell()

    def power_cut(self) -> None:
        """The machine went down: nothing runs any more."""
        self._states = dict.fromkeys(self._states, EXITED)

    # --- the port -----------------------------------------------------------------------------

    def apps(self) -> tuple[RunningApp, ...]:
        """See `RunningApps.apps`."""
        return tuple(
            RunningApp(row.name, row.hash, self._since_ms.get(row.name))
            for row in self._rows.values()
            if runs_well(row, self._states)
        )

    def names(self) -> frozenset[str]:
        """See `RunningApps.names`."""
        return frozenset(self._rows)

    def installed(self) -> tuple[InstalledApp, ...]:
        """See `AppHost.installed`."""
        return tuple(self._rows.values())

    async def containers(self) -> tuple[Container, ...]:
        """See `AppHost.containers`."""
        await self._answer()
        return tuple(Container(name, state) for name, state in self._states.items())

    async def start(self, identifier: str) -> None:
        """See `AppHost.start`."""
        await self._act("start", identifier)
        name = container_name(identifier)
        if name not in self._states:
            raise HostError(f"no container {name}", remedy="install the app again")
        self._change(name, RUNNING)

    async def stop(self, container: str, grace_s: float) -> None:
        """See `AppHost.stop`."""
        await self._act("stop", container)
        await trio.sleep(min(self.stop_s, grace_s))
        self._change(container, EXITED)

    async def kill(self, container: str) -> None:
        """See `AppHost.kill`."""
        await self._act("kill", container)
        self._change(container, EXITED)

    async def remove(self, app: str, *, reason: str) -> None:
        """See `AppHost.remove`."""
        await self._act("remove", app)
        row = self._rows.pop(app, None)
        if row is None:
            return
        for component in row.components:
            self._states.pop(container_name(component.identifier), None)
        self._tell()

    async def link(self) -> None:
        """See `AppHost.link`."""
        await self._act("link", "")

    # --- inside -------------------------------------------------------------------------------

    def _install(self, apps: Iterable[InstalledApp | RunningApp]) -> None:
        before, self._rows, self._since_ms = self._rows, {}, {}
        for app in apps:
            if isinstance(app, RunningApp):
                self._since_ms[app.name] = app.running_since_ms
                app = InstalledApp(app.name, app.hash, (Component(app.name),))
            self._rows[app.name] = app
        for row in before.values():
            for component in row.components:
                self._states.pop(container_name(component.identifier), None)
        for row in self._rows.values():
            self._states.update({container_name(part.identifier): RUNNING for part in row.components})

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.hanging:
            await trio.sleep_forever()

    async def _act(self, what: str, target: str) -> None:
        await self._answer()
        self.actions.append((what, target))
        if target in self.failing:
            raise HostError(f"cannot {what} {target}", remedy="this engine was told to fail")

    def _change(self, container: str, state: str) -> None:
        if container in self._states and self._states[container] != state:
            self._states[container] = state
            self._tell()

    def _tell(self) -> None:
        self._news.tell(self.bus, self)
