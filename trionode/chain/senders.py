"""Who sent a soft fork message, when the daemon does not say (docs/spec/daemon-rpc.md §5).

With the address index a verbose block names the address of every input. Without it inputs name only the
output they spend; then, and only for a transaction that could be a soft fork message, that output is
looked up. There are a handful of such transactions in the whole chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from trionode.chain.blocks import Block, MalformedAnswer
from trionode.chain.port import ChainRpc
from trionode.chain.scan import PaymentRules, first_address, soft_fork
from trionode.errors import ChainError
from trionode.runtime.counters import Counters

WARMING_UP = -28


async def with_senders(rpc: ChainRpc, block: Block, rules: PaymentRules, counters: Counters) -> Block:
    """`block` with the senders of possible soft fork messages filled in. Raises ChainError."""
    if not any(_needs_senders(one, block.height, rules) for one in block.transactions):
        return block
    filled: list[Mapping[str, Any]] = []
    for one in block.transactions:
        if _needs_senders(one, block.height, rules):
            one = {**one, "vin": [await _named(rpc, source, counters) for source in one["vin"]]}
        filled.append(one)
    return msgspec.structs.replace(block, transactions=tuple(filled))


def _needs_senders(transaction: Mapping[str, Any], height: int, rules: PaymentRules) -> bool:
    """Whether this would be a soft fork message if the multisig address had sent it."""
    sources = transaction.get("vin")
    if not isinstance(sources, list) or not sources or any(_has_address(one) for one in sources):
        return False
    supposed = {**transaction, "vin": [{"address": next(iter(rules.multisig))}]}
    return soft_fork(supposed, height, rules) is not None


def _has_address(source: object) -> bool:
    return not isinstance(source, dict) or "address" in source or not isinstance(source.get("txid"), str)


async def _named(rpc: ChainRpc, source: dict[str, Any], counters: Counters) -> dict[str, Any]:
    """The input with the address of the output it spends, unchanged if the daemon does not know that."""
    try:
        spent = await rpc.call("getrawtransaction", [source["txid"], 1])
    except ChainError as error:
        if isinstance(error.rpc_code, str) or error.rpc_code >= 0 or error.rpc_code == WARMING_UP:
            raise
        counters.add("explorer.unknown_senders")
        return source
    outputs = spent.get("vout") if isinstance(spent, dict) else None
    if not isinstance(outputs, list):
        raise MalformedAnswer(f"getrawtransaction {source['txid']} gave no transaction")
    for output in outputs:
        if isinstance(output, dict) and output.get("n") == source.get("vout"):
            script = output.get("scriptPubKey")
            address = first_address(script) if isinstance(script, dict) else None
            return {**source, "address": address} if address else source
    return source
