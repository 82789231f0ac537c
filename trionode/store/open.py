"""Choose the stores by their address (docs/spec/config.md; setting `store.url`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from trionode.config.tree import StoreSettings
from trionode.errors import StoreError
from trionode.store.memory import MemoryStore
from trionode.store.mongo.connection import MongoServer, is_mongo, open_mongo
from trionode.store.mongo.events import MongoStore
from trionode.store.mongo.registry import MongoRegistryStore
from trionode.store.port import Store
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.store.registry_port import RegistryStore
from trionode.store.registry_sqlite import open_sqlite_registry
from trionode.store.sqlite import open_sqlite

FILE_NAME = "events.sqlite"
REGISTRY_FILE_NAME = "registry.sqlite"


class Stores(msgspec.Struct, frozen=True):
    """The two stores of a node, and the server both are on when it is MongoDB."""

    events: Store
    registry: RegistryStore
    server: MongoServer | None = None


@asynccontextmanager
async def open_stores(settings: StoreSettings, data_dir: Path) -> AsyncIterator[Stores]:
    """Open both stores that `url` names. Raises StoreError when one cannot be opened, with the remedy."""
    if is_mongo(settings.url):
        async with open_mongo(settings) as server:
            events, registry = MongoStore(server), MongoRegistryStore(server)
            await events.open()
            await registry.open()
            yield Stores(events, registry, server)
        return
    async with (
        open_registry_store(settings, data_dir) as registry_store,
        open_store(settings, data_dir) as event_store,
    ):
        yield Stores(event_store, registry_store)


@asynccontextmanager
async def open_store(settings: StoreSettings, data_dir: Path) -> AsyncIterator[Store]:
    """Open the store that `url` names: "" (a file in the data folder), "sqlite:PATH", "memory:" or
    "mongodb://...".

    Raises StoreError when it cannot be opened, with the remedy.
    """
    if is_mongo(settings.url):
        async with open_mongo(settings) as server:
            events = MongoStore(server)
            await events.open()
            yield events
        return
    path = _path(settings, data_dir)
    if path is None:
        yield MemoryStore()
        return
    async with open_sqlite(path) as store:
        yield store


@asynccontextmanager
async def open_registry_store(settings: StoreSettings, data_dir: Path) -> AsyncIterator[RegistryStore]:
    """Open the registry beside the event log: "registry.sqlite" in the same folder, in memory, or in the
    same MongoDB.

    A file of its own, so that bulk writing of one never makes the other wait. Raises StoreError.
    """
    if is_mongo(settings.url):
        async with open_mongo(settings) as server:
            registry = MongoRegistryStore(server)
            await registry.open()
            yield registry
        return
    path = _path(settings, data_dir)
    if path is None:
        yield MemoryRegistryStore()
        return
    if path.name == REGISTRY_FILE_NAME:
        raise StoreError(
            f"store.url names {path}, which is the file of the registry",
            remedy="choose another file name for the event log",
        )
    async with open_sqlite_registry(path.with_name(REGISTRY_FILE_NAME)) as store:
        yield store


def _path(settings: StoreSettings, data_dir: Path) -> Path | None:
    """The file of the event log; None stands for memory."""
    url = settings.url
    if url == "memory:":
        return None
    if url and not url.startswith("sqlite:"):
        raise StoreError(
            f"store.url {url!r} is not known",
            remedy='leave it empty, or use "sqlite:PATH", "mongodb://..." or "memory:"',
        )
    path = url.removeprefix("sqlite:")
    return data_dir / (path or FILE_NAME)
