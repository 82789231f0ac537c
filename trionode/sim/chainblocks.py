"""The blocks of the virtual chain (docs/spec/testnet.md §4.1): mostly empty, some with app payments.

A block exists as a stored object only if somebody gave it or queued payments went into it; every other
height is made on demand from what was planted there and from the seeded payments. Stored blocks keep
confirmations 1 for ever. A reorganisation gives the blocks above the fork point new hashes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from trionode.errors import ConfigError
from trionode.sim.chainpayments import (
    APP_PAYMENT_SATOSHIS,
    SeededPayments,
    app_transaction,
    is_ordinary,
    ordinary_transactions,
)

SECONDS_PER_BLOCK = 30
FIRST_BLOCK_TIME_S = 1_700_000_000
DEEPEST_REORG = 99
"""A daemon refuses to replace more blocks."""
MOST_ORPHANS = 1000

Fate: TypeAlias = Literal["keep", "shift", "drop"]
"""What becomes of replaced transactions: same height again, one block later, or gone."""


class Blocks:
    """Tip height, stored blocks, blocks waiting for their height, queued app transactions."""

    def __init__(self, height: int, seeded: SeededPayments | None = None, ordinary: int = 0) -> None:
        self.height = height
        self.seeded = seeded
        self.ordinary = ordinary
        """Ordinary transactions in every block that is made on demand."""
        self.stored: dict[int, dict[str, Any]] = {}
        self.pending: deque[dict[str, Any]] = deque()
        self.app_queue: deque[str] = deque()
        self.paid_sat = APP_PAYMENT_SATOSHIS
        """What is paid for each app of the queue."""
        self.forks: list[dict[str, Any]] = []
        """Replaced branches as getchaintips lists them."""
        self._planted: dict[int, list[dict[str, Any]]] = {}
        self._places: dict[str, int] = {}
        self._branches: list[tuple[int, int]] = []
        self._branch_count = 0
        self._orphans: dict[str, dict[str, Any]] = {}

    # --- growing ------------------------------------------------------------------------------

    def mine(self, block: dict[str, Any] | None = None) -> dict[str, Any]:
        """One more block: the given one, else a pending one, else an empty one, plus queued payments."""
        self.height += 1
        if block is None and self.pending:
            block = self.pending.popleft()
        transactions = list(block.get("tx", ())) if block else []
        transactions += [
            app_transaction(app_hash, self.height, value_sat=self.paid_sat) for app_hash in self.app_queue
        ]
        self.app_queue.clear()
        if block is None and not transactions:
            return self.block(self.height)
        made = {**self._made(self.height), **(block or {}), "height": self.height}
        made |= {"tx": [*self._lazy(self.height), *transactions], "confirmations": 1}
        self.stored[self.height] = made
        self._remember(self.height, transactions)
        return made

    def plant(self, height: int, *transactions: dict[str, Any]) -> None:
        """Put transactions into the block at `height`, which may be long mined or still to come."""
        self._planted.setdefault(height, []).extend(transactions)
        if height in self.stored:
            self.stored[height]["tx"].extend(transactions)
        self._remember(height, transactions)

    def set_height(self, height: int) -> None:
        """Move the tip; stored blocks above it are gone."""
        self.height = height
        self.stored = {at: block for at, block in self.stored.items() if at <= height}
        self._forget_places(height, planted=False)

    def reorg(self, depth: int, *, extra: int = 1, fate: Fate = "shift") -> int:
        """Replace the last `depth` blocks by `depth + extra` new ones; the height of the fork point.

        Raises ConfigError for a depth that no daemon would accept.
        """
        if not 1 <= depth <= min(DEEPEST_REORG, self.height) or extra < 0:
            raise ConfigError(
                f"a reorganisation of {depth} blocks and {extra} more at height {self.height}",
                remedy=f"give a depth from 1 to {DEEPEST_REORG} and no negative number of further blocks",
            )
        fork = self.height - depth
        replaced = {height: self.block(height) for height in range(fork + 1, self.height + 1)}
        tip_hash = self.hash_at(self.height)
        self.forks.append(
            {"height": self.height, "hash": tip_hash, "branchlen": depth, "status": "valid-fork"}
        )
        for height, block in replaced.items():
            self._orphans[self.hash_at(height)] = {**block, "confirmations": -1}
        while len(self._orphans) > MOST_ORPHANS:
            del self._orphans[next(iter(self._orphans))]
        self.stored = {at: block for at, block in self.stored.items() if at <= fork}
        self._planted = {at: found for at, found in self._planted.items() if not fork < at <= self.height}
        self._forget_places(fork, planted=True)
        if self.seeded is not None:
            self.seeded.until_height = min(self.seeded.until_height, fork)
        self._branch_count += 1
        self._branches = [branch for branch in self._branches if branch[0] <= fork]
        self._branches.append((fork + 1, self._branch_count))
        self.height += extra
        if fate != "drop":
            later = 1 if fate == "shift" else 0
            for height, block in replaced.items():
                moved = [one for one in block["tx"] if not is_ordinary(one)]
                if moved:
                    self.plant(height + later, *moved)
        return fork

    def forget(self) -> None:
        """Drop everything but the height and the seed."""
        self.stored.clear()
        self.pending.clear()
        self.app_queue.clear()
        self._planted.clear()
        self._places.clear()
        self._orphans.clear()
        self._branches.clear()
        self.forks.clear()

    # --- reading ------------------------------------------------------------------------------

    def block(self, height: int) -> dict[str, Any]:
        """The block at `height`; above the tip an empty one with confirmations <= 0, no error."""
        return self.stored.get(height) or self._made(height)

    def named(self, hash_or_height: object) -> dict[str, Any] | None:
        """The block with this hash (orphans have confirmations -1) or at this height; None: unknown."""
        height = self.height_of(hash_or_height)
        return self._orphans.get(str(hash_or_height)) if height is None else self.block(height)

    def height_of(self, hash_or_height: object) -> int | None:
        """Height named by a number, a digit string or a hash of the chain; None for anything else."""
        text = str(hash_or_height)
        if text.isascii() and text.isdigit():
            return int(text)
        if not text.startswith(HASH_PREFIX):
            return None
        digits = text.removeprefix(HASH_PREFIX).partition("r")[0]
        if not (digits.isascii() and digits.isdigit()) or self.hash_at(int(digits)) != text:
            return None
        return int(digits)

    def hash_at(self, height: int) -> str:
        """The stub's block hash: readable instead of random; the branch is part of it."""
        at = bisect_right(self._branches, (height, self._branch_count)) - 1
        return f"{HASH_PREFIX}{height}" + (f"r{self._branches[at][1]}" if at >= 0 else "")

    def transaction(self, txid: str) -> dict[str, Any] | None:
        """A transaction of the chain up to its tip."""
        height = self._places.get(txid)
        found: dict[str, Any] | None = None
        if height is not None:
            found = next((one for one in self.block(height)["tx"] if one.get("txid") == txid), None)
        elif self.seeded is not None:
            number = self.seeded.find(txid)
            if number is not None and self.seeded.height(number) <= self.seeded.until_height:
                height = self.seeded.height(number)
                found = self.seeded.transaction(number)
        if found is None or height is None or height > self.height:
            return None
        return {**found, "height": height, "blockhash": self.hash_at(height)}

    def given(self, start: int, end: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Height and transaction of all that was queued, given or planted, by height."""
        for height in sorted({*self._places.values()}):
            if start <= height <= min(end, self.height):
                for transaction in self.block(height)["tx"]:
                    if isinstance(transaction, dict) and transaction.get("txid") in self._places:
                        yield height, transaction

    # --- inner things ---------------------------------------------------------------------------

    def _lazy(self, height: int) -> list[dict[str, Any]]:
        seeded = self.seeded.at(height) if self.seeded is not None else []
        return [*ordinary_transactions(height, self.ordinary), *seeded, *self._planted.get(height, ())]

    def _made(self, height: int) -> dict[str, Any]:
        return {
            "hash": self.hash_at(height),
            "confirmations": self.height - height + 1,
            "height": height,
            "version": 4,
            "time": FIRST_BLOCK_TIME_S + height * SECONDS_PER_BLOCK,
            "previousblockhash": self.hash_at(height - 1),
            "tx": self._lazy(height) if height <= self.height else [],
        }

    def _remember(self, height: int, transactions: Any) -> None:
        for transaction in transactions:
            if isinstance(transaction, dict) and isinstance(transaction.get("txid"), str):
                self._places[transaction["txid"]] = height

    def _forget_places(self, height: int, *, planted: bool) -> None:
        kept = set() if planted else {one["txid"] for found in self._planted.values() for one in found}
        later = {one["txid"] for at, found in self._planted.items() if at > height for one in found}
        self._places = {
            txid: at for txid, at in self._places.items() if at <= height or txid in kept or txid in later
        }


HASH_PREFIX = "000000000000stub"
