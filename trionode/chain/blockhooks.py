"""What the explorer lets others do at a block, and at which blocks (docs/spec/registry.md §9).

The hooks are handed in by whoever owns the registry; the explorer waits for each of them, so a block is
finished only when everybody has seen it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import msgspec

from trionode.config.tree import ExplorerSettings
from trionode.registry.rows import ChainMessageRow, HashRow

HashesHook: TypeAlias = Callable[[Sequence[HashRow]], Awaitable[object]]
HeightHook: TypeAlias = Callable[[int], Awaitable[object]]
MessagesHook: TypeAlias = Callable[[Sequence[ChainMessageRow]], Awaitable[object]]
ReconstructHook: TypeAlias = Callable[[int], Awaitable[int]]

CATCH_UP_BLOCKS = 500
"""While catching up, rows are stored and apps expire at every multiple of this height."""


async def nothing(_: object) -> None:
    """The hook of somebody who wants none."""


async def nothing_changed(_: int) -> int:
    return 0


class BlockHooks(msgspec.Struct, frozen=True, kw_only=True):
    """Called in this order; heights are those of blocks that are stored as scanned."""

    on_chain_messages: MessagesHook = nothing
    """Every soft fork message known, in chain order: at the start and whenever that changed (prices)."""
    on_rewind: HeightHook = nothing
    """What came from blocks above this height has been forgotten: a reorganisation or a rescan."""
    on_expire: HeightHook = nothing
    """Time to let apps expire."""
    on_reconstruct: ReconstructHook = nothing_changed
    """Time to audit the hash rows; the answer is how many were changed."""
    on_hashes: HashesHook = nothing
    """New rows, told at the tip only; those found while catching up are left to the hash sync."""
    on_block: HeightHook = nothing
    """A block at the tip, after all of the above."""


class Due(msgspec.Struct, frozen=True):
    """What is to be done at one block."""

    expire: bool = False
    reconstruct: bool = False


def due_at(height: int, settings: ExplorerSettings, *, at_tip: bool) -> Due:
    """The periodic work of a block: its periods are longer since blocks come faster (PON)."""
    if height < settings.first_height:
        return Due()
    if not at_tip:
        return Due(expire=height % CATCH_UP_BLOCKS == 0)
    factor = settings.pon_speedup if height >= settings.pon_height else 1
    return Due(
        expire=height % (settings.expire_period_blocks * factor) == 0,
        reconstruct=height % (settings.rebuild_period_blocks * factor) == 0,
    )
