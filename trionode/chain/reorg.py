"""Reorganisations: which of the blocks already read are still part of the chain (daemon-rpc.md §5).

The hashes of the last blocks read are kept, in memory and in the store. Each new block must name the
last one as its predecessor; if it does not, the window is compared with the daemon's chain and the
highest block both agree on is the fork point. The daemon itself refuses reorganisations of 100 blocks
and more, so the window holds 100.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trionode.chain.blocks import fetch_hash
from trionode.chain.port import ChainRpc
from trionode.registry.changes import KEPT_BLOCK_HASHES

WINDOW_BLOCKS = KEPT_BLOCK_HASHES
BLIND_REWIND_BLOCKS = 1000
"""How far below the window to go when none of its blocks is left: the daemon got another data folder."""


class BlockWindow:
    """Hashes of the last blocks read, by height; heights need not be contiguous after a jump."""

    def __init__(self, hashes: Mapping[int, str] | Iterable[tuple[int, str]] = ()) -> None:
        self._hashes: dict[int, str] = dict(sorted(dict(hashes).items()))
        self._trim()

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, height: int) -> bool:
        return height in self._hashes

    @property
    def heights(self) -> list[int]:
        """Known heights, ascending."""
        return list(self._hashes)

    def hash_at(self, height: int) -> str:
        """Hash of the block read at `height`, "" if it is not in the window."""
        return self._hashes.get(height, "")

    def hashes(self) -> dict[int, str]:
        """All of it, for the store."""
        return dict(self._hashes)

    def push(self, height: int, block_hash: str) -> None:
        """Remember the next block; one without a hash cannot be compared and is left out."""
        if block_hash:
            self._hashes[height] = block_hash
            self._trim()

    def follows(self, height: int, previous_hash: str) -> bool:
        """Whether a block at `height` naming `previous_hash` continues what was read, as far as known."""
        known = self.hash_at(height - 1)
        return not known or not previous_hash or known == previous_hash

    def cut(self, height: int) -> None:
        """Forget everything above `height`."""
        self._hashes = {at: text for at, text in self._hashes.items() if at <= height}

    def _trim(self) -> None:
        while len(self._hashes) > WINDOW_BLOCKS:
            del self._hashes[next(iter(self._hashes))]


async def fork_height(rpc: ChainRpc, window: BlockWindow, *, tip: int) -> int | None:
    """The highest height of the window, at most `tip`, whose block is still in the daemon's chain.

    None if there is no such block. Chains share a beginning, so a binary search over the window is
    enough. Raises ChainError.
    """
    heights = [height for height in window.heights if height <= tip]
    low, high = 0, len(heights)
    while low < high:
        middle = (low + high) // 2
        height = heights[middle]
        if await fetch_hash(rpc, height) == window.hash_at(height):
            low = middle + 1
        else:
            high = middle
    return heights[low - 1] if low else None
