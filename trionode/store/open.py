"""Choose the stores by their address (docs/spec/config.md; setting `store.url`).

What MongoDB needs is imported only for nodes that use it: its driver costs 7 MB and a tenth of a second.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from trionode.config.tree import StoreSettings
from trionode.errors import StoreError
from trionode.store.localapps import LocalAppStore, MemoryLocalApps, SqliteLocalApps, open_sqlite_local
from trionode.store.memory import MemoryStore
from trionode.store.port import Store, StoreServer
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.store.registry_port import RegistryStore
from trionode.store.registry_sqlite import SqliteRegistryStore, open_sqlite_registry
from trionode.store.sqlite import SqliteStore, open_sqlite
from trionode.store.sqlite_disk import SqliteDisk
from trionode.store.sqlite_file import SqliteFile

FILE_NAME = "events.sqlite"
REGISTRY_FILE_NAME = "registry.sqlite"
LOCAL_FILE_NAME = "local.sqlite"


class Stores(msgspec.Struct, frozen=True):
    """The stores of a node, and what all are on: a MongoDB server or a disk. Memory has nothing to tell."""

    events: Store
    registry: RegistryStore
    local: LocalAppStore
    server: StoreServer | None = None


class EventStore(msgspec.Struct, frozen=True):
    """An event log alone, and what it is on."""

    events: Store
    server: StoreServer | None = None


def is_mongo(url: str) -> bool:
    """Whether the setting `store.url` names a MongoDB server."""
    return url.startswith(("mongodb://", "mongodb+srv://"))


@asynccontextmanager
async def open_stores(settings: StoreSettings, data_dir: Path) -> AsyncIterator[Stores]:
    """Open all stores that `url` names: "" (files in the data folder), "sqlite:PATH", "memory:" or
    "mongodb://...". Raises StoreError when one cannot be opened, with the remedy.

    Registry and installed apps are files of their own beside the event log, so that bulk writing of one
    never makes the others wait.
    """
    if is_mongo(settings.url):
        from trionode.store.mongo.connection import open_mongo
        from trionode.store.mongo.events import MongoStore
        from trionode.store.mongo.localapps import MongoLocalApps
        from trionode.store.mongo.registry import MongoRegistryStore

        async with open_mongo(settings) as server:
            events, registry = MongoStore(server), MongoRegistryStore(server)
            await events.open()
            await registry.open()
            yield Stores(events, registry, MongoLocalApps(server), server)
        return
    path = _path(settings, data_dir)
    if path is None:
        yield Stores(MemoryStore(), MemoryRegistryStore(), MemoryLocalApps())
        return
    if path.name in (REGISTRY_FILE_NAME, LOCAL_FILE_NAME):
        raise StoreError(
            f"store.url names {path}, which is the file of another store",
            remedy="choose another file name for the event log",
        )
    disk = SqliteDisk(str(path.parent), patience_s=settings.sqlite_retry_s)
    async with (
        open_sqlite_registry(path.with_name(REGISTRY_FILE_NAME), disk) as registry_store,
        open_sqlite(path, disk) as event_store,
        open_sqlite_local(path.with_name(LOCAL_FILE_NAME), disk) as local_store,
    ):
        yield Stores(event_store, registry_store, local_store, disk)


async def apps_in_files(data_dir: Path) -> Sequence[str]:
    """Names of the apps in the SQLite file of a data folder, where another store is used now.

    Raises StoreError.
    """
    store = SqliteLocalApps(data_dir / LOCAL_FILE_NAME)
    if not await trio.to_thread.run_sync(store.path.exists):
        return ()
    await store.open_to_read()
    try:
        return [row.name for row in await store.rows()]
    finally:
        with trio.CancelScope(shield=True):
            await store.aclose()


class ReadStores(msgspec.Struct, frozen=True):
    """Stores opened to read. `missing`: files that are not there, read as empty."""

    stores: Stores
    missing: tuple[str, ...] = ()
    in_use: bool = False
    """A node runs on them."""


@asynccontextmanager
async def open_files_to_read(path: Path) -> AsyncIterator[ReadStores]:
    """The files of a node, `path` being that of its event log, for looking only: nothing is made or changed,
    and a node may run on them. Raises StoreError when one cannot be read, with the remedy.
    """
    events, registry = SqliteStore(path), SqliteRegistryStore(path.with_name(REGISTRY_FILE_NAME))
    local = SqliteLocalApps(path.with_name(LOCAL_FILE_NAME))
    there: list[SqliteFile] = [file for file in (events, registry, local) if file.path.exists()]
    try:
        for file in there:
            await file.open_to_read()
        yield ReadStores(
            Stores(
                events if events in there else MemoryStore(),
                registry if registry in there else MemoryRegistryStore(),
                local if local in there else MemoryLocalApps(),
            ),
            tuple(file.path.name for file in (events, registry, local) if file not in there),
            any(file.in_use for file in there),
        )
    finally:
        with trio.CancelScope(shield=True):
            for file in there:
                await file.aclose()


@asynccontextmanager
async def open_event_store(settings: StoreSettings, data_dir: Path) -> AsyncIterator[EventStore]:
    """The event log alone, for those who keep no registry. Raises StoreError as `open_stores` does."""
    if is_mongo(settings.url):
        from trionode.store.mongo.connection import open_mongo
        from trionode.store.mongo.events import MongoStore

        async with open_mongo(settings) as server:
            events = MongoStore(server)
            await events.open()
            yield EventStore(events, server)
        return
    path = _path(settings, data_dir)
    if path is None:
        yield EventStore(MemoryStore())
        return
    disk = SqliteDisk(str(path.parent), patience_s=settings.sqlite_retry_s)
    async with open_sqlite(path, disk) as store:
        yield EventStore(store, disk)


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
