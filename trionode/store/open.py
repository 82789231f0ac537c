"""Choose the store by its address (docs/spec/config.md; setting `store.url`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from trionode.config.tree import StoreSettings
from trionode.errors import StoreError
from trionode.store.memory import MemoryStore
from trionode.store.port import Store
from trionode.store.sqlite import open_sqlite

FILE_NAME = "events.sqlite"


@asynccontextmanager
async def open_store(settings: StoreSettings, data_dir: Path) -> AsyncIterator[Store]:
    """Open the store that `url` names: "" (a file in the data folder), "sqlite:PATH" or "memory:".

    Raises StoreError when it cannot be opened, with the remedy.
    """
    url = settings.url
    if url == "memory:":
        yield MemoryStore()
        return
    if url and not url.startswith("sqlite:"):
        raise StoreError(
            f"store.url {url!r} is not known", remedy='leave it empty, or use "sqlite:PATH" or "memory:"'
        )
    path = url.removeprefix("sqlite:")
    async with open_sqlite(data_dir / path if path else data_dir / FILE_NAME) as store:
        yield store
