"""Explorer: reads the chain for app payments and prices, keeps its place, follows the tip.

Facts: docs/spec/registry.md §9, docs/spec/daemon-rpc.md §5. Service name "explorer".

Rows, soft fork messages, block hashes and the scanned height reach the store in one commit, so after a
crash the service goes on exactly where the store is. A far-behind node reads the address index first
(chain.bootstrap) up to 100 blocks below the tip and the rest block by block, so that it knows the hashes
of the last 100 blocks; a block that does not continue them leads back to the fork point (chain.reorg).
Whatever goes wrong with the daemon is counted by name and tried again: nothing is ever passed over.

Published: `explorer:ready` {height} once, `block:processed` {height} at the tip and at each 500th block
while catching up, `explorer:blocksProcessed` {height} at the tip, `explorer:synced` {height} on
reaching it, `explorer:progress` (chain.progress), `explorer:hashes` {height, count} for new rows,
`explorer:reorg` {height, depth}, `explorer:hashesChanged` {changed}.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from trionode.chain.blockhooks import CATCH_UP_BLOCKS, BlockHooks, due_at
from trionode.chain.blocks import Block, MalformedAnswer, fetch_blocks, fetch_hash, fetch_tip
from trionode.chain.bootstrap import Bootstrap, BootstrapFailed, Found
from trionode.chain.explorerstate import ExplorerError, ExplorerStatus, IndexTrust, TipFacts
from trionode.chain.ledger import Ledger
from trionode.chain.port import ChainRpc
from trionode.chain.progress import Progress, ProgressMeter
from trionode.chain.reorg import BLIND_REWIND_BLOCKS, WINDOW_BLOCKS, fork_height
from trionode.chain.scan import PaymentRules, PriceBuilder, minimum_prices, scan_block
from trionode.chain.senders import with_senders
from trionode.config.tree import Settings
from trionode.errors import ChainError
from trionode.registry.rows import HashRow
from trionode.runtime.backoff import Backoff
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.store.registry_port import RegistryStore

EMPTY_HEIGHTS = range(699_421, 862_002)
"""Blocks in which nobody paid for an app: the scan jumps over them."""
PREFETCH_BLOCKS = 16
PROGRESS_INTERVAL_S = 1.0
LAG_BLOCKS = 5
"""Further behind than this, a node that had reached the tip is not synced any more."""


class Explorer:
    """The explorer service. `prices`: the minimum price for the soft fork messages known, if not §7's.

    `has_address_index`: the daemon runs with insightexplorer=1 (daemon-rpc.md §1).
    """

    name = "explorer"

    def __init__(
        self,
        settings: Settings,
        rpc: ChainRpc,
        store: RegistryStore,
        facts: TipFacts,
        bus: EventBus,
        counters: Counters,
        *,
        prices: PriceBuilder | None = None,
        hooks: BlockHooks | None = None,
        has_address_index: bool = True,
    ) -> None:
        self._settings = settings.explorer
        self._rpc = rpc
        self._facts = facts
        self._bus = bus
        self._counters = counters
        self._hooks = hooks or BlockHooks()
        self._rules = PaymentRules.from_settings(settings.economy, settings.explorer)
        self._prices = prices or minimum_prices(settings.economy)
        self._ledger = Ledger(store, self._prices)
        self._backoff = Backoff(
            base_s=self._settings.tip_interval_s, cap_s=self._settings.sync_retry_s, jitter=0.0
        )
        self._index = IndexTrust(available=has_address_index)
        self._seen_tip = -1
        self._ready_told = False
        self._turn = trio.Lock()
        self._callers = 0
        self._enabled = Gate(is_open=True)
        self._reading: trio.CancelScope | None = None
        self._meter: ProgressMeter | None = None
        self._told_progress_s = 0.0
        self.progress: Progress | None = None
        self.is_synced = False
        """The last block read was the tip of the daemon's chain."""
        self.last_error: ChainError | None = None

    # --- for others ---------------------------------------------------------------------------

    @property
    def scanned_height(self) -> int:
        """All blocks up to it are read and stored."""
        return self._ledger.stored_height

    @property
    def status(self) -> ExplorerStatus:
        error = self.last_error
        return ExplorerStatus(
            scanned_height=self.scanned_height,
            tip_height=max(self._facts.height, self._seen_tip, 0),
            is_synced=self.is_synced,
            paused=not self._enabled.is_open,
            progress=self.progress,
            last_error=None if error is None else f"[{error.rpc_code}] {error.one_line()}",
        )

    async def rescan(self, height: int, *, apps: bool = False) -> None:
        """Forget what came from blocks above `height` and read them again; 0 is a whole reindex.

        `apps` forgets the messages and current specs of those blocks too. Raises ExplorerError.
        """
        if not 0 <= height < max(1, self._ledger.height):
            raise ExplorerError(
                f"cannot rescan from height {height}: blocks up to {self._ledger.height} are read",
                remedy="give a height below the scanned one",
            )
        async with self._between_steps():
            self._counters.add("explorer.rescans")
            await self._rewind(height, apps=apps)
            self._seen_tip = -1
            self._index.forget()
        self._bus.publish("explorer:control", {"wish": "rescan", "height": height})

    async def pause(self) -> None:
        """Stop reading after the block under way; `resume` goes on."""
        self._enabled.close()
        async with self._between_steps():
            self.progress = None

    def resume(self) -> None:
        """Go on reading."""
        self._seen_tip = -1
        self._enabled.open()
        self._bus.publish("explorer:control", {"wish": "resume"})

    @asynccontextmanager
    async def _between_steps(self) -> AsyncIterator[None]:
        """Interrupt what is being fetched and hold the service until the block is left."""
        self._callers += 1
        try:
            if self._reading is not None:
                self._reading.cancel()
            async with self._turn:
                yield
        finally:
            self._callers -= 1

    @property
    def _may_go_on(self) -> bool:
        return self._enabled.is_open and not self._callers and self._facts.synced

    # --- the service --------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read for ever. Ready as soon as the store has told where to go on."""
        await self._ledger.load()
        self._seen_tip = -1
        self._meter = self.progress = None
        self.is_synced = False
        await self._hooks.on_chain_messages(self._ledger.chain_messages)
        task_status.started()
        failures = 0
        while True:
            await self._work_to_do()
            height = self._ledger.height
            try:
                async with self._turn:
                    if self._enabled.is_open:
                        await self._advance()
            except ChainError as error:
                failures = 1 if self._ledger.height != height else failures + 1
                self._note(error)
                await self._recovery(self._backoff.nominal_s(failures))
            else:
                failures = 0
                self.last_error = None

    async def _work_to_do(self) -> None:
        """Wait until the daemon is synced and its height is another than when we last looked."""
        with self._bus.subscribe("chain:height", "daemon:polled", "explorer:control", buffer=4) as news:
            while True:
                await self._enabled.wait()
                if self._facts.synced and self._facts.height != self._seen_tip:
                    return
                await news.receive()

    async def _recovery(self, longest_s: float) -> None:
        """Wait before the next try, at most until the daemon is back."""
        with trio.move_on_after(longest_s), self._bus.subscribe("daemon:recovered", buffer=1) as news:
            await news.receive()

    def _note(self, error: ChainError) -> None:
        self.last_error = error
        self._counters.add(f"explorer.failed.{error.code}.{error.rpc_code}")

    # --- one step: from where we are to the tip --------------------------------------------------

    async def _advance(self) -> None:
        polled = self._facts.height
        while self._may_go_on:
            with trio.CancelScope() as self._reading:
                tip = await fetch_tip(self._rpc)
            if self._reading.cancelled_caught:
                return
            if not self._ready_told:
                await self._begin(tip)
            if tip <= self._ledger.height:
                await self._check_chain(tip)
                if tip <= self._ledger.height:
                    if tip == self._ledger.height:
                        self._reached_tip()
                    self._seen_tip = polled
                    return
            await self._towards(tip)

    async def _begin(self, tip: int) -> None:
        """First contact: is what is stored still part of the chain?"""
        height = self._ledger.height
        if height and self._ledger.window:
            await self._check_chain(tip)
        elif height and tip > height and self._settings.restore_blocks:
            # Nothing to compare with (another node's data): read the last blocks again.
            await self._rewind(max(0, height - self._settings.restore_blocks))
        self._ready_told = True
        self._bus.publish("explorer:ready", {"height": self._ledger.height})

    async def _check_chain(self, tip: int) -> None:
        """Compare the newest block we can with the daemon's; go back if it is another one."""
        heights = [height for height in self._ledger.window.heights if height <= tip]
        if heights and await fetch_hash(self._rpc, heights[-1]) != self._ledger.window.hash_at(heights[-1]):
            await self._reorganise(tip)

    async def _towards(self, tip: int) -> None:
        """Some way towards `tip`: the address index if it is far, else a few blocks."""
        height = max(self._ledger.height, self._settings.first_height - 1)
        if tip <= height:
            # Younger than the first app: nothing to read.
            await self._ledger.jump(tip)
            return
        with trio.CancelScope() as self._reading:
            if self._index.worth_asking(height, tip):
                await self._bootstrap(height + 1, tip - WINDOW_BLOCKS)
                return
        if not self._reading.cancelled_caught:
            await self._scan(height + 1, tip)

    async def _scan(self, first: int, tip: int) -> None:
        if self._meter is None or self._meter.phase != "scan" or self._meter.total < tip:
            self._meter = ProgressMeter("scan", tip, trio.current_time(), first - 1)
            self.is_synced = self.is_synced and tip - first < LAG_BLOCKS
        while first <= tip and self._may_go_on:
            if first in EMPTY_HEIGHTS:
                first = EMPTY_HEIGHTS.stop
                await self._ledger.jump(min(first - 1, tip))
                continue
            stop = tip + 1 if first > EMPTY_HEIGHTS.start else min(tip + 1, EMPTY_HEIGHTS.start)
            heights = range(first, min(first + PREFETCH_BLOCKS, stop))
            with trio.CancelScope() as self._reading:
                blocks, failure = await fetch_blocks(self._rpc, heights)
            if self._reading.cancelled_caught:
                return
            for block in blocks:
                if not self._ledger.window.follows(block.height, block.previous_hash):
                    await self._reorganise(tip)
                    return
                await self._take(block, tip)
                first = block.height + 1
            self._tell(first - 1)
            if failure is not None:
                raise failure  # what was read stays gathered

    async def _take(self, block: Block, tip: int) -> None:
        block = await with_senders(self._rpc, block, self._rules, self._counters)
        found = scan_block(block.transactions, block.height, self._rules, self._ledger.minimum_price)
        self._ledger.add_block(block.height, block.hash, found)
        self._counters.add("explorer.blocks")
        if found.chain_messages:
            await self._hooks.on_chain_messages(self._ledger.chain_messages)
        if block.height == tip:
            await self._finish_tip_block(block.height, await self._ledger.flush())
        elif block.height % CATCH_UP_BLOCKS == 0:
            self._tell_rows(block.height, await self._ledger.flush())
            if due_at(block.height, self._settings, at_tip=False).expire:
                await self._hooks.on_expire(block.height)
            self._bus.publish("block:processed", {"height": block.height})

    async def _finish_tip_block(self, height: int, rows: Sequence[HashRow]) -> None:
        self._tell_rows(height, rows)
        self._reached_tip()
        self._bus.publish("explorer:blocksProcessed", {"height": height})
        due = due_at(height, self._settings, at_tip=True)
        if due.expire:
            await self._hooks.on_expire(height)
        if due.reconstruct:
            changed = await self._hooks.on_reconstruct(height)
            if changed:
                self._bus.publish("explorer:hashesChanged", {"changed": changed})
        if rows:
            await self._hooks.on_hashes(rows)
        await self._hooks.on_block(height)
        self._bus.publish("block:processed", {"height": height})

    def _tell_rows(self, height: int, rows: Sequence[HashRow]) -> None:
        if rows:
            self._counters.add("explorer.hashes", len(rows))
            self._bus.publish("explorer:hashes", {"height": height, "count": len(rows)})

    def _reached_tip(self) -> None:
        if not self.is_synced:
            self._tell(self._ledger.height)
            self.is_synced = True
            self._bus.publish("explorer:synced", {"height": self._ledger.height})
        self._meter = None
        self.progress = None

    # --- bootstrap ----------------------------------------------------------------------------

    async def _bootstrap(self, first: int, last: int) -> None:
        anchor = await fetch_hash(self._rpc, last)
        self.is_synced = False
        self._meter = None
        run = Bootstrap(
            self._rpc,
            self._rules,
            self._prices,
            self._counters,
            keep=self._keep,
            tell=self._tell_bootstrap,
            known_messages=self._ledger.chain_messages,
        )
        try:
            await run.run(first, last)
        except BootstrapFailed as error:
            self._counters.add(f"explorer.bootstrap_failed.{error.code}")
            if self._index.failed(error, self._ledger.height):
                self._counters.add("explorer.fell_back_to_blocks")
            raise
        if await fetch_hash(self._rpc, last) != anchor:
            await self._rewind(first - 1)
            raise MalformedAnswer(f"block {last} was exchanged while the address index was read")
        self._counters.add("explorer.bootstraps")
        self._ledger.add_block(last, anchor)
        await self._ledger.flush()
        self._bus.publish("block:processed", {"height": last})

    async def _keep(self, found: Found) -> None:
        new = await self._ledger.keep_found(found)
        self._tell_rows(self._ledger.height, new)
        if found.chain_messages:
            await self._hooks.on_chain_messages(self._ledger.chain_messages)
        self._index.succeeded()

    def _tell_bootstrap(self, done: int, total: int) -> None:
        if self._meter is None:
            self._meter = ProgressMeter("bootstrap", total, trio.current_time())
        self._tell(done)

    # --- going back ---------------------------------------------------------------------------

    async def _reorganise(self, tip: int) -> None:
        """The chain has left our last blocks: back to the newest block it still has."""
        window = self._ledger.window
        height = await fork_height(self._rpc, window, tip=tip)
        if height is None:
            self._counters.add("explorer.reorgs_below_window")
            height = max(0, window.heights[0] - 1 - BLIND_REWIND_BLOCKS)
        depth = self._ledger.height - height
        self._counters.add("explorer.reorgs")
        self._counters.add("explorer.reorg_blocks", depth)
        await self._rewind(height)
        self._bus.publish("explorer:reorg", {"height": height, "depth": depth})

    async def _rewind(self, height: int, *, apps: bool = False) -> None:
        self.is_synced = False
        self._meter = None
        await self._ledger.rewind(height, apps=apps)
        await self._hooks.on_rewind(height)
        await self._hooks.on_chain_messages(self._ledger.chain_messages)

    # --- small things ---------------------------------------------------------------------------

    def _tell(self, done: int) -> None:
        if self._meter is None or self.is_synced:
            return
        now_s = trio.current_time()
        self.progress = self._meter.at(done, now_s)
        if now_s - self._told_progress_s >= PROGRESS_INTERVAL_S or done >= self._meter.total:
            self._told_progress_s = now_s
            self._bus.publish("explorer:progress", self.progress.event())
