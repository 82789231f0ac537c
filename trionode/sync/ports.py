"""What the registry's synchronisation needs of other rooms, as ports (docs/spec/registry.md §11, §12),
and what the orchestrator needs of the engines it drives (lifecycle.md §8).

`peers.service.PeerService` is the peers of a node, `store.appregistry.AppRegistry` its registry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from trionode.chain.progress import Progress
from trionode.peers.dispatch import MessageHandler
from trionode.peers.peer import Peer
from trionode.registry.reasons import Rejection
from trionode.store.appregistry_batch import BatchReport
from trionode.store.registry_port import RegistryStore
from trionode.sync.report import SyncReport
from trionode.wire.jsjson import JsValue


class Table(Protocol):
    """The regular links, by the address of the node."""

    def __iter__(self) -> Iterator[Peer]: ...

    def __len__(self) -> int: ...

    def __contains__(self, key: str) -> bool: ...

    @property
    def threshold_reached(self) -> bool:
        """There are enough peers for work that needs many."""
        ...


class Peers(Protocol):
    """The links of this node."""

    @property
    def table(self) -> Table: ...

    def send_text(self, peer: Peer, text: str) -> None:
        """Queue a text that must not be dropped for one peer."""
        ...

    def ephemeral(self, ip: str, port: int) -> AbstractAsyncContextManager[Peer]:
        """A short link for one purpose, closed with 4018; opening it raises PeerError."""
        ...

    def register_handler(self, message_type: str, handler: MessageHandler) -> None: ...


class ChainReader(Protocol):
    """How far the chain has been read (`chain.explorer.Explorer`)."""

    @property
    def is_synced(self) -> bool:
        """The last block read was the tip."""
        ...

    @property
    def scanned_height(self) -> int: ...


class Batch(Protocol):
    """One run of the batch processor."""

    async def process(self, served: Sequence[JsValue]) -> BatchReport:
        """Judge rows as a peer serves them; returns when what is right is durable. Raises StoreError."""
        ...


class Registry(Protocol):
    """Where messages go."""

    @property
    def store(self) -> RegistryStore: ...

    def batch_run(self) -> Batch: ...

    def on_hash_response(self, listener: Callable[[str], None]) -> None:
        """Call back with the hash of every message that came for a payment without one."""
        ...

    async def promote(self, hash_: str, txid: str, height: int, value_sat: int) -> bool:
        """Make a paid message permanent if it is here; True when its payment is resolved."""
        ...

    def rejection_of(self, hash_: str) -> Rejection | None:
        """Why the message of this payment was refused when it last came."""
        ...

    async def reindex(self) -> int | None:
        """Make the current specifications anew from all messages."""
        ...


class HashSyncEngine(Protocol):
    """What runs hash syncs (`sync.hashsync.HashSync`)."""

    @property
    def is_running(self) -> bool: ...
    @property
    def left(self) -> int: ...
    @property
    def progress(self) -> Progress | None: ...
    @property
    def last(self) -> SyncReport | None: ...

    async def first_run(self, height: int) -> SyncReport: ...
    async def later_run(self, height: int, *, force: bool = False) -> SyncReport: ...
    async def rebuild(self) -> int | None: ...
    def ask_for_new(self) -> None: ...


class StateSyncPort(Protocol):
    """What asks peers for the app state (`sync.statesync.StateSync`)."""

    def eligible(self) -> list[str]: ...
    async def request(self, keys: Sequence[str]) -> tuple[str, ...]: ...
    def forget_marks(self) -> None: ...
    def on_done(self, listener: Callable[[Any, str], None]) -> None: ...
    def on_lost(self, listener: Callable[[str], None]) -> None: ...


class Sender(Protocol):
    """Whether this node may send."""

    @property
    def can_send(self) -> bool: ...
