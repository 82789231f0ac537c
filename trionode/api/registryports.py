"""What the API is given of the registry: its store and the services that keep it (registry.md §9-§12).

Reading goes to the store's port; what a service must know of is asked of the service. A node that has
no such service (a test, a composition without it) leaves it None: its routes then say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trionode.chain.explorerstate import ExplorerStatus
from trionode.registry.constants import Constants
from trionode.registry.reasons import Rejection
from trionode.registry.rows import CurrentSpec
from trionode.store.registry_port import RegistryStore
from trionode.sync.report import HashSyncStatus


class ExplorerPort(Protocol):
    """What the API needs of the explorer (`chain.explorer.Explorer`)."""

    @property
    def scanned_height(self) -> int: ...
    @property
    def is_synced(self) -> bool: ...
    @property
    def status(self) -> ExplorerStatus: ...

    async def rescan(self, height: int, *, apps: bool = False) -> None:
        """Read the blocks above `height` again. Raises ExplorerError."""
        ...

    async def pause(self) -> None: ...

    def resume(self) -> None: ...


class HashSyncPort(Protocol):
    """What the API needs of the hash synchronisation (`sync.orchestrator.Orchestrator`)."""

    @property
    def hash_status(self) -> HashSyncStatus: ...

    def request_hash_sync(self, *, force: bool = False) -> None:
        """Look for missing messages now; `force`: also for those given up."""
        ...


class CurrentPort(Protocol):
    """The specifications in force (`store.appregistry_current.CurrentSpecs`)."""

    def find(self, name: str) -> CurrentSpec | None:
        """That of a name in any letter case."""
        ...


class AppsPort(Protocol):
    """What the API needs of the registry service (`store.appregistry.AppRegistry`)."""

    @property
    def current(self) -> CurrentPort: ...

    async def reindex(self) -> int | None:
        """Make the current specifications anew; how many. None: that is going on already."""
        ...

    async def rescan(self, from_height: int) -> int | None:
        """The same from messages paid from a height on."""
        ...

    async def reconstruct(self) -> int:
        """Put payments right that disagree with the stored messages; how many."""
        ...

    def rejection_of(self, hash_: str) -> Rejection | None:
        """Why the message of this payment was refused when it last came; None when it never came."""
        ...


@dataclass(frozen=True)
class RegistryParts:
    """The registry as the API sees it."""

    store: RegistryStore
    constants: Constants
    explorer: ExplorerPort | None = None
    apps: AppsPort | None = None
    hash_sync: HashSyncPort | None = None
