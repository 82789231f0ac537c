"""Choose the stores by their address (docs/spec/config.md; setting `store.url`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from trionode.config.tree import StoreSettings
from trionode.errors import StoreError
from trionode.store.memory import MemoryStore
from trionode.store.port import Store
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.store.registry_port import RegistryStore
from trionode.store.registry_sqlite import open_sqlite_registry
from trionode.store.sqlite import open_sqlite

FILE_NAME = "events.sqlite"
REGISTRY_FILE_NAME = "registry.sqlite"


@asynccontextmanager
async def open_store(settings: StoreSettings, data_dir: Path) -> AsyncIterator[Store]:
    """Open the store that `url` names: "" (a file in the data folder), "sqlite:PATH" or "memory:".

    Raises StoreError when it cannot be opened, with the remedy.
    """
    path = _path(settings, data_dir)
    if path is None:
        yield MemoryStore()
        return
    async with open_sqlite(path) as store:
        yield store


@asynccontextmanager
async def open_registry_store(settings: StoreSettings, data_dir: Path) -> AsyncIterator[RegistryStore]:
    """Open the registry beside the event log: "registry.sqlite" in the same folder, or in memory.

    A file of its own, so that bulk writing of one never makes the other wait. Raises StoreError.
    """
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
            f"store.url {url!r} is not known", remedy='leave it empty, or use "sqlite:PATH" or "memory:"'
        )
    path = url.removeprefix("sqlite:")
    return data_dir / (path or FILE_NAME)
