"""What can be asked of a registry store, as plain values; several of them make one atomic commit.

Facts: docs/spec/registry.md §2, §9 (restore), §10 and §12.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from trionode.registry.rows import ChainMessageRow, CurrentSpec, HashRow, PermanentRow, TemporaryRow


class SetScannedHeight(msgspec.Struct, frozen=True):
    """All blocks up to `height` have been read."""

    height: int


class AddHashes(msgspec.Struct, frozen=True):
    """Add payments; of two with the same hash the first stays."""

    rows: tuple[HashRow, ...]


class UpdateHashes(msgspec.Struct, frozen=True):
    """Replace payments that are stored, by hash; those not stored are left out."""

    rows: tuple[HashRow, ...]


class ResolveHashes(msgspec.Struct, frozen=True):
    """The messages of these hashes are here: message true, messageNotFound false."""

    hashes: tuple[str, ...]


class AddPermanents(msgspec.Struct, frozen=True):
    """Add paid messages in this order; a hash that is stored already is left out and reported."""

    rows: tuple[PermanentRow, ...]


class PutTemporary(msgspec.Struct, frozen=True):
    """Add or replace an unpaid message."""

    row: TemporaryRow


class DeleteTemporaries(msgspec.Struct, frozen=True):
    """Delete unpaid messages by hash."""

    hashes: tuple[str, ...]


class ExpireTemporaries(msgspec.Struct, frozen=True):
    """Delete unpaid messages whose `expire_at_ms` is `now_ms` or earlier."""

    now_ms: int


class PutCurrent(msgspec.Struct, frozen=True):
    """Put the current specification of a name, whole."""

    row: CurrentSpec


class DeleteCurrent(msgspec.Struct, frozen=True):
    """The name has no current specification any more."""

    name: str


class ClearCurrent(msgspec.Struct, frozen=True):
    """No name has a current specification any more (start of a reindex)."""


class PutChainMessage(msgspec.Struct, frozen=True):
    """Put a soft fork message by its txid."""

    row: ChainMessageRow


class PutBlockHash(msgspec.Struct, frozen=True):
    """Remember the hash of a block that was read; the newest `KEPT_BLOCK_HASHES` heights stay."""

    height: int
    hash: str


class Rewind(msgspec.Struct, frozen=True):
    """Forget what came from blocks above `height`: payments, soft fork messages, block hashes; the scanned
    height becomes at most `height`. With `apps` also permanent messages and current specifications."""

    height: int
    apps: bool = False


class PutMeta(msgspec.Struct, frozen=True):
    """Put a named value."""

    key: str
    value: str


RegistryChange: TypeAlias = (
    SetScannedHeight
    | AddHashes
    | UpdateHashes
    | ResolveHashes
    | AddPermanents
    | PutTemporary
    | DeleteTemporaries
    | ExpireTemporaries
    | PutCurrent
    | DeleteCurrent
    | ClearCurrent
    | PutChainMessage
    | PutBlockHash
    | Rewind
    | PutMeta
)

KEPT_BLOCK_HASHES = 100
"""A reorganisation up to this depth is found and undone without reading an orphan again (§9)."""


class CommitReport(msgspec.Struct, frozen=True):
    """What a commit left out because it was stored already, in order of the rows."""

    duplicate_hashes: tuple[str, ...] = ()
    duplicate_permanents: tuple[str, ...] = ()
