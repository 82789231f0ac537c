"""The chain daemon as an observer has it: none. What the majority told answers the few questions it can.

`chain.port.ChainRpc` for the routes under /daemon/ and /flux/info; everything else is an error that says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from trionode.chain.port import RpcParams
from trionode.errors import ChainError
from trionode.observer.facts import ObservedFacts

LIST_METHODS = frozenset({"listfluxnodes", "viewdeterministiczelnodelist"})


class NoDaemon(ChainError):
    """An observer was asked for something that only a chain daemon knows."""

    def __init__(self, method: str) -> None:
        super().__init__(
            f"an observer has no daemon to answer {method}", remedy="ask a node", rpc_code="ENODAEMON"
        )


class ObservedDaemon:
    """Answers from the facts that a majority agreed on."""

    def __init__(self, facts: ObservedFacts) -> None:
        self._facts = facts

    async def call(self, method: str, params: RpcParams = (), *, fresh: bool = False) -> Any:
        """Raises ChainError for all that is not known."""
        facts = self._facts
        if method in LIST_METHODS and facts.nodes_agreed_s is not None:
            wanted = str(params[0]) if params else ""
            rows = [msgspec.to_builtins(entry) for entry in facts.nodes]
            return [row for row in rows if not wanted or any(wanted in str(value) for value in row.values())]
        if method == "getblockcount" and facts.height_agreed_s is not None:
            return facts.height
        if method == "getblockchaininfo" and facts.height_agreed_s is not None:
            return {"blocks": facts.height, "headers": facts.headers}
        raise NoDaemon(method)

    async def batch(self, calls: Sequence[tuple[str, RpcParams]]) -> list[Any]:
        """Never: there is nobody to ask."""
        raise NoDaemon("a batch of calls")
