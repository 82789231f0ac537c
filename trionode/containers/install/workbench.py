"""What installing, removing and redeploying an app needs of other parts: narrow ports (lifecycle.md §12-§16).

`Workbench` holds all of it. Every port has its real side elsewhere in this room; nothing is decided here.
"""

from __future__ import annotations

import random
from typing import Any, Protocol

import msgspec

from trionode.config.tree import InstallerSettings, ResourceSettings
from trionode.containers.actions import Spec
from trionode.containers.disk import Disk, Firewall
from trionode.containers.engine import Credentials, Engine
from trionode.containers.install.records import InstallRecords
from trionode.containers.installedapps import InstalledApps
from trionode.containers.node.outside import JsonSource
from trionode.plans.environment import Fetched
from trionode.plans.problem import refuse
from trionode.plans.requirements import NodeFacts
from trionode.registry.images import BlockLists


class NodeView(Protocol):
    """What this node is (`containers.node.view.NodeView`)."""

    async def facts(self) -> NodeFacts:
        """Raises HostError while that cannot be told."""
        ...


class ImageCheck(Protocol):
    """Asks an image registry (`containers.images.registry.ImageRegistry`)."""

    async def verify(self, repotag: str, architecture: str, credentials: Credentials | None = None) -> Any:
        """Raises HostError when the image is not there, not for this architecture, or too large."""
        ...


class Lists(Protocol):
    """The block lists in force (`containers.monitors.imagecompliance`)."""

    async def lists(self) -> BlockLists:
        """Raises HostError while they are not known."""
        ...


class Pruner(Protocol):
    """Clears away what no app here needs (`containers.health.prunes`)."""

    async def prune(self, app: str) -> None:
        """Before `app` is installed; what belongs to it stays. Raises EngineError."""
        ...


class Links(Protocol):
    """Connects apps that share networks (`containers.health.linking`)."""

    async def forward(self, container: str, spec: Spec) -> None:
        """A container just made: to all networks its app links to. Raises EngineError."""
        ...

    async def reverse(self, app: str) -> None:
        """`app` is back: whoever links to it is connected again. Failures are logged there."""
        ...


class Announcements(Protocol):
    """Tells the network (`containers.spawning.announcements.Announcements`)."""

    async def install_error(self, app: str, hash: str, error: str) -> bool:
        """The install failed here; `error` is a sentence for all (`troubles.told_to_all`)."""
        ...


class Storage(Protocol):
    """Fetches environment and commands that an owner keeps elsewhere (`containers.install.storage`)."""

    async def fetch(self, url: str, *, app: str) -> Fetched:
        """Raises HostError."""
        ...


class Secrets(Protocol):
    """Opens texts encrypted for this node: version 7 `secrets` and `repoauth`."""

    async def clear(self, text: str, *, app: str) -> str:
        """Raises PlanError or HostError."""
        ...


class KnownSpecs(Protocol):
    """Specifications in force (`store.appregistry`)."""

    async def in_force(self, app: str) -> Spec | None:
        """Opened, with `hash` and `height`; None when there is none, or it cannot be opened here."""
        ...


class LifecycleNews(Protocol):
    """Hears what became of apps, when it is done."""

    def app_installed(self, app: str, hash: str) -> None: ...

    def app_removed(self, app: str, *, tell_peers: bool) -> None: ...

    def removal(self, app: str, *, reason: str, problem: str) -> None:
        """What there was of an app was taken away, an orphan or a leftover too; `problem`: but for this."""
        ...


class NoSecrets:
    """A node without an identity to encrypt for."""

    async def clear(self, text: str, *, app: str) -> str:
        refuse(
            f"{app} has secrets encrypted for other nodes.",
            remedy="name this node when the app is registered, or use an encrypted specification",
        )


class Workbench(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an operation works with.

    `host_service_ip`: of the service containers ask about their node. `enterprise_owners`: whose containers
    may use spare CPU. `rng` draws subnets. `outside` asks apps under test that can test themselves.
    """

    engine: Engine
    disk: Disk
    firewall: Firewall
    images: ImageCheck
    lists: Lists
    storage: Storage
    secrets: Secrets
    pruner: Pruner
    links: Links
    node: NodeView
    specs: KnownSpecs
    installed: InstalledApps
    records: InstallRecords
    announcements: Announcements
    news: LifecycleNews
    settings: InstallerSettings
    resources: ResourceSettings
    rng: random.Random
    host_service_ip: str = ""
    enterprise_owners: tuple[str, ...] = ()
    outside: JsonSource | None = None
