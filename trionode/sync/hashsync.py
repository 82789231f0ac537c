"""HashSync: when the messages behind payments are fetched, and what follows (docs/spec/registry.md §12).

The first run begins when the chain has been read to its tip and this node may send; it is tried up to
three times. After it the current specifications are made anew and the registry counts as ready. From then
on each block may bring another run: when a retry is due, or when a payment of the block stayed unresolved.
Too few peers take all that back until there are enough again. lifecycle.md §8 has the same as a table.

Published: `hashSync:complete` {attempt, missing}, `hashSync:failed` {attempt, maxRetries, willRetry, error}
for first runs, and for every run `hashSync:run`, which is `SyncReport.document`.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Literal

import trio

from trionode.config.tree import Settings
from trionode.peers.facts import NetworkFacts
from trionode.registry.housekeeping import reset_for_upgrade
from trionode.runtime.bus import Event, EventBus, Subscription
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger
from trionode.sync.bulk import BULK_PEERS, BulkSync
from trionode.sync.hashrun import HashRun
from trionode.sync.newhashes import NewHashes
from trionode.sync.ports import ChainReader, Peers, Registry
from trionode.sync.report import HashSyncStatus, SyncReport
from trionode.sync.source import PeerHttp
from trionode.wire.keys import NodeKey

log = get_logger("hashsync")

VERSION_MARKER = "hashSyncVersion"
PEER_GRACE_S = 15.0
"""Ours: a node that has just started waits that long for peers before it asks those it has."""

BLOCK, SYNCED = "explorer:blocksProcessed", "explorer:synced"
CAPABILITY = "chain:capability"
ENOUGH_PEERS, TOO_FEW_PEERS = "peers:thresholdReached", "peers:belowThreshold"
UNRESOLVED, CHANGED = "registry:hashesUnresolved", "explorer:hashesChanged"
EVENTS = (BLOCK, SYNCED, CAPABILITY, ENOUGH_PEERS, TOO_FEW_PEERS, UNRESOLVED, CHANGED)


class HashSync:
    """The hash sync of a node. Service name "hashsync". `version` is that of the program."""

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
        self._settings = settings.hash_sync
        self._waive_blocks = settings.state_sync.ready_after_blocks
        self._registry = registry
        self._store = registry.store
        self._explorer = explorer
        self._peers = peers
        self._facts = facts
        self._bus = bus
        self._counters = counters
        self._version = version
        self._run = HashRun(
            settings,
            registry=registry,
            peers=peers,
            facts=facts,
            bulk=BulkSync(http, counters, rng),
            counters=counters,
            clock=clock,
            rng=rng,
            key=key,
        )
        self._new_hashes = NewHashes(
            self._settings,
            store=self._store,
            peers=peers,
            counters=counters,
            clock=clock,
            rng=rng,
            key=key,
        )
        self.ready = Gate()
        """Open while the registry is complete enough to act on."""
        self._running = False
        self._wake = trio.Event()
        self._last: SyncReport | None = None
        self._last_error: str | None = None
        self._begin_anew()
        self._block_height: int | None = None
        self._block_due = False
        self._blocks = 0
        self._tip_since_s: float | None = None
        self._requested: Literal["", "due", "force"] = ""

    def _begin_anew(self) -> None:
        """As if nothing had run yet."""
        self.ready.close()
        self._done = False
        self._attempt = 0
        self._retry_at_s: float | None = None
        self._next_retry_height = 0
        self._degraded = False
        self._recovering = False

    # What others ask

    @property
    def status(self) -> HashSyncStatus:
        return HashSyncStatus(
            is_running=self._running,
            left=self._run.left,
            is_done=self._done,
            is_ready=self.ready.is_open,
            is_degraded=self._degraded,
            attempt=self._attempt,
            next_retry_height=self._next_retry_height if self._done else None,
            last_error=self._last_error,
            last=self._last,
        )

    async def sync_missing(
        self, current_height: int | None = None, *, force: bool = False, bulk_peers: int = BULK_PEERS
    ) -> SyncReport:
        """One run, now. While another is under way nothing is done and the report says `skipped`.

        `force` takes in what is not due or given up; with height 0 ladders stay as they are (that is how
        an operator asks). Raises StoreError.
        """
        if self._running:
            return SyncReport(skipped=True)
        self._running = True
        try:
            height = self._height() if current_height is None else current_height
            self._counters.add("hashsync.runs")
            report = await self._run.run(height, force=force, bulk_peers=bulk_peers)
        finally:
            self._running = False
        self._last = report
        self._bus.publish("hashSync:run", report.document())
        for sentence in report.why:
            log.info("hash sync", told=sentence)
        return report

    def request(self, *, force: bool = False) -> None:
        """An operator wants a run, soon; `force`: also for what is given up or not due."""
        self._requested = "force" if force or self._requested == "force" else "due"
        self._wake.set()

    # The service

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sync when it is time, until cancelled."""
        self._begin_anew()
        with self._bus.subscribe(*EVENTS, buffer=256) as news:
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, news)
                nursery.start_soon(self._new_hashes.run)
                await self._work()

    async def _work(self) -> None:
        while True:
            self._wake = trio.Event()
            self._look_at_chain()
            step = self._next_step()
            if step is not None:
                await step()
                continue
            with trio.move_on_at(self._alarm_s()):
                await self._wake.wait()

    async def _listen(self, news: Subscription) -> None:
        async for event in news:
            self._take(event)
            self._wake.set()

    def _take(self, event: Event) -> None:
        if event.name == BLOCK:
            self._on_block(event.data["height"])
        elif event.name == CAPABILITY:
            # tries that are used up: a later gain of the capability gives one more
            if event.data["capable"] and self._attempt >= self._settings.max_retries and not self._done:
                self._retry_at_s = trio.current_time()
        elif event.name == ENOUGH_PEERS:
            if self._degraded:
                self._degraded = False
                self._recovering = True
        elif event.name == TOO_FEW_PEERS:
            # before the first block, and while recovering, there is nothing to take back
            if self._tip_since_s is not None and not self._recovering:
                self._begin_anew()
                self._degraded = True
        elif event.name in (UNRESOLVED, CHANGED) and self._done:
            self._next_retry_height = 0
            if event.name == UNRESOLVED and self._facts.can_send:
                self._new_hashes.ask(self._explorer.scanned_height)

    def _on_block(self, height: int) -> None:
        if not self._degraded:
            self._blocks += 1 if self._block_height is None else height - self._block_height
        self._block_height = height
        self._block_due = True

    def _look_at_chain(self) -> None:
        if self._tip_since_s is None and (self._explorer.is_synced or self._block_height is not None):
            self._tip_since_s = trio.current_time()

    def _height(self) -> int:
        return self._block_height or self._explorer.scanned_height

    # What to do next

    def _next_step(self) -> Callable[[], Awaitable[None]] | None:
        if self._requested:
            return self._requested_run
        if self._degraded or self._tip_since_s is None:
            return None
        if not self._done:
            if self._first_run_due():
                return self._first_run
            return self._rebuild if self._is_waived() else None
        if self._block_due:
            self._block_due = False
            if not self.ready.is_open:
                return self._rebuild
            if self._facts.can_send and self._height() >= self._next_retry_height:
                return self._retry_run
        return None

    def _is_waived(self) -> bool:
        """No tries remain and many blocks have passed: what there is has to do."""
        used_up = self._attempt >= self._settings.max_retries
        late = self._blocks >= self._waive_blocks
        return used_up and late and self._facts.can_send and not self.ready.is_open

    def _first_run_due(self) -> bool:
        if self._recovering and self._attempt == 0:
            return True
        if not self._facts.can_send:
            return False
        if self._attempt:
            return self._retry_at_s is not None and trio.current_time() >= self._retry_at_s
        return self._peers.table.threshold_reached or trio.current_time() >= self._grace_end_s()

    def _grace_end_s(self) -> float:
        assert self._tip_since_s is not None
        return self._tip_since_s + PEER_GRACE_S

    def _alarm_s(self) -> float:
        """When to look again without any news."""
        if self._degraded or self._done or self._tip_since_s is None or not self._facts.can_send:
            return float("inf")
        if self._attempt:
            return float("inf") if self._retry_at_s is None else self._retry_at_s
        return self._grace_end_s()

    # Runs

    async def _first_run(self) -> None:
        self._attempt += 1
        attempt = self._attempt
        self._retry_at_s = None
        self._block_due = False
        height = self._height()
        try:
            await self._reset_for_upgrade(height)
            report = await self.sync_missing(height)
            await self._store.put_meta(VERSION_MARKER, self._version)
        except Exception as error:  # noqa: BLE001 - told, and tried again
            self._failed(attempt, error)
            return
        if self._degraded:
            return  # all peers went meanwhile: it will run again when they are back
        self._last_error = None
        self._recovering = False
        self._done = True
        self._next_retry_height = self._after(report, height)
        await self._rebuild()
        self._bus.publish("hashSync:complete", {"attempt": attempt, "missing": report.missing})

    def _failed(self, attempt: int, error: Exception) -> None:
        if self._degraded:
            return
        will_retry = attempt < self._settings.max_retries
        self._recovering = False
        self._last_error = str(error)
        self._counters.add("hashsync.failed")
        log.error("hash sync failed", attempt=attempt, will_retry=will_retry, exc_info=error)
        if will_retry:
            self._retry_at_s = trio.current_time() + self._settings.retry_s
        self._bus.publish(
            "hashSync:failed",
            {
                "attempt": attempt,
                "maxRetries": self._settings.max_retries,
                "willRetry": will_retry,
                "error": str(error),
            },
        )

    async def _requested_run(self) -> None:
        force, self._requested = self._requested == "force", ""
        await self._run_and_index(0 if force else self._height(), force=force)

    async def _retry_run(self) -> None:
        height = self._height()
        # news that comes while we run must find this undone
        self._next_retry_height = height + self._settings.recheck_blocks
        planned = self._next_retry_height
        report = await self._run_and_index(height)
        if report is not None and self._next_retry_height == planned:
            self._next_retry_height = self._after(report, height)

    async def _run_and_index(self, height: int, *, force: bool = False) -> SyncReport | None:
        """A run after the first one; None when it failed, which the next block may put right."""
        try:
            report = await self.sync_missing(height, force=force)
            if any(outcome.resolved for outcome in report.streamed):
                # what came by the bulk route is stored but not current yet
                await self._registry.reindex()
        except Exception as error:
            self._last_error = str(error)
            self._counters.add("hashsync.failed")
            log.error("hash sync failed", height=height, exc_info=error)
            return None
        self._last_error = None
        return report

    def _after(self, report: SyncReport, height: int) -> int:
        if report.next_retry_height is None:
            return height + self._settings.recheck_blocks
        return report.next_retry_height

    async def _rebuild(self) -> None:
        """Make the current specifications anew; then the registry is ready."""
        try:
            await self._registry.reindex()
        except Exception as error:  # told; a later block tries again
            self._last_error = str(error)
            self._counters.add("hashsync.reindex_failed")
            log.error("the current specifications could not be made anew", exc_info=error)
            # not at once: a store that fails would keep us busy
            self._blocks = self._waive_blocks - 1
            return
        self.ready.open()

    async def _reset_for_upgrade(self, height: int) -> None:
        """A new version of the program may understand what the last one could not."""
        if await self._store.get_meta(VERSION_MARKER) == self._version:
            return
        rows = reset_for_upgrade(await self._store.hashes(missing=True), height)
        if rows:
            await self._store.update_hashes(rows)
