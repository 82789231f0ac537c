"""The node-list service: who is in the network, and under which key (lifecycle.md §7, wire.md §13).

The first fetch is repeated until it gives a non-empty list; then each new height asks for a
refresh, at most one per `node_list_min_interval_s` with at most one more waiting. A failed or
empty refresh keeps the old list. Published: `chain:nodes` {count} after each new list.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from trionode.chain.port import ChainRpc
from trionode.config.tree import ChainSettings
from trionode.errors import ChainError, WireError
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.wire.nodelist import NodeList

METHOD = "viewdeterministiczelnodelist"

NodeListBuilder = Callable[[list[Any]], NodeList]


class NodeListService:
    """Holds the present `NodeList`, swapped whole when a new one has been built."""

    def __init__(
        self,
        settings: ChainSettings,
        daemon: ChainRpc,
        bus: EventBus,
        counters: Counters,
        on_new_list: Callable[[], Awaitable[None]],
        build: NodeListBuilder = NodeList.from_rpc,
    ) -> None:
        self._settings = settings
        self._daemon = daemon
        self._bus = bus
        self._counters = counters
        self._on_new_list = on_new_list
        self._build = build
        self.nodes = build([])
        self.populated = Gate()

    async def run(self) -> None:
        """Fetch until there is a list, then follow the heights."""
        with self._bus.subscribe("chain:height", buffer=1) as heights:
            while not await self.refresh():  # noqa: ASYNC110 - a daemon sends no event to wait for
                await trio.sleep(self._settings.node_list_retry_s)
            while True:
                refreshed_s = trio.current_time()
                # The subscription holds one height: news during the pause or the fetch is the one
                # queued refresh, however many blocks it was.
                await trio.sleep_until(refreshed_s + self._settings.node_list_min_interval_s)
                await heights.receive()
                await self.refresh()

    async def refresh(self) -> bool:
        """Fetch the list once; False when it failed or was empty and the old one stays."""
        try:
            rows = await self._daemon.call(METHOD, fresh=True)
            if not isinstance(rows, list):
                raise ChainError(f"{METHOD} gave {type(rows).__name__} instead of a list")
            nodes = self._build(rows)
        except (ChainError, WireError):
            self._counters.add("chain.nodelist.failed")
            return False
        if not len(nodes):
            self._counters.add("chain.nodelist.empty")
            return False
        self.nodes = nodes
        self._counters.add("chain.nodelist.refreshed")
        self.populated.open()
        self._bus.publish("chain:nodes", {"count": len(nodes)})
        await self._on_new_list()
        return True
