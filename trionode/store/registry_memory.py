"""MemoryRegistryStore: the registry without a disk, for the simulator and tests. No threads, no waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import islice

import msgspec
import trio

from trionode.errors import StoreError
from trionode.registry.changes import (
    KEPT_BLOCK_HASHES,
    AddHashes,
    AddPermanents,
    ClearCurrent,
    CommitReport,
    DeleteCurrent,
    DeleteTemporaries,
    ExpireTemporaries,
    PutBlockHash,
    PutChainMessage,
    PutCurrent,
    PutMeta,
    PutTemporary,
    RegistryChange,
    ResolveHashes,
    Rewind,
    SetScannedHeight,
    UpdateHashes,
)
from trionode.registry.rows import ChainMessageRow, CurrentSpec, HashRow, Number, PermanentRow, TemporaryRow
from trionode.store.registry_port import HashCounts, PermanentOrder, RegistryStore


class MemoryRegistryStore(RegistryStore):
    """Keeps every row in dictionaries; forgets all of it with the object."""

    immediate = True

    def __init__(self) -> None:
        self._scanned_height = 0
        self._hashes: dict[str, HashRow] = {}
        self._permanents: dict[str, PermanentRow] = {}
        self._by_name: dict[str, list[PermanentRow]] = {}
        self._temporaries: dict[str, TemporaryRow] = {}
        self._current: dict[str, CurrentSpec] = {}
        self._chain_messages: dict[str, ChainMessageRow] = {}
        self._block_hashes: dict[int, str] = {}
        self._meta: dict[str, str] = {}
        self._closed = False

    # Writing

    async def commit(self, changes: Sequence[RegistryChange]) -> CommitReport:
        await trio.lowlevel.checkpoint()
        return self.commit_now(changes)

    def commit_now(self, changes: Sequence[RegistryChange]) -> CommitReport:
        self._check_open()
        known_hashes: list[str] = []
        known_permanents: list[str] = []
        for change in changes:
            match change:
                case AddHashes(rows=hash_rows):
                    known_hashes += self._add_hashes(hash_rows)
                case AddPermanents(rows=permanents):
                    known_permanents += self._add_permanents(permanents)
                case _:
                    self._apply(change)
        return CommitReport(tuple(known_hashes), tuple(known_permanents))

    def _add_hashes(self, rows: Iterable[HashRow]) -> Iterable[str]:
        return [row.hash for row in rows if self._hashes.setdefault(row.hash, row) is not row]

    def _add_permanents(self, rows: Iterable[PermanentRow]) -> Iterable[str]:
        known: list[str] = []
        for row in rows:
            if row.hash in self._permanents:
                known.append(row.hash)
                continue
            self._permanents[row.hash] = row
            self._by_name.setdefault(row.name, []).append(row)
        return known

    def _apply(self, change: RegistryChange) -> None:
        match change:
            case SetScannedHeight(height=height):
                self._scanned_height = height
            case UpdateHashes(rows=rows):
                self._hashes.update({row.hash: row for row in rows if row.hash in self._hashes})
            case ResolveHashes(hashes=hashes):
                for hash_ in hashes:
                    row = self._hashes.get(hash_)
                    if row is not None:
                        self._hashes[hash_] = msgspec.structs.replace(
                            row, message=True, message_not_found=False
                        )
            case PutTemporary(row=temporary):
                self._temporaries.pop(temporary.hash, None)
                self._temporaries[temporary.hash] = temporary
            case DeleteTemporaries(hashes=hashes):
                for hash_ in hashes:
                    self._temporaries.pop(hash_, None)
            case ExpireTemporaries(now_ms=now_ms):
                self._temporaries = {h: t for h, t in self._temporaries.items() if t.expire_at_ms > now_ms}
            case PutCurrent(row=current):
                self._current[current.name] = current
            case DeleteCurrent(name=name):
                self._current.pop(name, None)
            case ClearCurrent():
                self._current.clear()
            case PutChainMessage(row=message):
                self._chain_messages[message.txid] = message
            case PutBlockHash(height=height, hash=hash_):
                self._put_block_hash(height, hash_)
            case Rewind(height=height, apps=apps):
                self._rewind(height, apps)
            case PutMeta(key=key, value=value):
                self._meta[key] = value

    def _put_block_hash(self, height: int, hash_: str) -> None:
        self._block_hashes[height] = hash_
        oldest = max(self._block_hashes) - KEPT_BLOCK_HASHES
        self._block_hashes = {h: self._block_hashes[h] for h in sorted(self._block_hashes) if h > oldest}

    def _rewind(self, height: int, apps: bool) -> None:
        self._scanned_height = min(self._scanned_height, height)
        self._hashes = {key: row for key, row in self._hashes.items() if row.height <= height}
        self._chain_messages = {k: row for k, row in self._chain_messages.items() if row.height <= height}
        self._block_hashes = {key: value for key, value in self._block_hashes.items() if key <= height}
        if apps:
            kept = [row for row in self._permanents.values() if row.height <= height]
            self._permanents.clear()
            self._by_name.clear()
            self._add_permanents(kept)
            self._current = {key: row for key, row in self._current.items() if row.height <= height}

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed", remedy="open it again")

    async def _reading(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check_open()

    # Reading

    async def scanned_height(self) -> int:
        await self._reading()
        return self._scanned_height

    async def block_hashes(self) -> dict[int, str]:
        await self._reading()
        return dict(self._block_hashes)

    async def chain_messages(self, version: str | None = None) -> list[ChainMessageRow]:
        await self._reading()
        rows = (row for row in self._chain_messages.values() if version is None or row.version == version)
        return sorted(rows, key=lambda row: row.height)

    async def hashes(self, *, missing: bool | None = None, due_at: int | None = None) -> list[HashRow]:
        await self._reading()
        rows: Iterable[HashRow] = self._hashes.values()
        if missing is not None:
            rows = (row for row in rows if row.message is not missing)
        if due_at is not None:
            rows = (row for row in rows if row.due(due_at))
        return sorted(rows, key=lambda row: row.height)

    async def stream_hashes(self, *, page: int = 1000) -> AsyncIterator[HashRow]:
        await self._reading()
        for number, row in enumerate(list(self._hashes.values())):
            if number % page == 0:
                await trio.lowlevel.checkpoint()
            yield row

    async def hash_rows(self, hashes: Iterable[str]) -> dict[str, HashRow]:
        await self._reading()
        return {hash_: self._hashes[hash_] for hash_ in hashes if hash_ in self._hashes}

    async def known_hashes(self, hashes: Iterable[str]) -> set[str]:
        await self._reading()
        return self._hashes.keys() & set(hashes)

    async def hash_counts(self) -> HashCounts:
        await self._reading()
        missing = [row for row in self._hashes.values() if not row.message]
        waiting = [row.next_retry_height or 0 for row in missing if not row.flagged]
        return HashCounts(
            total=len(self._hashes),
            missing=len(missing),
            unreachable=sum(row.flagged for row in missing),
            next_retry_height=min(waiting, default=None),
            oldest_missing_height=min((row.height for row in missing), default=None),
        )

    async def permanent(self, hash: str) -> PermanentRow | None:
        await self._reading()
        return self._permanents.get(hash)

    async def known_permanents(self, hashes: Iterable[str]) -> set[str]:
        await self._reading()
        return self._permanents.keys() & set(hashes)

    async def permanents_of(self, name: str, *, order: PermanentOrder = "height") -> list[PermanentRow]:
        await self._reading()
        return _ordered(self._by_name.get(name, ()), order)

    async def permanents_of_names(self, names: Iterable[str]) -> dict[str, list[PermanentRow]]:
        await self._reading()
        return {name: _ordered(self._by_name[name], "height") for name in names if name in self._by_name}

    async def newest_permanent(self, name: str) -> PermanentRow | None:
        await self._reading()
        return max(self._by_name.get(name, ()), key=_recency, default=None)

    async def stream_newest(self, *, page: int = 500) -> AsyncIterator[PermanentRow]:
        await self._reading()
        for number, name in enumerate(sorted(self._by_name)):
            if number % page == 0:
                await trio.lowlevel.checkpoint()
            rows = self._by_name.get(name)
            if rows:
                yield max(rows, key=_recency)

    async def stream_permanents(
        self,
        *,
        hash: str | None = None,
        owner: str | None = None,
        name: str | None = None,
        from_height: int | None = None,
        order: PermanentOrder = "stored",
        page: int = 500,
    ) -> AsyncIterator[PermanentRow]:
        await self._reading()
        candidates = self._permanents.values() if name is None else self._by_name.get(name, ())

        def wanted(row: PermanentRow) -> bool:
            return (
                (hash is None or row.hash == hash)
                and (owner is None or row.owner == owner)
                and (from_height is None or row.height >= from_height)
            )

        rows = iter(_ordered(filter(wanted, candidates), order))
        while found := list(islice(rows, page)):
            for row in found:
                yield row
            await self._reading()

    async def permanent_counts(self, *, owner: str | None = None) -> int:
        await self._reading()
        if owner is None:
            return len(self._permanents)
        return sum(row.owner == owner for row in self._permanents.values())

    async def temporary(self, hash: str) -> TemporaryRow | None:
        await self._reading()
        return self._temporaries.get(hash)

    async def temporaries(self) -> list[TemporaryRow]:
        await self._reading()
        return sorted(self._temporaries.values(), key=lambda row: row.received_at_ms)

    async def current(self, name: str) -> CurrentSpec | None:
        await self._reading()
        return self._current.get(name)

    async def stream_current(self, *, page: int = 500) -> AsyncIterator[CurrentSpec]:
        await self._reading()
        for number, name in enumerate(sorted(self._current)):
            if number % page == 0:
                await trio.lowlevel.checkpoint()
            row = self._current.get(name)
            if row is not None:
                yield row

    async def get_meta(self, key: str) -> str | None:
        await self._reading()
        return self._meta.get(key)

    async def counts(self) -> dict[str, int]:
        await self._reading()
        return {
            "hashes": len(self._hashes),
            "permanents": len(self._permanents),
            "temporaries": len(self._temporaries),
            "current": len(self._current),
            "chain_messages": len(self._chain_messages),
        }

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self._closed = True


def _ordered(rows: Iterable[PermanentRow], order: PermanentOrder) -> list[PermanentRow]:
    return sorted(rows, key=lambda row: row.height) if order == "height" else list(rows)


def _recency(row: PermanentRow) -> tuple[int, Number, str]:
    return row.recency
