"""RegistryStore: the port behind which the registry is kept (docs/spec/registry.md §2).

Writing is `commit`: any number of changes, all or none of them, durable when it returns. The other writing
methods are commits of one change. Reading returns rows; what may be large is streamed page by page, in
constant memory and without holding anything up. All methods raise StoreError, which says what to do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from trionode.registry.changes import (
    AddHashes,
    AddPermanents,
    CommitReport,
    DeleteCurrent,
    DeleteTemporaries,
    ExpireTemporaries,
    PutCurrent,
    PutMeta,
    PutTemporary,
    RegistryChange,
    ResolveHashes,
    Rewind,
    SetScannedHeight,
    UpdateHashes,
)
from trionode.registry.rows import ChainMessageRow, CurrentSpec, HashRow, PermanentRow, TemporaryRow

PermanentOrder: TypeAlias = Literal["stored", "height"]
"""In the order of insertion, or by height (rows of one height in the order of insertion)."""


class HashCounts(msgspec.Struct, frozen=True):
    """How many payments have their message."""

    total: int
    missing: int
    unreachable: int
    """Missing and given up."""
    next_retry_height: int | None
    """The lowest height at which a missing one is due; None when none waits."""
    oldest_missing_height: int | None


class RegistryStore(Protocol):
    """Payments, messages, current specifications, and how far the chain has been read."""

    @property
    def immediate(self) -> bool:
        """True when `commit_now` may be used: committing takes no waiting and no thread."""
        ...

    # Writing

    async def commit(self, changes: Sequence[RegistryChange]) -> CommitReport:
        """Store all changes, in order, or none of them. Durable when it returns."""
        ...

    def commit_now(self, changes: Sequence[RegistryChange]) -> CommitReport:
        """`commit` without waiting; only on an `immediate` store."""
        ...

    async def set_scanned_height(self, height: int) -> None:
        await self.commit([SetScannedHeight(height)])

    async def add_hashes(self, rows: Iterable[HashRow]) -> tuple[str, ...]:
        """Add payments, first wins; returns the hashes that were known."""
        return (await self.commit([AddHashes(tuple(rows))])).duplicate_hashes

    async def update_hashes(self, rows: Iterable[HashRow]) -> None:
        """Replace stored payments by hash (retry fields, flags)."""
        await self.commit([UpdateHashes(tuple(rows))])

    async def resolve_hashes(self, hashes: Iterable[str]) -> None:
        """Their messages are here: message true, messageNotFound false."""
        await self.commit([ResolveHashes(tuple(hashes))])

    async def add_permanents(self, rows: Iterable[PermanentRow]) -> tuple[str, ...]:
        """Add paid messages in order; returns the hashes that were stored already."""
        return (await self.commit([AddPermanents(tuple(rows))])).duplicate_permanents

    async def put_temporary(self, row: TemporaryRow) -> None:
        await self.commit([PutTemporary(row)])

    async def delete_temporaries(self, hashes: Iterable[str]) -> None:
        await self.commit([DeleteTemporaries(tuple(hashes))])

    async def expire_temporaries(self, now_ms: int) -> None:
        await self.commit([ExpireTemporaries(now_ms)])

    async def put_current(self, row: CurrentSpec) -> None:
        await self.commit([PutCurrent(row)])

    async def delete_current(self, name: str) -> None:
        await self.commit([DeleteCurrent(name)])

    async def rewind(self, height: int, *, apps: bool = False) -> None:
        """Forget what came from blocks above `height`."""
        await self.commit([Rewind(height, apps)])

    async def put_meta(self, key: str, value: str) -> None:
        await self.commit([PutMeta(key, value)])

    # The chain

    async def scanned_height(self) -> int:
        """All blocks up to it have been read; 0 at first."""
        ...

    async def block_hashes(self) -> Mapping[int, str]:
        """Hash by height of the newest blocks that were read, ascending."""
        ...

    async def chain_messages(self, version: str | None = None) -> Sequence[ChainMessageRow]:
        """Soft fork messages by height, then in the order of insertion; those of one `version` only."""
        ...

    # Payments

    async def hashes(self, *, missing: bool | None = None, due_at: int | None = None) -> Sequence[HashRow]:
        """Payments by height. `missing`: without (True) or with (False) their message; `due_at`: missing
        ones that are to be asked for at that height (`HashRow.due`)."""
        ...

    def stream_hashes(self, *, page: int = 1000) -> AsyncIterator[HashRow]:
        """Every payment, in the order of insertion."""
        ...

    async def hash_rows(self, hashes: Iterable[str]) -> Mapping[str, HashRow]:
        """Those of these payments that are stored."""
        ...

    async def hash_row(self, hash: str) -> HashRow | None:
        return (await self.hash_rows((hash,))).get(hash)

    async def known_hashes(self, hashes: Iterable[str]) -> set[str]:
        """Which of these payments are stored."""
        ...

    async def hash_counts(self) -> HashCounts:
        """How many payments have their message, and when the next retry is due."""
        ...

    # Messages

    async def permanent(self, hash: str) -> PermanentRow | None: ...

    async def known_permanents(self, hashes: Iterable[str]) -> set[str]:
        """Which of these paid messages are stored."""
        ...

    async def permanents_of(self, name: str, *, order: PermanentOrder = "height") -> Sequence[PermanentRow]:
        """All paid messages of exactly that name, ascending."""
        ...

    async def permanents_of_names(self, names: Iterable[str]) -> Mapping[str, Sequence[PermanentRow]]:
        """`permanents_of` for many names, by height; names without any are absent."""
        ...

    async def newest_permanent(self, name: str) -> PermanentRow | None:
        """The one with the greatest height; of equal heights the later timestamp, then the greater hash,
        so that the answer never depends on the order of arrival."""
        ...

    def stream_newest(self, *, page: int = 500) -> AsyncIterator[PermanentRow]:
        """`newest_permanent` of every name, by name (reindex)."""
        ...

    def stream_permanents(
        self,
        *,
        hash: str | None = None,
        owner: str | None = None,
        name: str | None = None,
        from_height: int | None = None,
        order: PermanentOrder = "stored",
        page: int = 500,
    ) -> AsyncIterator[PermanentRow]:
        """Paid messages that pass every filter given, in constant memory. Those added meanwhile may come
        or not; none comes twice."""
        ...

    async def permanent_counts(self, *, owner: str | None = None) -> int:
        """How many paid messages there are (of an owner)."""
        ...

    async def temporary(self, hash: str) -> TemporaryRow | None: ...

    async def temporaries(self) -> Sequence[TemporaryRow]:
        """Every unpaid message, in the order of reception. They live an hour, so they are few."""
        ...

    # Current specifications and the rest

    async def current(self, name: str) -> CurrentSpec | None:
        """The current specification of exactly that name."""
        ...

    def stream_current(self, *, page: int = 500) -> AsyncIterator[CurrentSpec]:
        """Every current specification, by name."""
        ...

    async def get_meta(self, key: str) -> str | None:
        """A named value, None when never put."""
        ...

    async def counts(self) -> dict[str, int]:
        """Number of rows: hashes, permanents, temporaries, current, chain_messages."""
        ...

    async def aclose(self) -> None:
        """Close; a second call does nothing."""
        ...
