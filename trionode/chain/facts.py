"""ChainFacts: what the node knows from its two daemons, as one supervised service named "chain".

It composes the chain-info poll, the confirmation poll, the node list and the own address
(docs/spec/daemon-rpc.md §4, §6; lifecycle.md §6, §7), and is the `NetworkFacts` of the peers.
Whoever must act on a change subscribes to the bus: `chain:height`, `chain:nodes`, `chain:address`,
`chain:capability`, `confirmation:changed`, `daemon:*`.
"""

from __future__ import annotations

import trio

from trionode.chain.confirmation import Confirmation
from trionode.chain.nodelist import NodeListBuilder, NodeListService
from trionode.chain.poll import ChainInfo
from trionode.chain.port import ChainRpc
from trionode.config.tree import ChainSettings
from trionode.errors import ChainError
from trionode.lifecycle.confirmation import ConfirmationState
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.wire.nodelist import NodeList

SHORTEST_ADDRESS = 6


class ChainFacts:
    """Present facts as plain properties, kept current by `run`.

    `public_key`: our own, hex, as it stands in the node list. `address`: overrides what the
    benchmark daemon says. `build_nodes`: how rows become a NodeList (the simulator shares them).
    """

    name = "chain"

    def __init__(
        self,
        settings: ChainSettings,
        daemon: ChainRpc,
        bench: ChainRpc,
        bus: EventBus,
        counters: Counters,
        *,
        public_key: str,
        address: str = "",
        build_nodes: NodeListBuilder = NodeList.from_rpc,
    ) -> None:
        self._bench = bench
        self._bus = bus
        self._counters = counters
        self._public_key = public_key
        self._fixed_address = address
        self._own_address: str | None = address or None
        self._info = ChainInfo(settings, daemon, bus, counters)
        self._confirmation = Confirmation(settings, daemon, bus, counters, self._is_listed)
        self._node_list = NodeListService(
            settings, daemon, bus, counters, self._confirmation.recheck, build_nodes
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Poll until cancelled. Ready at once: a node starts, and says so, without its daemons."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._info.run, name="chain info poll")
            nursery.start_soon(self._confirmation.run, name="confirmation poll")
            nursery.start_soon(self._node_list.run, name="node list")
            task_status.started()

    @property
    def nodes(self) -> NodeList:
        """The present node list; empty until the first one arrived."""
        return self._node_list.nodes

    @property
    def own_address(self) -> str | None:
        """Our public address as the network lists it (`ip` or `ip:port`), None while unknown."""
        return self._own_address

    @property
    def height(self) -> int:
        """Block height of the daemon, 0 before its first answer."""
        return self._info.height

    @property
    def headers(self) -> int:
        """The highest header count seen."""
        return self._info.headers

    @property
    def synced(self) -> bool:
        return self._info.synced

    @property
    def confirmed(self) -> bool:
        """Confirmed by the chain; False also before it is known (see `confirmation`)."""
        return self._confirmation.state.confirmed is True

    @property
    def can_send(self) -> bool:
        """Message capability: confirmed, and listed with our own key at our own address."""
        return self._confirmation.state.can_send

    @property
    def confirmation(self) -> ConfirmationState:
        """The confirmation with all its shades (unknown, stale, time of the last answer)."""
        return self._confirmation.state

    @property
    def daemon_reachable(self) -> bool | None:
        """Whether the last poll was answered; None before the first one ended."""
        return self._info.reachable

    @property
    def last_error(self) -> str | None:
        """Why the last chain-info poll failed, None if it did not."""
        error = self._info.last_error
        return None if error is None else f"[{error.rpc_code}] {error.one_line()}"

    @property
    def daemon_ready_gate(self) -> Gate:
        """Opens with the first answer of the chain daemon and stays open."""
        return self._info.known

    @property
    def populated_gate(self) -> Gate:
        """Opens when there is a node list and stays open."""
        return self._node_list.populated

    @property
    def status_known_gate(self) -> Gate:
        """Opens with the first answer to whether we are confirmed, and stays open."""
        return self._confirmation.answered

    @property
    def confirmed_gate(self) -> Gate:
        return self._confirmation.confirmed

    @property
    def can_send_gate(self) -> Gate:
        return self._confirmation.can_send

    async def refresh_nodes(self) -> bool:
        """Fetch the node list now, outside of its rhythm (operator's wish, tests)."""
        return await self._node_list.refresh()

    async def _is_listed(self) -> bool:
        address = await self._current_address()
        if address is None or not self._public_key:
            return False
        entry = self.nodes.by_address(address)
        return entry is not None and entry.pubkey == self._public_key

    async def _current_address(self) -> str | None:
        if self._fixed_address:
            return self._fixed_address
        try:
            answer = await self._bench.call("getbenchmarks", fresh=True)
        except ChainError:
            self._counters.add("chain.bench.failed")
            answer = None
        address = answer.get("ipaddress") if isinstance(answer, dict) else None
        known = address if isinstance(address, str) and len(address) >= SHORTEST_ADDRESS else None
        if known != self._own_address:
            self._own_address = known
            self._bus.publish("chain:address", {"address": known})
        return known
