"""Upkeep of the registry: expiry, reindex, rescan, reconstruct (docs/spec/registry.md §8, §12).

The caller sees to it that nobody else changes current specifications meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import trio

from trionode.registry.changes import ClearCurrent, DeleteCurrent, PutCurrent, RegistryChange
from trionode.registry.constants import Constants
from trionode.registry.housekeeping import (
    expired_names,
    local_names_to_remove,
    newest_by_name,
    not_current,
    reconstructed,
    reindexed,
)
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow
from trionode.store.appregistry_current import CurrentSpecs
from trionode.store.appregistry_ports import LocalApps
from trionode.store.registry_port import RegistryStore

SLICE_ROWS = 200
_PAGE = 1_000


class Upkeep:
    """Changes what is current from what is stored, and tells the local apps."""

    def __init__(
        self,
        store: RegistryStore,
        current: CurrentSpecs,
        local_apps: LocalApps,
        spec_gone: Callable[[str], Awaitable[None]],
        constants: Constants,
    ) -> None:
        self._store = store
        self._current = current
        self._local_apps = local_apps
        self._spec_gone = spec_gone
        self._constants = constants
        self.rebuilding = False

    @contextmanager
    def rebuild(self) -> Iterator[None]:
        """One rebuild at a time: a second one asked for meanwhile is skipped."""
        self.rebuilding = True
        try:
            yield
        finally:
            self.rebuilding = False

    async def expire(self, scanned_height: int) -> Sequence[str]:
        """Delete current specifications that are over; uninstall what ended with them."""
        names = expired_names(self._current.lives(), scanned_height, self._constants)
        if names:
            changes: list[RegistryChange] = [DeleteCurrent(name) for name in names]
            await self._store.commit(changes)
            for name in names:
                self._current.delete(name)
                await self._spec_gone(name)
        over = local_names_to_remove(self._local_apps.installed(), scanned_height, set(names))
        if over:
            await self._local_apps.remove(over)
        return names

    async def remove_installed(self, name: str) -> None:
        """Uninstall this app if it is installed."""
        if any(life.name == name for life in self._local_apps.installed()):
            await self._local_apps.remove((name,))

    async def reindex(self) -> int:
        """Current specifications anew: of every name the newest message, if it is still alive."""
        scanned_height = await self._store.scanned_height()
        rows: list[CurrentSpec] = []
        async for page in _pages(self._store.stream_newest()):
            rows += reindexed(page, scanned_height, self._constants)
        await self._replace(rows)
        gone = not_current([life.name for life in self._local_apps.installed()], self._current.by_name)
        if gone:
            await self._local_apps.remove(gone)
        return len(rows)

    async def rescan(self, from_height: int) -> int:
        """Current specifications anew from messages of that height and later."""
        newest: dict[str, PermanentRow] = {}
        async for page in _pages(self._store.stream_permanents(from_height=from_height)):
            newest = newest_by_name((*newest.values(), *page))
        rows = [CurrentSpec.of(row) for row in newest.values()]
        await self._replace(rows)
        return len(rows)

    async def _replace(self, rows: Sequence[CurrentSpec]) -> None:
        changes: list[RegistryChange] = [ClearCurrent(), *map(PutCurrent, rows)]
        await self._store.commit(changes)
        self._current.replace(())
        for start in range(0, len(rows), SLICE_ROWS):
            for row in rows[start : start + SLICE_ROWS]:
                self._current.put(row)
            await trio.lowlevel.checkpoint()

    async def reconstruct(self, daemon_height: int) -> int:
        """Put payments right that disagree with the stored messages."""
        changed = 0
        page: list[HashRow] = []
        async for row in self._store.stream_hashes(page=_PAGE):
            page.append(row)
            if len(page) == _PAGE:
                changed += await self._put_right(page, daemon_height)
                page = []
        return changed + await self._put_right(page, daemon_height)

    async def _put_right(self, page: Sequence[HashRow], daemon_height: int) -> int:
        if not page:
            return 0
        stored = await self._store.known_permanents([row.hash for row in page])
        rows = reconstructed(page, stored, daemon_height)
        if rows:
            await self._store.update_hashes(rows)
        return len(rows)


async def _pages(rows: AsyncIterator[PermanentRow]) -> AsyncIterator[list[PermanentRow]]:
    """Rows in lists short enough that working on one holds nobody up."""
    page: list[PermanentRow] = []
    async for row in rows:
        page.append(row)
        if len(page) == SLICE_ROWS:
            yield page
            await trio.lowlevel.checkpoint()
            page = []
    if page:
        yield page
