"""App payments of a virtual chain: single ones, and any number of them from a seed.

`SeededPayments` computes the transactions of a block when somebody asks for it; nothing is held, so a
chain of millions of blocks costs nothing until it is read. The form of a payment is that of
docs/spec/testnet.md §4.1; some seeded ones deviate from it in the ways docs/spec/registry.md §9 judges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trionode.errors import ConfigError

FIRST_ADDRESS = "t1LUs6quf7TB2zVZmexqPQdnqmrFMGZGjV6"
MULTISIG_ADDRESS, MULTISIG_HEIGHT = "t3aGJvdtd8NR6GrnqnRuVEzH6MbrXuJFLUX", 1_300_000
APP_PAYMENT_ADDRESS, APP_PAYMENT_ADDRESS_HEIGHT = "t3NryfAQLGeFs9jEoeqsxmBN2QLRaRKFLUX", 1_670_000
APP_PAYMENT_SATOSHIS = 200_000_000
TOO_LITTLE_SATOSHIS = 999_999
FIRST_APP_HEIGHT = 694_000
FIRST_EMPTY_HEIGHT, EMPTY_BLOCKS = 699_421, 162_581
"""The real chain has no app payments there, and readers jump over these blocks."""

ORDINARY_SENDER = "t1Sender"
ODD_SHARE = 8
"""Of 256 seeded payments, this many are wrong in each of the ways below."""
TOO_LITTLE, TOO_SHORT, NOT_LAST, REPEATED = range(4)


def payment(
    txid: str,
    message: str,
    *,
    value_sat: int = APP_PAYMENT_SATOSHIS,
    address: str = APP_PAYMENT_ADDRESS,
    sender: str = "",
) -> dict[str, Any]:
    """A transaction that pays an address and carries a message in its last output."""
    source: dict[str, Any] = {"txid": "0" * 64, "vout": 0}
    if sender:
        source |= {"address": sender, "valueSat": value_sat}
    return {
        "txid": txid,
        "version": 4,
        "vin": [source],
        "vout": [
            {
                "n": 0,
                "value": value_sat / 1e8,
                "valueSat": value_sat,
                "scriptPubKey": {"addresses": [address], "asm": ""},
            },
            {
                "n": 1,
                "value": 0,
                "valueSat": 0,
                "scriptPubKey": {"asm": f"OP_RETURN {message.encode('latin-1').hex()}"},
            },
        ],
    }


def app_transaction(app_hash: str, height: int, *, value_sat: int = APP_PAYMENT_SATOSHIS) -> dict[str, Any]:
    """The payment that puts a 64-character app hash on the chain."""
    return payment(f"apptx-{app_hash[:16]}-{height}", app_hash, value_sat=value_sat)


def price_transaction(message: str, height: int) -> dict[str, Any]:
    """A soft fork message: the multisig address pays itself."""
    txid = hashlib.sha256(f"price {message} {height}".encode()).hexdigest()
    return payment(txid, message, sender=APP_PAYMENT_ADDRESS)


def ordinary_transactions(height: int, count: int) -> list[dict[str, Any]]:
    """What fills real blocks besides app payments: transfers that are nobody's business here."""
    return [
        {
            "txid": f"{height:032x}{number:032x}",
            "version": 4,
            "locktime": 0,
            "vin": [{"txid": f"{number:064x}", "vout": 1, "address": f"{ORDINARY_SENDER}{number:027d}"}],
            "vout": [
                {
                    "n": n,
                    "value": 1.5,
                    "valueSat": 150_000_000,
                    "scriptPubKey": {
                        "addresses": [f"t1Receiver{number:024d}{n}"],
                        "asm": f"OP_DUP OP_HASH160 {number:040x} OP_EQUALVERIFY OP_CHECKSIG",
                        "hex": f"76a914{number:040x}88ac",
                        "type": "pubkeyhash",
                    },
                }
                for n in range(2)
            ],
        }
        for number in range(count)
    ]


def is_ordinary(transaction: dict[str, Any]) -> bool:
    """Whether `ordinary_transactions` made this."""
    sources = transaction.get("vin") or [{}]
    return str(sources[0].get("address", "")).startswith(ORDINARY_SENDER)


