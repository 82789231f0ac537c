"""The address index of the virtual chain: getaddresstxids and getaddressdeltas (daemon-rpc.md §4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trionode.errors import ChainError
from trionode.sim.chainblocks import Blocks
from trionode.sim.chainpayments import APP_PAYMENT_SATOSHIS

INVALID_PARAMETER = -8


class SeededIndex:
    """What was put into the index by hand (docs/spec/testnet.md §4.1), besides the chain's own."""

    def __init__(self) -> None:
        self.txids: list[str] = []
        self.deltas: list[dict[str, Any]] = []
        self.transactions: dict[str, dict[str, Any]] = {}

    def clear(self) -> None:
        self.txids.clear()
        self.deltas.clear()
        self.transactions.clear()


def address_txids(blocks: Blocks, params: Sequence[Any]) -> list[str]:
    """Ids of the transactions that touch the addresses, in chain order."""
    found: dict[str, int] = {}
    for height, txid, _, _ in _touching(blocks, params):
        found.setdefault(txid, height)
    return sorted(found, key=lambda txid: found[txid])


def address_deltas(blocks: Blocks, params: Sequence[Any]) -> list[dict[str, Any]]:
    """What each transaction gave to the addresses and took from them."""
    rows = [
        {"address": address, "txid": txid, "satoshis": satoshis, "height": height}
        for height, txid, address, satoshis in _touching(blocks, params)
    ]
    return sorted(rows, key=lambda row: int(str(row["height"])))


def _touching(blocks: Blocks, params: Sequence[Any]) -> Iterator[tuple[int, str, str, int]]:
    query = params[0] if params else None
    addresses = query.get("addresses") if isinstance(query, Mapping) else None
    if not isinstance(query, Mapping) or not isinstance(addresses, list):
        raise ChainError("Addresses is expected to be an array", rpc_code=INVALID_PARAMETER)
    wanted = frozenset(addresses)
    start, end = int(query.get("start", 0)), min(int(query.get("end", blocks.height)), blocks.height)
    seeded = blocks.seeded
    if seeded is not None:
        for number in seeded.numbers(start, end):
            address = seeded.address(number)
            if address in wanted:
                yield seeded.height(number), seeded.txid(number), address, APP_PAYMENT_SATOSHIS
    for height, transaction in blocks.given(start, end):
        for address, satoshis in _moves(transaction):
            if address in wanted:
                yield height, transaction["txid"], address, satoshis


def _moves(transaction: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for source in transaction.get("vin", ()):
        if source.get("address"):
            yield source["address"], -int(source.get("valueSat", 1))
    for output in transaction.get("vout", ()):
        for address in output.get("scriptPubKey", {}).get("addresses", ()):
            yield address, int(output.get("valueSat", 0))
