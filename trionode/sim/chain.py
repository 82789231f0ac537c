"""VirtualChain: the world's chain as a memory twin, for the simulator and behind the daemon stub.

One object holds the node list, the heights and each node's private faults; `rpc_for(ip)` and
`bench_for(ip)` give the two daemons as that node sees them. Answers follow the stub table of
docs/spec/testnet.md §4.1 (batches work here). Nothing is random and nothing reads a clock: blocks
come from `mine` or from `run_ticker`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec
import trio

from trionode.chain.port import ChainRpc, RpcParams
from trionode.errors import ChainError, ConfigError
from trionode.sim.chainanswers import bench_answer, daemon_answer
from trionode.sim.chainblocks import Blocks, Fate
from trionode.sim.chainfaults import Behaviour, Mode, VirtualRpc
from trionode.sim.chainindex import SeededIndex
from trionode.sim.chainnodes import StubNode, bare_ip
from trionode.sim.chainpayments import SeededPayments
from trionode.wire.nodelist import NodeList

__all__ = ["START_HEIGHT", "Behaviour", "JournalEntry", "Mode", "VirtualChain", "VirtualRpc"]

START_HEIGHT = 2_100_000
JOURNAL_ENTRIES = 10_000
WARMING_UP = -28


class JournalEntry(msgspec.Struct, frozen=True, rename="camel"):
    """One RPC call that arrived, numbered from 1."""

    id: int
    server: str
    method: str
    source_ip: str
    params: tuple[Any, ...]


class VirtualChain:
    """Chain state plus its control operations; all of them are plain synchronous calls.

    Operations that name a node accept its ip (or its address as listed) or "all". `seeded` gives the
    chain app payments without holding them, `ordinary` is the number of other transactions in a block.
    """

    def __init__(
        self,
        nodes: Iterable[StubNode] = (),
        *,
        height: int = START_HEIGHT,
        block_interval_ms: int = 5000,
        seeded: SeededPayments | None = None,
        ordinary: int = 0,
    ) -> None:
        self._initial: dict[str, StubNode] = {node.ip: node for node in nodes}
        self.registry: dict[str, StubNode] = dict(self._initial)
        """Every node ever listed, by address: a removed node still has a status."""
        self._listed: list[str] = list(self._initial)
        self._rows: list[dict[str, Any]] | None = None
        self._built: NodeList | None = None
        self.blocks = Blocks(height, seeded, ordinary)
        self.index = SeededIndex()
        self.block_interval_ms = block_interval_ms
        self.ticker_running = False
        self._ticker_news = trio.Event()
        self.statuses: dict[str, str] = {}
        self.failing: set[str] = set()
        self.behaviours: dict[str, Behaviour] = {}
        self._journal: deque[JournalEntry] = deque(maxlen=JOURNAL_ENTRIES)
        self._calls = 0

    # --- what the nodes see -----------------------------------------------------------------

    def rpc_for(self, ip: str, *, timeout_s: float = 40.0) -> ChainRpc:
        """The chain daemon as the node at `ip` sees it."""
        return self._rpc("daemon", ip, timeout_s)

    def bench_for(self, ip: str, *, timeout_s: float = 10.0) -> ChainRpc:
        """The benchmark daemon as the node at `ip` sees it."""
        return self._rpc("bench", ip, timeout_s)

    def _rpc(self, server: str, ip: str, timeout_s: float) -> ChainRpc:
        def answer(method: str, params: RpcParams) -> Any:
            return self.answer(server, ip, method, params)

        return VirtualRpc(server, answer, lambda: self.behaviour_of(ip), timeout_s)

    def answer(self, server: str, ip: str, method: str, params: RpcParams) -> Any:
        """Result of one call, journaled. Raises ChainError as the daemon would report it."""
        self._calls += 1
        self._journal.append(JournalEntry(self._calls, server, method, ip, tuple(params)))
        node = self.find(ip)
        if self._keys(ip) & self.failing:
            raise ChainError("Loading block index...", rpc_code=WARMING_UP)
        if server == "bench":
            return bench_answer(node, ip, method, params)
        return daemon_answer(self, node, method, params)

    def behaviour_of(self, ip: str) -> Behaviour:
        """The behaviour towards `ip`: its own, else the one for all."""
        for key in (ip, bare_ip(ip), "all"):
            if key in self.behaviours:
                return self.behaviours[key]
        return Behaviour()

    def build_nodes(self, rows: list[Any]) -> NodeList:
        """NodeList of `rows`, built once per revision of the list and shared by all its readers."""
        if rows is not self._rows:
            return NodeList.from_rpc(rows)
        if self._built is None:
            self._built = NodeList.from_rpc(rows)
        return self._built

    def rows(self) -> list[dict[str, Any]]:
        """The node list as the RPC gives it; the same object until it changes."""
        if self._rows is None:
            self._rows = [
                self.registry[address].row(rank) for rank, address in enumerate(self._listed, start=1)
            ]
            self._built = None
        return self._rows

    def find(self, ip: str) -> StubNode | None:
        """The node with this address, else the first one at this ip, listed or not."""
        if ip in self.registry:
            return self.registry[ip]
        bare = bare_ip(ip)
        return next((node for node in self.registry.values() if bare_ip(node.ip) == bare), None)

    def status_of(self, node: StubNode) -> str:
        """CONFIRMED unless overridden for the node or for all."""
        for key in (node.ip, bare_ip(node.ip), "all"):
            if key in self.statuses:
                return self.statuses[key]
        return "CONFIRMED"

    # --- node list --------------------------------------------------------------------------

    def set_nodes(self, nodes: Iterable[StubNode]) -> None:
        """Replace the list; it is also what `reset_nodes` returns to."""
        self._initial = {node.ip: node for node in nodes}
        self.registry = dict(self._initial)
        self._listed = list(self._initial)
        self._rows = None

    def add_node(self, node: StubNode) -> None:
        """List one more node (at the end), or replace the one with its address."""
        self._initial[node.ip] = node
        self.registry[node.ip] = node
        if node.ip not in self._listed:
            self._listed.append(node.ip)
        self._rows = None

    def remove_node(self, ip: str) -> int:
        """Take a node (or all) off the list; how many went."""
        addresses = self._addresses(ip)
        before = len(self._listed)
        self._listed = [address for address in self._listed if address not in addresses]
        self._rows = None
        return before - len(self._listed)

    def restore_node(self, ip: str) -> int:
        """Put removed nodes back at the end of the list; how many came."""
        missing = [address for address in self._addresses(ip) if address not in self._listed]
        self._listed.extend(missing)
        self._rows = None
        return len(missing)

    def reset_nodes(self) -> None:
        """Back to the list as it was given, tiers included."""
        self.registry = dict(self._initial)
        self._listed = list(self._initial)
        self._rows = None

    def set_tier(self, ip: str, tier: str) -> int:
        """Change the tier of a node (or all); how many. Raises ConfigError for an unknown tier."""
        addresses = self._addresses(ip)
        for address in addresses:
            self.registry[address] = self.registry[address].with_tier(tier)
        self._rows = None
        return len(addresses)

    def set_secure(self, ip: str, *, secure: bool) -> int:
        """Whether the benchmark of a node (or of all) calls its system locked down; how many."""
        addresses = self._addresses(ip)
        for address in addresses:
            self.registry[address] = msgspec.structs.replace(self.registry[address], secure=secure)
        return len(addresses)

    # --- faults -----------------------------------------------------------------------------

    def set_status(self, ip: str, status: str) -> None:
        """Answer `status` (CONFIRMED, STARTED, EXPIRED...) to getzelnodestatus of a node or all."""
        if ip == "all":
            self.statuses.clear()
        self.statuses[ip] = status

    def clear_status(self, ip: str = "all") -> None:
        """Back to CONFIRMED, for one node or for all."""
        _forget(self.statuses, ip)

    def unconfirm(self, ip: str) -> None:
        self.set_status(ip, "EXPIRED")

    def confirm(self, ip: str) -> None:
        self.clear_status(ip)

    def fail(self, ip: str = "all") -> None:
        """Answer every call of a node (or all) with the warming-up error -28."""
        self.failing.add(ip)

    def recover(self, ip: str = "all") -> None:
        """End `fail`; "all" ends it for everybody."""
        if ip == "all":
            self.failing.clear()
        self.failing -= self._keys(ip) - {"all"}

    def behave(self, ip: str, mode: Mode, delay_ms: int = 0) -> None:
        """Behave in this way towards a node, or towards all (which forgets the single ones)."""
        if ip == "all":
            self.behaviours.clear()
        self.behaviours[ip] = Behaviour(mode, delay_ms)

    # --- blocks -----------------------------------------------------------------------------

    @property
    def height(self) -> int:
        return self.blocks.height

    def mine(self, count: int = 1) -> int:
        """Add blocks (queued app transactions go into the first); the new height."""
        for _ in range(count):
            self.blocks.mine()
        return self.blocks.height

    def set_height(self, height: int) -> None:
        """Move the tip, also backwards."""
        self.blocks.set_height(height)

    def reorg(self, depth: int, *, extra: int = 1, fate: Fate = "shift") -> int:
        """Replace the last `depth` blocks by `depth + extra` others; see `Blocks.reorg`."""
        return self.blocks.reorg(depth, extra=extra, fate=fate)

    def start_ticker(self) -> None:
        self.ticker_running = True
        self._ticker_news.set()

    def stop_ticker(self) -> None:
        self.ticker_running = False
        self._ticker_news.set()

    async def run_ticker(self) -> None:
        """Mine a block every `block_interval_ms` while the ticker is started; for ever."""
        while True:
            self._ticker_news = trio.Event()
            if not self.ticker_running:
                await self._ticker_news.wait()
                continue
            with trio.move_on_after(self.block_interval_ms / 1000):
                await self._ticker_news.wait()
                continue
            self.mine()

    # --- book-keeping -----------------------------------------------------------------------

    def reset(self) -> None:
        """Everything but height, ticker and tiers: list, overrides, failures, queue, blocks, journal."""
        tiers = {address: node.tier for address, node in self.registry.items()}
        self.reset_nodes()
        for address, tier in tiers.items():
            if address in self.registry:
                self.registry[address] = self.registry[address].with_tier(tier)
        self.statuses.clear()
        self.failing.clear()
        self.behaviours.clear()
        self.blocks.forget()
        self.index.clear()
        self.clear_journal()

    def journal(
        self, method: str | None = None, source_ip: str | None = None, limit: int | None = None
    ) -> list[JournalEntry]:
        """The remembered calls, oldest first, filtered; `limit` keeps the newest ones."""
        found = [
            entry
            for entry in self._journal
            if method in (None, entry.method) and source_ip in (None, entry.source_ip)
        ]
        return found if limit is None else found[max(0, len(found) - limit) :]

    def clear_journal(self) -> None:
        self._journal.clear()

    def state(self) -> dict[str, Any]:
        """The control API's `GET /state`."""
        return {
            "currentHeight": self.height,
            "nodeCount": len(self._listed),
            "pendingBlocks": len(self.blocks.pending),
            "pendingAppTxQueue": list(self.blocks.app_queue),
            "blockIntervalMs": self.block_interval_ms,
            "tickerRunning": self.ticker_running,
            "statusOverrides": dict(self.statuses),
            "rpcFailures": sorted(self.failing),
            "behaviours": {
                ip: {"mode": b.mode.value, "delayMs": b.delay_ms} for ip, b in self.behaviours.items()
            },
        }

    def _keys(self, ip: str) -> set[str]:
        return {ip, bare_ip(ip), "all"}

    def _addresses(self, ip: str) -> list[str]:
        if ip == "all":
            return list(self.registry)
        node = self.find(ip)
        if node is None:
            raise ConfigError(
                f"no node {ip!r} in the stub's registry", remedy="name a node of the list, or all"
            )
        return [node.ip]


def _forget(overrides: dict[str, str], ip: str) -> None:
    if ip == "all":
        overrides.clear()
    else:
        for key in {ip, bare_ip(ip)}:
            overrides.pop(key, None)
