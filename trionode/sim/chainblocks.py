"""The blocks of the virtual chain (docs/spec/testnet.md §4.1): mostly empty, some with app payments.

A block exists as a stored object only if somebody gave it or it carries app transactions; every
other height is an empty block made on demand. Stored blocks keep confirmations 1 for ever.
"""

from __future__ import annotations

from collections import deque
from typing import Any

APP_PAYMENT_ADDRESS = "t3NryfAQLGeFs9jEoeqsxmBN2QLRaRKFLUX"
APP_PAYMENT_SATOSHIS = 200_000_000
SECONDS_PER_BLOCK = 30
FIRST_BLOCK_TIME_S = 1_700_000_000


class Blocks:
    """Tip height, stored blocks, blocks waiting for their height, queued app transactions."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.stored: dict[int, dict[str, Any]] = {}
        self.pending: deque[dict[str, Any]] = deque()
        self.app_queue: deque[str] = deque()

    def mine(self, block: dict[str, Any] | None = None) -> dict[str, Any]:
        """One more block: the given one, else a pending one, else an empty one, plus queued payments."""
        self.height += 1
        if block is None and self.pending:
            block = self.pending.popleft()
        transactions = list(block.get("tx", ())) if block else []
        transactions += [app_transaction(app_hash, self.height) for app_hash in self.app_queue]
        self.app_queue.clear()
        if block is None and not transactions:
            return self.block(self.height)
        made = {**self._empty(self.height), **(block or {}), "height": self.height, "tx": transactions}
        made["confirmations"] = 1
        self.stored[self.height] = made
        return made

    def set_height(self, height: int) -> None:
        """Move the tip; stored blocks above it are gone."""
        self.height = height
        self.stored = {at: block for at, block in self.stored.items() if at <= height}

    def forget(self) -> None:
        """Drop everything but the height."""
        self.stored.clear()
        self.pending.clear()
        self.app_queue.clear()

    def block(self, height: int) -> dict[str, Any]:
        """The block at `height`; above the tip an empty one with confirmations <= 0, no error."""
        return self.stored.get(height) or self._empty(height)

    def height_of(self, hash_or_height: object) -> int | None:
        """Height named by a number, a digit string or a block hash; None for anything else."""
        text = str(hash_or_height).removeprefix(hash_at(""))
        return int(text) if text.isascii() and text.isdigit() else None

    def transaction(self, txid: str) -> dict[str, Any] | None:
        """A transaction of a stored block."""
        for block in self.stored.values():
            for transaction in block["tx"]:
                if isinstance(transaction, dict) and transaction.get("txid") == txid:
                    return {**transaction, "height": block["height"]}
        return None

    def _empty(self, height: int) -> dict[str, Any]:
        return {
            "hash": hash_at(height),
            "confirmations": self.height - height + 1,
            "height": height,
            "version": 4,
            "time": FIRST_BLOCK_TIME_S + height * SECONDS_PER_BLOCK,
            "previousblockhash": hash_at(height - 1),
            "tx": [],
        }


def hash_at(height: object) -> str:
    """The stub's block hash: readable instead of random."""
    return f"000000000000stub{height}"


def app_transaction(app_hash: str, height: int) -> dict[str, Any]:
    """The payment that puts a 64-character app hash on the chain."""
    return {
        "txid": f"apptx-{app_hash[:16]}-{height}",
        "version": 4,
        "vin": [{"txid": "0" * 64, "vout": 0}],
        "vout": [
            {
                "n": 0,
                "value": APP_PAYMENT_SATOSHIS / 1e8,
                "valueSat": APP_PAYMENT_SATOSHIS,
                "scriptPubKey": {"addresses": [APP_PAYMENT_ADDRESS], "asm": ""},
            },
            {
                "n": 1,
                "value": 0,
                "valueSat": 0,
                "scriptPubKey": {"asm": f"OP_RETURN {app_hash.encode('ascii').hex()}"},
            },
        ],
    }
