"""The apps installed here, seen together with what registry and network say about them.

What surplus check, updates, election and hardware check ask, answered from the local table, the
specifications in force and the location index (docs/spec/lifecycle.md §16, §17, §19).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from trionode.appstate.source import LocationView
from trionode.containers.actions import Spec
from trionode.containers.engine import Credentials
from trionode.containers.installedapps import InstalledApps, Opener, is_closed
from trionode.containers.spawning.candidatelist import spec_row
from trionode.errors import HostError
from trionode.lifecycle.limits import Machine, Need
from trionode.lifecycle.local import InstalledApp
from trionode.plans.election import Member
from trionode.plans.parts import Part
from trionode.plans.problem import PlanError
from trionode.plans.requirements import needs_of
from trionode.plans.spawnneeds import Instance, places
from trionode.registry.rows import CurrentSpec
from trionode.runtime.logs import get_logger

log = get_logger("containers.hosted")


class CurrentApps(Protocol):
    """The specifications in force (`store.appregistry_current.CurrentSpecs`)."""

    def get(self, name: str) -> CurrentSpec | None: ...


class Locations(Protocol):
    """Who runs what (`store.eventlog.EventLog`)."""

    def locations(self, name: str | None = None, ip: str | None = None) -> Sequence[LocationView]: ...


class NodeSide(Protocol):
    """What this node is (`containers.node.view.NodeView`)."""

    @property
    def address(self) -> str | None: ...
    @property
    def tier(self) -> str | None: ...
    async def machine(self) -> Machine: ...


class Logins(Protocol):
    """Logins for image registries (`containers.install.making.Logins`)."""

    async def of(self, part: Part) -> Credentials | None:
        """Raises PlanError or HostError when it cannot be opened."""
        ...


class KnownSpecs:
    """Specifications in force, opened where this node can."""

    def __init__(self, current: CurrentApps, opener: Opener | None) -> None:
        self._current = current
        self._opener = opener

    @property
    def can_open(self) -> bool:
        """Whether this node opens encrypted specifications at all."""
        return self._opener is not None

    def closed(self, app: str) -> Spec | None:
        """As registered, with `hash` and `height`; None when there is none in force."""
        row = self._current.get(app)
        return None if row is None else {**row.spec(), "hash": row.hash, "height": row.height}

    async def in_force(self, app: str) -> Spec | None:
        """Opened, with `hash` and `height`; None when there is none, or it cannot be opened here."""
        spec = self.closed(app)
        return None if spec is None else await self.opened(spec)

    async def opened(self, spec: Spec) -> Spec | None:
        """Any specification with `hash` and `height`, everything in clear; None when that cannot be done."""
        if not is_closed(spec):
            return spec
        if self._opener is None:
            return None
        bare = {key: value for key, value in spec.items() if key not in ("hash", "height")}
        opened = await self._opener.open(bare, int(spec["height"]))
        return None if opened is None else {**opened, "hash": spec["hash"], "height": spec["height"]}


class Hosted:
    """`is_complete`: whether the explorer is at the tip and the registry is whole. `leaving`: apps whose
    removal has begun; nothing else is done to them.
    """

    def __init__(
        self,
        *,
        installed: InstalledApps,
        specs: KnownSpecs,
        current: CurrentApps,
        locations: Locations,
        node: NodeSide,
        logins: Logins,
        is_complete: Callable[[], bool],
        leaving: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._installed = installed
        self._specs = specs
        self._current = current
        self._locations = locations
        self._node = node
        self._logins = logins
        self._is_complete = is_complete
        self._leaving = leaving

    @property
    def own_address(self) -> str | None:
        return self._node.address

    @property
    def synced(self) -> bool:
        """Whether the explorer is at the tip of the chain and the registry is complete."""
        return self._is_complete()

    # Places

    def names(self) -> frozenset[str]:
        return self._installed.names()

    def installed_names(self) -> Sequence[str]:
        return sorted(self._installed.names() - self._leaving())

    def wanted(self, app: str) -> int | None:
        """Instances by the specification in force; None when there is none."""
        row = self._current.get(app)
        return None if row is None else spec_row(row).candidate.required

    def running(self, app: str) -> list[Instance]:
        """Its location rows, of each node one."""
        return places(Instance(row.ip, row.running_since_ms) for row in self._locations.locations(app))

    def members(self, app: str) -> list[Member]:
        """Its location rows, for an election."""
        return [Member(place.address, place.since_ms) for place in self.running(app)]

    # Specifications

    async def installed(self) -> tuple[InstalledApp, ...]:
        """With their components; what could not be opened before is tried again."""
        for name in self._installed.names():
            await self._installed.opened(name)
        return self.installed_now()

    def installed_now(self) -> tuple[InstalledApp, ...]:
        """The same without opening any that is not yet."""
        leaving = self._leaving()
        return tuple(app for app in self._installed.installed() if app.name not in leaving)

    def obsolete(self) -> list[str]:
        """Installed apps whose specification in force has another hash."""
        found = []
        leaving = self._leaving()
        for row in self._installed.rows():
            current = self._current.get(row.name)
            if current is not None and current.hash != row.hash and row.name not in leaving:
                found.append(row.name)
        return found

    async def installed_spec(self, app: str) -> Spec | None:
        """Opened if it can be, else closed; None when it is not installed."""
        opened = await self._installed.opened(app)
        if opened is not None:
            return opened
        row = self._installed.get(app)
        return None if row is None else row.spec

    async def current_spec(self, app: str) -> tuple[Spec, bool] | None:
        """The one in force, and whether it could be opened; None when there is none."""
        opened = await self._specs.in_force(app)
        if opened is not None:
            return opened, True
        closed = self._specs.closed(app)
        return None if closed is None else (closed, False)

    def both_now(self, app: str) -> tuple[Spec, Spec, bool] | None:
        """Installed, in force, whether that is open; None when one of them would have to be opened first."""
        row, current = self._installed.get(app), self._specs.closed(app)
        if row is None or current is None:
            return None
        installed = self._installed.opened_now(app) or row.spec
        closed = is_closed(current)
        if self._specs.can_open and (closed or is_closed(installed)):
            return None
        return installed, current, not closed

    async def opened(self, name: str) -> Mapping[str, object] | None:
        return await self._installed.opened(name)

    def opened_now(self, name: str) -> Mapping[str, object] | None:
        """The same without opening it."""
        return self._installed.opened_now(name)

    # Machine and images

    async def machine(self) -> Machine:
        """Raises NodeUnknown while the benchmark or the engine does not say."""
        return await self._node.machine()

    async def needs(self) -> list[Need]:
        """Of every installed app that can be opened, in all its components."""
        for row in self._installed.rows():
            await self._installed.opened(row.name)
        return self.needs_now()

    def needs_now(self) -> list[Need]:
        """The same of those that are open."""
        found = []
        for row in self._installed.rows():
            amount = needs_of(self._installed.parts(row.name, self._node.tier))
            found.append(Need(row.name, row.height, amount.cpu, amount.ram_mb, amount.hdd_gb))
        return found

    async def hosted_parts(self) -> list[tuple[Part, ...]]:
        """The components of every app, with the values of this node's tier."""
        return [self._installed.parts(row.name, self._node.tier) for row in self._installed.rows()]

    async def updatable(self, app: str) -> list[tuple[Part, Credentials | None]]:
        """Components with the logins for their registries; one whose login cannot be opened is left out."""
        await self._installed.opened(app)
        found: list[tuple[Part, Credentials | None]] = []
        for part in self._installed.parts(app):
            try:
                found.append((part, await self._logins.of(part)))
            except (PlanError, HostError) as error:
                log.info("login not opened", component=part.identifier, why=error.message)
        return found
