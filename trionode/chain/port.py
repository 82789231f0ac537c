"""The chain seam: JSON-RPC to the chain daemon and to the benchmark daemon (daemon-rpc.md §2).

Implementations: `chain.rpc.HttpRpc` (real) and `sim.chain.VirtualChain` (memory twin, also served
over HTTP by the daemon stub).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

RpcParams = Sequence[Any]


class ChainRpc(Protocol):
    """Calls of one daemon, on behalf of one node."""

    async def call(self, method: str, params: RpcParams = (), *, fresh: bool = False) -> Any:
        """Result of one call; `fresh` passes by the cache (daemon-rpc.md §3).

        Raises ChainError with the daemon's code or a transport name such as "ECONNREFUSED".
        """
        ...

    async def batch(self, calls: Sequence[tuple[str, RpcParams]]) -> list[Any]:
        """Results in the order of `calls`; a failed item is a ChainError instance in its place.

        Never cached. Raises ChainError when the whole batch got no usable answer.
        """
        ...
