"""What the explorer asks of others and tells about itself (docs/spec/registry.md §9)."""

from __future__ import annotations

from typing import Protocol

import msgspec

from trionode.chain.bootstrap import BootstrapFailed
from trionode.chain.progress import Progress
from trionode.errors import TrionodeError

BOOTSTRAP_FROM_BLOCKS = 2000
"""This many blocks behind the tip the address index is worth its questions."""
BOOTSTRAP_TRIES = 5
PLAIN_AFTER_FAILURE_BLOCKS = 20_000
DAEMON_ABSENT = (-28, "ECONNREFUSED")


class TipFacts(Protocol):
    """What the explorer asks of the chain facts (chain.facts.ChainFacts)."""

    @property
    def height(self) -> int: ...

    @property
    def synced(self) -> bool: ...


class ExplorerError(TrionodeError):
    """An operator's wish that cannot be followed."""

    code = "explorer"


class ExplorerStatus(msgspec.Struct, frozen=True):
    """Where the explorer stands, for the API and the CLI."""

    scanned_height: int
    tip_height: int
    is_synced: bool
    paused: bool
    progress: Progress | None
    last_error: str | None


class IndexTrust:
    """Whether the address index is worth asking: not near the tip, not where it was refused, and for a
    while not where it kept failing although the daemon was there."""

    def __init__(self, *, available: bool) -> None:
        self._available = available
        self._failures = 0
        self._plain_until = 0

    def worth_asking(self, height: int, tip: int) -> bool:
        """For the blocks above `height` up to `tip`."""
        return self._available and tip - height > BOOTSTRAP_FROM_BLOCKS and height >= self._plain_until

    def succeeded(self) -> None:
        """It gave something: earlier failures are forgiven."""
        self._failures = 0

    def forget(self) -> None:
        """Ask it again wherever it is worth it (an operator wants a rescan)."""
        self._failures = self._plain_until = 0

    def failed(self, error: BootstrapFailed, height: int) -> bool:
        """Take note of a failed run; whether blocks are read one by one from `height` now."""
        if error.rpc_code in DAEMON_ABSENT:
            return False
        if error.code == "RPC_TXIDS_FAILED" and isinstance(error.rpc_code, int) and error.rpc_code < 0:
            self._available = False
            return True
        self._failures += 1
        if self._failures < BOOTSTRAP_TRIES:
            return False
        self._failures = 0
        self._plain_until = height + PLAIN_AFTER_FAILURE_BLOCKS
        return True
