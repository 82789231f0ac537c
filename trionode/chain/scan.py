"""What the transactions of a block say about apps (docs/spec/registry.md §9). Pure.

Two things are found: payments that carry the hash of an app message, and "soft fork" messages which
the multisig addresses send to themselves (prices). The daemon's answers are read leniently: a part of
the wrong type is treated as absent, exactly as a missing member is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from trionode.config.tree import EconomySettings, ExplorerSettings
from trionode.registry.prices import PriceTable
from trionode.registry.rows import ChainMessageRow, HashRow

MinimumPrice: TypeAlias = Callable[[int], float]
"""Smallest payment in FLUX that counts in a block of this height."""

PriceBuilder: TypeAlias = Callable[[Sequence[ChainMessageRow]], MinimumPrice]
"""The minimum price by height, given every soft fork message known."""

Transaction: TypeAlias = Mapping[str, Any]

SATOSHIS_PER_FLUX = 1e8
HASH_CHARACTERS = 64
OP_RETURN = "OP_RETURN "
TRANSACTION_VERSIONS = range(1, 5)

_WHOLE_BYTES = re.compile(r"(?:[0-9a-fA-F]{2})*")
_NUMBER = re.compile(r"\s*([+-]?)([0-9a-fA-F]+)")


class PaidAddress(msgspec.Struct, frozen=True):
    """An address whose incomings count as payment, from a height on."""

    address: str
    from_height: int


class PaymentRules(msgspec.Struct, frozen=True):
    """Who is paid, who may send soft fork messages, and from which height all this holds."""

    paid: tuple[PaidAddress, ...]
    multisig: frozenset[str]
    first_height: int

    @classmethod
    def from_settings(cls, economy: EconomySettings, explorer: ExplorerSettings) -> PaymentRules:
        """The rules the configuration describes."""
        paid = [
            PaidAddress(economy.payment_address, 0),
            PaidAddress(economy.multisig_address, economy.multisig_address_height),
            PaidAddress(economy.multisig_address_b, economy.multisig_address_b_height),
        ]
        if economy.accept_development:
            paid.append(PaidAddress(economy.development_address, 0))
        multisig = frozenset({economy.multisig_address, economy.multisig_address_b})
        return cls(tuple(paid), multisig, explorer.first_height)

    def paid_at(self, height: int) -> frozenset[str]:
        """The addresses that count in a block of this height."""
        return frozenset(one.address for one in self.paid if height >= one.from_height)


class BlockFacts(msgspec.Struct, frozen=True):
    """What one block adds. `rows` may repeat a hash; the first one in chain order counts."""

    rows: tuple[HashRow, ...] = ()
    chain_messages: tuple[ChainMessageRow, ...] = ()


def op_return_text(asm: str) -> str:
    """The text an output's script carries after `OP_RETURN `; "" if it carries none."""
    parts = asm.split(OP_RETURN, 2)
    if len(parts) < 2:
        return ""
    digits = parts[1]
    if _WHOLE_BYTES.fullmatch(digits):
        return bytes.fromhex(digits).partition(b"\0")[0].decode("latin-1")
    units = digits.encode("utf-16-le", "surrogatepass")
    characters: list[str] = []
    for at in range(0, len(units), 4):  # two UTF-16 units at a time, as JavaScript counts
        pair = units[at : at + 4].decode("utf-16-le", "surrogatepass")
        if pair == "00":
            break
        characters.append(_character(pair))
    return "".join(characters)


def _character(pair: str) -> str:
    """One character of a pair as JavaScript's parseInt(pair, 16) reads it, U+0000 if it cannot."""
    found = _NUMBER.match(pair)
    if found is None:
        return "\0"
    value = int(found[2], 16)
    return chr((-value if found[1] == "-" else value) & 0xFFFF)