def read_hashes(path: Path) -> list[str]:
    """App hashes of a text file, one a line. Raises ConfigError naming the line that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot read the app hashes {path}: {error}", remedy="give a text file") from error
    for number, line in enumerate(lines, start=1):
        if len(line) != 64 or not line.isascii():
            raise ConfigError(f"{path}: entry {number} is {line!r}", remedy="give 64 hexadecimal characters")
    return lines


class SeededPayments:
    """`count` payments spread evenly over the blocks from `first_height` to `last_height`.

    `app_hashes`: pay for these messages, in this order and without odd payments among them.
    """

    def __init__(
        self,
        seed: int,
        count: int,
        *,
        first_height: int = FIRST_APP_HEIGHT,
        last_height: int,
        app_hashes: Sequence[str] | None = None,
    ) -> None:
        self.seed = seed
        self.count = count
        self.until_height = last_height
        """Payments above it are not part of the chain any more (a reorganisation took them)."""
        self._app_hashes = app_hashes
        self._first_height = first_height
        self._jump = EMPTY_BLOCKS if first_height < FIRST_EMPTY_HEIGHT else 0
        self._blocks = max(1, last_height - first_height + 1)
        if self._jump and last_height >= FIRST_EMPTY_HEIGHT:
            skipped = min(self._jump, last_height - FIRST_EMPTY_HEIGHT + 1)
            self._blocks = max(1, self._blocks - skipped)
        self._shift = self._digest_of("shift")[0] * self._blocks // 256

    def height(self, number: int) -> int:
        """Height of payment `number` (from 0)."""
        height = self._first_height + (number * self._blocks + self._shift) // self.count
        return height + self._jump if self._jump and height >= FIRST_EMPTY_HEIGHT else height

    def at(self, height: int) -> list[dict[str, Any]]:
        """The payments of a block."""
        return [self.transaction(number) for number in self.numbers(height, height)]

    def numbers(self, start: int, end: int) -> range:
        """Numbers of the payments in the blocks `start` to `end`."""
        end = min(end, self.until_height)
        if not self.count or end < start:
            return range(0)
        first, last = self._place(start, up=True), self._place(end, up=False)
        low = -(-(first * self.count - self._shift) // self._blocks)
        high = -(-((last + 1) * self.count - self._shift) // self._blocks)
        return range(max(0, low), min(self.count, high))

    def _place(self, height: int, *, up: bool) -> int:
        """Position of a height among the blocks that may hold payments."""
        if self._jump and height >= FIRST_EMPTY_HEIGHT:
            if height < FIRST_EMPTY_HEIGHT + self._jump:
                height = FIRST_EMPTY_HEIGHT if up else FIRST_EMPTY_HEIGHT - 1
            else:
                height -= self._jump
        return height - self._first_height

    def find(self, txid: str) -> int | None:
        """Number of the payment with this transaction id."""
        try:
            number = int(txid[:8], 16)
        except ValueError:
            return None
        return number if 0 <= number < self.count and self.txid(number) == txid else None

    def txid(self, number: int) -> str:
        """Transaction id; its first eight digits are the number, so that `find` needs no list."""
        return f"{number:08x}{self._digest_of(f'tx {number}').hex()[8:]}"

    def app_hash(self, number: int) -> str:
        """The hash that payment `number` is for."""
        if self._app_hashes is not None:
            return self._app_hashes[number]
        odd = self._odd(number)
        return self._digest_of(f"app {number - 1 if odd == REPEATED and number else number}").hex()

    def address(self, number: int) -> str:
        """The address paid: one of those valid at that height."""
        height = self.height(number)
        valid = [FIRST_ADDRESS]
        if height >= MULTISIG_HEIGHT:
            valid.append(MULTISIG_ADDRESS)
        if height >= APP_PAYMENT_ADDRESS_HEIGHT:
            valid.append(APP_PAYMENT_ADDRESS)
        return valid[self._digest_of(f"odd {number}")[1] % len(valid)]

    def transaction(self, number: int) -> dict[str, Any]:
        """Payment `number`, whole."""
        odd = self._odd(number)
        message = self.app_hash(number)
        made = payment(
            self.txid(number),
            message[:40] if odd == TOO_SHORT else message,
            value_sat=TOO_LITTLE_SATOSHIS if odd == TOO_LITTLE else APP_PAYMENT_SATOSHIS + number,
            address=self.address(number),
        )
        if odd == NOT_LAST:
            made["vout"].reverse()
            made["vout"][1]["scriptPubKey"]["asm"] = "OP_DUP OP_HASH160"
        return made

    def all_up_to(self, height: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Height and transaction of every payment up to `height`, in chain order (for tests)."""
        for number in self.numbers(0, height):
            yield self.height(number), self.transaction(number)

    def _odd(self, number: int) -> int:
        """Which way of being wrong a payment has; anything above REPEATED: none."""
        if self._app_hashes is not None:
            return 256
        return self._digest_of(f"odd {number}")[0] // ODD_SHARE

    def _digest_of(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.seed} {text}".encode()).digest()
