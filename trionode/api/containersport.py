"""What the API is given of the containers of this node (docs/spec/api.md §7, §8.2).

`containers.composition.Containers` has these members; a node without an engine has none of it, and the
routes then say so. `AppDesk` (api/appdesk.py) carries out what takes longer than a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from trionode.config.tree import ResourceSettings
from trionode.containers.actions import AppActions
from trionode.containers.disk import Disk
from trionode.containers.engine import Engine
from trionode.containers.health.tampering import TamperingEvent
from trionode.containers.node.geolocation import Located
from trionode.containers.node.nodeside import Removal
from trionode.containers.operations import Operations
from trionode.containers.planned import PlannedAction
from trionode.containers.spawning.portwatch import PortStatus
from trionode.containers.spawning.spawner import SpawnerStatus
from trionode.hosting.port import AppHost
from trionode.lifecycle.local import InstalledApp
from trionode.plans.crashes import Crashes
from trionode.plans.requirements import Amount
from trionode.registry.images import BlockLists


class LocalRow(Protocol):
    """One row of the local table. `spec`: as stored, so what is encrypted stays so."""

    @property
    def name(self) -> str: ...
    @property
    def hash(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def spec(self) -> Mapping[str, Any]: ...


class InstalledPort(Protocol):
    """The apps installed here (`containers.installedapps.InstalledApps`)."""

    def rows(self) -> Sequence[LocalRow]: ...

    def get(self, name: str) -> LocalRow | None:
        """By its exact name."""
        ...

    def installed(self) -> tuple[InstalledApp, ...]:
        """With components, in the order of the specification; none where it cannot be opened."""
        ...

    def locked(self, settings: ResourceSettings) -> Amount:
        """What they take of this machine, encrypted ones included."""
        ...


class StopsPort(Protocol):
    """Components an operator stopped, which nothing starts by itself (`containers.health.operatorstops`)."""

    @property
    def names(self) -> frozenset[str]:
        """Their identifiers."""
        ...

    async def add(self, identifiers: Iterable[str]) -> None:
        """Durable when it returns."""
        ...

    async def drop(self, identifiers: Iterable[str]) -> None: ...


class HoldsPort(Protocol):
    """Apps kept back for a backup or restore (`containers.health.holds`). Both calls raise StoreError."""

    @property
    def until_ms(self) -> Mapping[str, int]:
        """App -> when that ends by itself."""
        ...

    async def put(self, app: str, until_ms: int) -> None:
        """Durable when it returns."""
        ...

    async def drop(self, app: str) -> None: ...


class ListsPort(Protocol):
    """The block lists in force (`containers.monitors.imagecompliance`)."""

    async def lists(self) -> BlockLists:
        """Raises HostError while they are not known."""
        ...


class TamperingPort(Protocol):
    """Signs that somebody else had a hand in the apps here (`containers.health.tampering.TamperingLog`)."""

    def events(self, app: str | None = None) -> Sequence[TamperingEvent]:
        """The last ones, newest first."""
        ...


class HealthPort(Protocol):
    """Who looks after the containers (`containers.health.watch.HealthWatch`)."""

    @property
    def crashes(self) -> Mapping[str, Crashes]:
        """Components that ended by themselves, by identifier."""
        ...


class NewsPort(Protocol):
    """What was done to apps here (`containers.node.nodeside.InstallNews`)."""

    @property
    def removals(self) -> Sequence[Removal]:
        """The last ones, newest first."""
        ...


class SpecsPort(Protocol):
    """Opens encrypted specifications, where this node can (`containers.monitors.hosted.KnownSpecs`)."""

    @property
    def can_open(self) -> bool:
        """Whether this node opens any."""
        ...

    async def opened(self, spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """With `hash` and `height` as given, everything in clear; None when that cannot be done."""
        ...


class NewImagesPort(Protocol):
    """What image registries and block lists say of a new specification (`containers.images.newspecs`)."""

    async def problem(self, spec: Mapping[str, Any]) -> str | None:
        """Why it may not be registered, in a sentence."""
        ...


class PlacePort(Protocol):
    """What this node is (`containers.node.view.NodeView`)."""

    @property
    def located(self) -> Located | None:
        """Where it is, None before that was found out."""
        ...


class SpawnerPort(Protocol):
    """`containers.spawning.spawner.Spawner`."""

    @property
    def status(self) -> SpawnerStatus: ...


class PortTestsPort(Protocol):
    """`containers.spawning.portwatch.PortAvailability`."""

    @property
    def status(self) -> PortStatus: ...


class SpawningPort(Protocol):
    """Choosing apps and testing ports (`containers.spawning.composition.Spawning`)."""

    @property
    def spawner(self) -> SpawnerPort: ...
    @property
    def ports(self) -> PortTestsPort: ...


class ContainersPort(Protocol):
    """The containers of this node."""

    @property
    def engine(self) -> Engine: ...
    @property
    def engine_problem(self) -> str:
        """Why the engine cannot be used right now, "" when it answers."""
        ...

    @property
    def disk(self) -> Disk: ...
    @property
    def host(self) -> AppHost: ...
    @property
    def actions(self) -> AppActions: ...
    @property
    def installed(self) -> InstalledPort: ...
    @property
    def news(self) -> NewsPort: ...
    @property
    def specs(self) -> SpecsPort: ...
    @property
    def operations(self) -> Operations: ...
    @property
    def stops(self) -> StopsPort: ...
    @property
    def holds(self) -> HoldsPort: ...
    @property
    def lists(self) -> ListsPort: ...
    @property
    def new_images(self) -> NewImagesPort: ...
    @property
    def tampering(self) -> TamperingPort: ...
    @property
    def health(self) -> HealthPort: ...
    @property
    def node(self) -> PlacePort: ...
    @property
    def spawning(self) -> SpawningPort: ...

    async def present_plan(self, app: str = "") -> Sequence[PlannedAction]:
        """What would be done to all apps or to one, without doing it. Raises HostError, StoreError."""
        ...