def scan_transaction(
    transaction: Transaction, height: int, rules: PaymentRules, minimum_price: MinimumPrice
) -> HashRow | None:
    """The hash row this transaction of a block at `height` makes, None if it is no app payment."""
    if height < rules.first_height or not _is_known_version(transaction):
        return None
    paid_addresses = rules.paid_at(height)
    value_sat = 0
    message = ""
    for output in _dicts(transaction.get("vout")):
        script = _script(output)
        if first_address(script) in paid_addresses:
            amount = output.get("valueSat")
            if isinstance(amount, bool) or not isinstance(amount, int | float):
                return None
            value_sat += int(amount)
        message = _overwritten(message, script)
    if len(message) != HASH_CHARACTERS or value_sat <= 0:
        return None
    if not value_sat >= minimum_price(height) * SATOSHIS_PER_FLUX:  # a price of NaN lets nothing pass
        return None
    return HashRow.found(str(transaction.get("txid", "")), height, message, value_sat)


def soft_fork(transaction: Transaction, height: int, rules: PaymentRules) -> ChainMessageRow | None:
    """The soft fork message of a transaction found in a block, None if it is none."""
    if not _is_known_version(transaction) or not _sent_by(transaction, rules.multisig):
        return None
    to_multisig = False
    message = ""
    for output in _dicts(transaction.get("vout")):
        script = _script(output)
        to_multisig = to_multisig or first_address(script) in rules.multisig
        message = _overwritten(message, script)
    return _chain_message(transaction, height, message) if to_multisig else None


def indexed_soft_fork(transaction: Transaction, height: int, rules: PaymentRules) -> ChainMessageRow | None:
    """The same for a transaction found through the address index: every address of an output counts,
    and the last readable message, not the last output's."""
    if not _is_known_version(transaction) or not _sent_by(transaction, rules.multisig):
        return None
    to_multisig = False
    message = ""
    for output in _dicts(transaction.get("vout")):
        script = _script(output)
        to_multisig = to_multisig or not rules.multisig.isdisjoint(_addresses(script))
        message = _overwritten("", script) or message
    return _chain_message(transaction, height, message) if to_multisig else None


def scan_block(
    transactions: Iterable[Transaction], height: int, rules: PaymentRules, minimum_price: MinimumPrice
) -> BlockFacts:
    """All a block says. A price told by a block holds from the next block on."""
    rows: list[HashRow] = []
    chain_messages: list[ChainMessageRow] = []
    for transaction in transactions:
        row = scan_transaction(transaction, height, rules, minimum_price)
        if row is not None:
            rows.append(row)
        message = soft_fork(transaction, height, rules)
        if message is not None:
            chain_messages.append(message)
    if not rows and not chain_messages:
        return NOTHING
    return BlockFacts(tuple(rows), tuple(chain_messages))


NOTHING = BlockFacts()


def minimum_prices(economy: EconomySettings) -> PriceBuilder:
    """Minimum prices from the configured table and what soft forks add to it."""

    def build(messages: Sequence[ChainMessageRow]) -> MinimumPrice:
        table = PriceTable.of_settings(economy, messages)
        return lambda height: table.at(height).minimum

    return build


def first_address(script: Mapping[str, Any]) -> str | None:
    """The address an output pays: only the first of a list is looked at."""
    addresses = _addresses(script)
    return addresses[0] if addresses and isinstance(addresses[0], str) else None


def _addresses(script: Mapping[str, Any]) -> Sequence[Any]:
    addresses = script.get("addresses")
    return addresses if isinstance(addresses, list | tuple) else ()


def _is_known_version(transaction: Transaction) -> bool:
    version = transaction.get("version")
    return not isinstance(version, bool) and isinstance(version, int) and version in TRANSACTION_VERSIONS


def _sent_by(transaction: Transaction, senders: frozenset[str]) -> bool:
    return any(entry.get("address") in senders for entry in _dicts(transaction.get("vin")))


def _script(output: Mapping[str, Any]) -> Mapping[str, Any]:
    script = output.get("scriptPubKey")
    return script if isinstance(script, dict) else {}


def _overwritten(message: str, script: Mapping[str, Any]) -> str:
    asm = script.get("asm")
    return op_return_text(asm) if isinstance(asm, str) and asm else message


def _chain_message(transaction: Transaction, height: int, message: str) -> ChainMessageRow | None:
    version, separator, _ = message.partition("_")
    if not version or not separator:
        return None
    return ChainMessageRow(
        txid=str(transaction.get("txid", "")), height=height, message=message, version=version
    )


def _dicts(values: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(values, list | tuple):
        for value in values:
            if isinstance(value, dict):
                yield value
