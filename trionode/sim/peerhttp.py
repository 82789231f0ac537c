"""GETs between simulated nodes: the twin of `sync.source.HttpSource` without sockets.

Only what nodes fetch from each other is served: whether a node has read the whole chain, and its list of
paid messages (docs/spec/registry.md §12). Cut paths and stopped nodes answer as a dead machine does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from trionode.sim.network import VirtualNetwork
from trionode.sync.source import HttpBody, SourceError

if TYPE_CHECKING:
    from trionode.node import NodeCore

HEAD = b'{"status":"success","data":'


class VirtualPeerHttp:
    """`PeerHttp` of the node at `own_ip`; `node_at` finds the process that answers at an address."""

    def __init__(
        self, network: VirtualNetwork, own_ip: str, node_at: Callable[[str, int], NodeCore | None]
    ) -> None:
        self._network = network
        self._own_ip = own_ip
        self._node_at = node_at

    @asynccontextmanager
    async def get(self, ip: str, port: int, path: str) -> AsyncIterator[HttpBody]:
        await trio.sleep(2 * self._network.base_latency_ms(self._own_ip, ip) / 1000)
        node = self._node_at(ip, port)
        there_and_back = ((self._own_ip, ip), (ip, self._own_ip))
        if node is None or any(self._network.blocked(*way) is not None for way in there_and_back):
            raise SourceError(f"cannot talk to {ip}:{port}: connection refused", remedy="ask another peer")
        async with aclosing(_pieces(node, path)) as pieces:
            yield HttpBody(200, "", pieces)


async def _pieces(node: NodeCore, path: str) -> AsyncGenerator[bytes]:
    if path == "/explorer/issynced":
        yield HEAD + (b"true}" if node.explorer.is_synced else b"false}")
    elif path == "/apps/permanentmessages":
        lead = HEAD + b"["
        for row in [row async for row in node.registry_store.stream_permanents()]:
            yield lead + row.json_text().encode()
            lead = b","
        yield (lead if lead != b"," else b"") + b"]}"
    else:
        yield b'{"status":"error","data":{"message":"not served by simulated nodes"}}'
