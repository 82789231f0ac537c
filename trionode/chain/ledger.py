"""What the explorer has read, in memory and in the store (docs/spec/registry.md §2, §9).

Blocks gather here until `flush` writes them in one commit: rows, soft fork messages, block hashes and the
scanned height, or nothing. Memory is never behind the store, and after a failed or killed commit the store
is a whole earlier state.
"""

from __future__ import annotations

from collections.abc import Iterable

from trionode.chain.bootstrap import Found
from trionode.chain.reorg import BlockWindow
from trionode.chain.scan import NOTHING, BlockFacts, MinimumPrice, PriceBuilder
from trionode.registry.changes import (
    AddHashes,
    PutBlockHash,
    PutChainMessage,
    RegistryChange,
    Rewind,
    SetScannedHeight,
)
from trionode.registry.rows import ChainMessageRow, HashRow
from trionode.store.registry_port import RegistryStore


class Ledger:
    """Height, window of block hashes, soft fork messages and prices; rows only until they are stored."""

    def __init__(self, store: RegistryStore, prices: PriceBuilder) -> None:
        self._store = store
        self._prices = prices
        self._rows: dict[str, HashRow] = {}
        self._new_messages: list[ChainMessageRow] = []
        self._new_hashes: list[int] = []
        self._messages: dict[str, ChainMessageRow] = {}
        self.height = 0
        self.stored_height = 0
        self.window = BlockWindow()
        self.minimum_price: MinimumPrice = prices(())

    @property
    def chain_messages(self) -> tuple[ChainMessageRow, ...]:
        """Every soft fork message known, in chain order."""
        return tuple(self._messages.values())

    async def load(self) -> None:
        """Take over what is stored; what was gathered is forgotten."""
        self._forget_gathered()
        self.height = self.stored_height = await self._store.scanned_height()
        self.window = BlockWindow(await self._store.block_hashes())
        self._set_messages(await self._store.chain_messages())

    def add_block(self, height: int, block_hash: str, found: BlockFacts = NOTHING) -> None:
        """Gather what the next block says."""
        for row in found.rows:
            self._rows.setdefault(row.hash, row)
        if found.chain_messages:
            self._new_messages += found.chain_messages
            self._set_messages((*self._messages.values(), *found.chain_messages))
        self.window.push(height, block_hash)
        self._new_hashes.append(height)
        self.height = height

    async def flush(self) -> tuple[HashRow, ...]:
        """Store what was gathered; the rows that are new."""
        if not self._rows and not self._new_messages and self.height == self.stored_height:
            return ()
        return await self._commit(self._gathered())

    async def jump(self, height: int) -> None:
        """Blocks up to `height` hold nothing: store that they are read."""
        self.height = height
        await self.flush()

    async def keep_found(self, found: Found) -> tuple[HashRow, ...]:
        """Store what a bootstrap hands over; the rows that are new."""
        for row in found.rows:
            self._rows.setdefault(row.hash, row)
        if found.chain_messages:
            self._new_messages += found.chain_messages
            self._set_messages((*self._messages.values(), *found.chain_messages))
        if found.complete_height is not None:
            self.height = max(self.height, found.complete_height)
        return await self._commit(self._gathered())

    async def rewind(self, height: int, *, apps: bool = False) -> None:
        """Forget what came from blocks above `height`, gathered or stored, in one commit."""
        await self._commit([*self._gathered(), Rewind(height, apps)])
        self.height = self.stored_height = min(self.height, height)
        self.window.cut(height)
        self._set_messages([row for row in self._messages.values() if row.height <= height])

    def _gathered(self) -> list[RegistryChange]:
        changes: list[RegistryChange] = []
        if self._rows:
            changes.append(AddHashes(tuple(self._rows.values())))
        changes += [PutChainMessage(row) for row in self._new_messages]
        changes += [
            PutBlockHash(height, self.window.hash_at(height))
            for height in self._new_hashes
            if height in self.window
        ]
        changes.append(SetScannedHeight(self.height))
        return changes

    async def _commit(self, changes: list[RegistryChange]) -> tuple[HashRow, ...]:
        height = self.height
        report = await self._store.commit(changes)
        known = set(report.duplicate_hashes)
        new = tuple(row for row in self._rows.values() if row.hash not in known)
        self._forget_gathered()
        self.stored_height = height
        return new

    def _forget_gathered(self) -> None:
        self._rows = {}
        self._new_messages = []
        self._new_hashes = []

    def _set_messages(self, rows: Iterable[ChainMessageRow]) -> None:
        ordered = sorted(rows, key=lambda row: row.height)
        self._messages = {row.txid: row for row in ordered}
        self.minimum_price = self._prices(self.chain_messages)
