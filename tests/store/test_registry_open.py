"""Where the registry is kept, and what can go wrong with its file."""

from __future__ import annotations

import fcntl
import sqlite3
from pathlib import Path

import pytest

from trionode.config.tree import StoreSettings
from trionode.errors import StoreError
from trionode.store.open import open_stores
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.store.registry_sqlite import SqliteRegistryStore, open_sqlite_registry
from trionode.store.sqlite import open_sqlite

pytestmark = pytest.mark.trio


async def test_the_registry_lies_beside_the_event_log(tmp_path: Path) -> None:
    async with open_stores(StoreSettings(url="memory:"), tmp_path) as stores:
        assert isinstance(stores.registry, MemoryRegistryStore)
    for url, folder in (("", tmp_path), ("sqlite:deep/other.db", tmp_path / "deep")):
        settings = StoreSettings(url=url)
        async with open_stores(settings, tmp_path) as stores:
            assert isinstance(stores.registry, SqliteRegistryStore)
            assert stores.registry.path == folder / "registry.sqlite"
        files = sorted(path.name for path in folder.glob("registry*"))
        assert files == ["registry.sqlite", "registry.sqlite.lock"]


@pytest.mark.parametrize("url", ["postgres:x", "sqlite:registry.sqlite"])
async def test_addresses_that_cannot_be(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreError) as caught:
        async with open_stores(StoreSettings(url=url), tmp_path):
            pass
    assert caught.value.remedy


async def test_the_file_of_the_event_log_is_not_a_registry(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    async with open_sqlite(path):
        pass
    with pytest.raises(StoreError, match="another program"):
        async with open_sqlite_registry(path):
            pass


async def test_two_of_a_kind_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    async with open_sqlite_registry(path):
        with pytest.raises(StoreError, match="in use"):
            async with open_sqlite_registry(path):
                pass


async def test_who_only_looks_keeps_no_node_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.sqlite"
    async with open_sqlite_registry(path):
        pass
    with open(f"{path}.lock", "rb") as look:  # noqa: ASYNC230 - a moment only
        fcntl.flock(look, fcntl.LOCK_SH)
        monkeypatch.setattr("time.sleep", lambda _: fcntl.flock(look, fcntl.LOCK_UN))
        async with open_sqlite_registry(path) as store:
            assert await store.scanned_height() == 0


async def test_a_schema_of_the_future(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    async with open_sqlite_registry(path):
        pass
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(StoreError, match="99"):
        async with open_sqlite_registry(path):
            pass
