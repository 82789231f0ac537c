"""Blocks as the explorer asks for them, and what it accepts as an answer (daemon-rpc.md §4, §5).

Every block is asked for past the cache: one read again after a reorganisation must never be the
orphan of before (registry.md §3). An answer that is no whole block is an error with a name, not an
empty block, because an empty block would be a silent gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from trionode.chain.port import ChainRpc
from trionode.errors import ChainError


class MalformedAnswer(ChainError):
    """The daemon answered in time, but not with what was asked for."""

    code = "chain-malformed"

    def __init__(self, message: str) -> None:
        super().__init__(message, remedy="check that the port belongs to fluxd and that it is healthy")


class Block(msgspec.Struct, frozen=True):
    """The parts of a verbose block that the explorer uses; a hash the daemon left out is ""."""

    height: int
    hash: str
    previous_hash: str
    transactions: tuple[Mapping[str, Any], ...]


async def fetch_block(rpc: ChainRpc, height: int) -> Block:
    """The block at `height` as the daemon sees it now. Raises ChainError."""
    answer = await rpc.call("getblock", [str(height), 2], fresh=True)
    return read_block(answer, height)


async def fetch_blocks(rpc: ChainRpc, heights: range) -> tuple[list[Block], ChainError | None]:
    """The blocks of `heights`, asked for side by side: those before the first that failed, and why it did."""
    found: dict[int, Block] = {}
    failed: dict[int, ChainError] = {}

    async def fetch(height: int) -> None:
        try:
            found[height] = await fetch_block(rpc, height)
        except ChainError as error:
            failed[height] = error

    async with trio.open_nursery() as nursery:
        for height in heights:
            nursery.start_soon(fetch, height)
    end = min(failed, default=heights.stop)
    return [found[height] for height in range(heights.start, end)], failed.get(end)


def read_block(answer: object, height: int) -> Block:
    """`answer` as the block at `height`; raises MalformedAnswer when it is not that."""
    if not isinstance(answer, dict):
        raise MalformedAnswer(f"getblock {height} gave {type(answer).__name__} instead of a block")
    if answer.get("height") != height:
        raise MalformedAnswer(f"getblock {height} gave a block with height {answer.get('height')!r}")
    transactions = answer.get("tx")
    if not isinstance(transactions, list) or not all(isinstance(one, dict) for one in transactions):
        raise MalformedAnswer(f"getblock {height} gave a block without its transactions")
    return Block(
        height=height,
        hash=_text(answer.get("hash")),
        previous_hash=_text(answer.get("previousblockhash")),
        transactions=tuple(transactions),
    )


async def fetch_hash(rpc: ChainRpc, height: int) -> str:
    """Hash of the block at `height` as the daemon sees it now. Raises ChainError."""
    answer = await rpc.call("getblockhash", [height], fresh=True)
    if not isinstance(answer, str) or not answer:
        raise MalformedAnswer(f"getblockhash {height} gave {answer!r}")
    return answer


async def fetch_tip(rpc: ChainRpc) -> int:
    """Height of the daemon's tip now. Raises ChainError."""
    answer = await rpc.call("getblockcount", fresh=True)
    if isinstance(answer, bool) or not isinstance(answer, int) or answer < 0:
        raise MalformedAnswer(f"getblockcount gave {answer!r}")
    return answer


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
