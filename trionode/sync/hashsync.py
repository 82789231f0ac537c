"""HashSync: runs that fetch the messages behind payments, and what goes with them (registry.md §12).

It is the engine; when it runs, and what follows from how a run ended, is the orchestrator's business
(`sync.orchestrator`). A first run also looks whether the version of the program has changed: a new one may
understand what the last one could not. Published for every run: `hashSync:run`, `SyncReport.document`.
"""

from __future__ import annotations

import random

import trio

from trionode.chain.progress import Progress
from trionode.config.tree import Settings
from trionode.peers.facts import NetworkFacts
from trionode.registry.housekeeping import reset_for_upgrade
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.sync.bulk import BULK_PEERS, BulkSync
from trionode.sync.hashrun import HashRun
from trionode.sync.newhashes import NewHashes
from trionode.sync.ports import ChainReader, Peers, Registry
from trionode.sync.report import SyncReport
from trionode.sync.rounds import Asked
from trionode.sync.source import PeerHttp
from trionode.wire.keys import NodeKey

log = get_logger("hashsync")

VERSION_MARKER = "hashSyncVersion"
ON_THE_WAY_S = 10.0
"""A request may reach its peer so much later than the one before it did."""


class HashSync:
    """Service "hashsync": asks for the messages of new blocks. `version` is that of the program."""

    name = "hashsync"

    def __init__(
        self,
        settings: Settings,
        *,
        registry: Registry,
        explorer: ChainReader,
        peers: Peers,
        facts: NetworkFacts,
        http: PeerHttp,
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
        rng: random.Random,
        key: NodeKey,
        version: str,
    ) -> None:
        self._registry = registry
        self._store = registry.store
        self._explorer = explorer
        self._bus = bus
        self._counters = counters
        self._version = version
        gossip = settings.gossip
        acceptable_s = (gossip.max_age_ms + gossip.max_future_ms) / 1000
        asked = Asked(peers, max(gossip.cache_ttl_s, acceptable_s) + ON_THE_WAY_S)
        self._run = HashRun(
            settings,
            registry=registry,
            peers=peers,
            facts=facts,
            bulk=BulkSync(http, counters, rng),
            asked=asked,
            counters=counters,
            clock=clock,
            rng=rng,
            key=key,
        )
        self._new_hashes = NewHashes(
            settings.hash_sync,
            store=self._store,
            peers=peers,
            asked=asked,
            counters=counters,
            clock=clock,
            rng=rng,
            key=key,
        )
        self.is_running = False
        self.last: SyncReport | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask for the messages of new blocks until cancelled."""
        task_status.started()
        await self._new_hashes.run()

    def ask_for_new(self) -> None:
        """There are payments of the newest block whose message is not here."""
        self._new_hashes.ask(self._explorer.scanned_height)

    @property
    def left(self) -> int:
        """Messages that the run under way still misses."""
        return self._run.left

    @property
    def progress(self) -> Progress | None:
        """How far the run under way is, and its pace."""
        return self._run.progress

    async def sync_missing(
        self, current_height: int | None = None, *, force: bool = False, bulk_peers: int = BULK_PEERS
    ) -> SyncReport:
        """One run, now. While another is under way nothing is done and the report says `skipped`.

        `force` takes in what is not due or given up; with height 0 ladders stay as they are (that is how
        an operator asks). Raises StoreError.
        """
        if self.is_running:
            return SyncReport(skipped=True)
        self.is_running = True
        try:
            height = self._explorer.scanned_height if current_height is None else current_height
            self._counters.add("hashsync.runs")
            report = await self._run.run(height, force=force, bulk_peers=bulk_peers)
        finally:
            self.is_running = False
        self.last = report
        self._bus.publish("hashSync:run", report.document())
        for sentence in report.why:
            log.info("hash sync", told=sentence)
        return report

    async def first_run(self, height: int) -> SyncReport:
        """The run after which the registry counts as complete. Raises StoreError."""
        await self._reset_for_upgrade(height)
        report = await self.sync_missing(height)
        await self._store.put_meta(VERSION_MARKER, self._version)
        return report

    async def later_run(self, height: int, *, force: bool = False) -> SyncReport:
        """A run after the first one: what came by the bulk route is in force at its end too."""
        report = await self.sync_missing(height, force=force)
        if any(outcome.resolved for outcome in report.streamed):
            await self._registry.reindex()
        return report

    async def rebuild(self) -> int | None:
        """Make the current specifications anew from all messages; None: that is going on already."""
        return await self._registry.reindex()

    async def _reset_for_upgrade(self, height: int) -> None:
        if await self._store.get_meta(VERSION_MARKER) == self._version:
            return
        rows = reset_for_upgrade(await self._store.hashes(missing=True), height)
        if rows:
            await self._store.update_hashes(rows)
