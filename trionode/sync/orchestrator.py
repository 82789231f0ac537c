"""The orchestrator service: feeds the rules of `lifecycle.orchestrator` and carries out what they decide.

Facts: docs/spec/lifecycle.md §8, docs/lifecycle.md. News comes from the bus, from the state sync and from
the node's own tasks; each is one event, handled whole before the next. Runs, the rebuild, requests and
timers are tasks of its nursery: how they end, failures included, is an event again, so that no crash of
one of them goes unnoticed or takes the service along.

Published, in the words of docs/spec/testnet.md §6: `orchestrator:started`, `orchestrator:stateChanged`,
`hashSync:complete`, `hashSync:failed`, `ephemeralSync:peerComplete`, `ephemeralSync:allComplete`,
`spawner:resumed`, `spawner:paused`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from trionode.config.tree import Settings
from trionode.lifecycle import phases as life
from trionode.lifecycle.orchestrator import step
from trionode.lifecycle.phases import Facts, Happening, Phase, State
from trionode.lifecycle.readiness import waits_for
from trionode.runtime.bus import Event, EventBus, Subscription
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger
from trionode.sync.ports import ChainReader, HashSyncEngine, Sender, StateSyncPort, Table
from trionode.sync.report import HashSyncStatus, OrchestratorStatus

log = get_logger("orchestrator")

BLOCK, SYNCED = "explorer:blocksProcessed", "explorer:synced"
CAPABILITY = "chain:capability"
NEW_PEER = "peers:added"
ENOUGH_PEERS, TOO_FEW_PEERS = "peers:thresholdReached", "peers:belowThreshold"
UNRESOLVED, CHANGED = "registry:hashesUnresolved", "explorer:hashesChanged"
NEWS = (BLOCK, SYNCED, CAPABILITY, NEW_PEER, ENOUGH_PEERS, TOO_FEW_PEERS, UNRESOLVED, CHANGED)

_PLAIN: dict[str, Happening] = {
    NEW_PEER: life.PeersChanged(),
    ENOUGH_PEERS: life.PeersEnough(),
    TOO_FEW_PEERS: life.PeersTooFew(),
    UNRESOLVED: life.HashesUnresolved(),
    CHANGED: life.HashesChanged(),
}
_ENDS: dict[life.Timer, Happening] = {
    "retry": life.RetryDue(),
    "peer grace": life.PeerGraceEnded(),
    "sync window": life.SyncWindowEnded(),
    "ask pause": life.AskPauseEnded(),
}


class RebuildUnderWay(Exception):
    """Somebody else is making the specifications anew just now."""

    def __init__(self) -> None:
        super().__init__("the current specifications are being made anew by somebody else")


class Orchestrator:
    """Service "orchestrator". `boot_context` is told at its start; `node_list` opens when there is one."""

    name = "orchestrator"

    def __init__(
        self,
        settings: Settings,
        *,
        hash_sync: HashSyncEngine,
        state_sync: StateSyncPort,
        explorer: ChainReader,
        table: Table,
        facts: Sender,
        node_list: Gate,
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
        boot_context: Callable[[], Mapping[str, Any]],
        is_enterprise: Callable[[], bool] = lambda: False,
    ) -> None:
        self._hash_sync = hash_sync
        self._state_sync = state_sync
        self._explorer = explorer
        self._table = table
        self._chain = facts
        self._node_list = node_list
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._boot_context = boot_context
        self._is_enterprise = is_enterprise
        self._fixed = Facts(
            min_completions=settings.state_sync.min_completions,
            ready_after_blocks=settings.state_sync.ready_after_blocks,
            ready_after_blocks_enterprise=settings.state_sync.ready_after_blocks_enterprise,
            max_retries=settings.hash_sync.max_retries,
            recheck_blocks=settings.hash_sync.recheck_blocks,
            waits_for_peers=settings.hash_sync.peer_grace_s > 0,
        )
        self._timer_s: dict[life.Timer, float] = {
            "retry": settings.hash_sync.retry_s,
            "peer grace": settings.hash_sync.peer_grace_s,
            "sync window": settings.state_sync.response_timeout_s,
            "ask pause": settings.state_sync.serve_interval_s,
        }
        self._nursery: trio.Nursery | None = None
        self._timers: dict[life.Timer, trio.CancelScope] = {}
        self._queue: deque[Happening] = deque()
        self._busy = False
        self._last_error: str | None = None
        self._since_ms: int | None = None
        self._since_s: float | None = None
        self.state = State()
        self.db_ready = Gate()
        """Open while the registry is complete enough to act on."""
        self.first_broadcast = Gate()
        """Opens once, when there are a node list and enough peers for the first time."""
        self.ready = Gate()
        """Open while READY."""
        state_sync.on_done(lambda kind, peer: self._feed(life.PeerAnswered(kind, peer)))
        state_sync.on_lost(lambda peer: self._feed(life.PeerLost(peer)))

    # What others ask

    @property
    def phase(self) -> Phase:
        return self.state.phase

    @property
    def status(self) -> OrchestratorStatus:
        state, facts = self.state, self._facts()
        since_s = self._since_s
        return OrchestratorStatus(
            phase=state.phase.value,
            since_ms=self._since_ms,
            for_s=None if since_s is None else trio.current_time() - since_s,
            waits_for=waits_for(state, facts),
            db_ready=state.db_done,
            can_send=state.capable,
            blocks=state.blocks,
            waived_after_blocks=state.waive_after,
            asked=len(state.asked),
            required=facts.min_completions,
            completions={kind: len(peers) for kind, peers in state.completions().items()},
        )

    @property
    def hash_status(self) -> HashSyncStatus:
        """Where the hash sync stands."""
        state = self.state
        return HashSyncStatus(
            is_running=self._hash_sync.is_running,
            left=self._hash_sync.left,
            is_done=state.hash_done,
            is_ready=state.db_done,
            is_degraded=state.phase is Phase.DEGRADED,
            attempt=state.attempt,
            next_retry_height=state.next_retry_height if state.hash_done else None,
            last_error=self._last_error,
            last=self._hash_sync.last,
            progress=self._hash_sync.progress,
        )

    def request_hash_sync(self, *, force: bool = False) -> None:
        """An operator wants a run, soon; `force`: also for what is given up or not due."""
        self._feed(life.OperatorAsked(force))

    # The service

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the rules until cancelled. After a restart everything but the first broadcast is anew."""
        with self._bus.subscribe(*NEWS, buffer=1024) as news:
            try:
                async with trio.open_nursery() as nursery:
                    self._begin(nursery)
                    task_status.started()
                    nursery.start_soon(self._await_node_list)
                    await self._listen(news)
            finally:
                self._nursery = None
                self._timers.clear()
                self._queue.clear()
                self._busy = False
                self._state_sync.forget_marks()

    def _begin(self, nursery: trio.Nursery) -> None:
        if self.state.phase is Phase.READY:
            self._bus.publish("spawner:paused", {})
        self.state = State(first_broadcast=self.state.first_broadcast)
        self._nursery = nursery
        self._since_now()
        self._show(self.state)
        self._feed(life.Started(self._boot_context()))
        if self._node_list.is_open:
            self._feed(life.NodeListKnown())
        self._feed_levels()

    def _feed_levels(self) -> None:
        """What was told before we listened, or while we missed news."""
        self._feed(life.CapabilityChanged(self._chain.can_send))
        if self._table.threshold_reached and not self.state.enough_peers:
            self._feed(life.PeersEnough())
        elif self.state.enough_peers and not self._table.threshold_reached:
            self._feed(life.PeersTooFew())
        if self._explorer.is_synced:
            self._feed(life.ChainRead(self._explorer.scanned_height))

    async def _await_node_list(self) -> None:
        await self._node_list.wait()
        if not self.state.node_list:
            self._feed(life.NodeListKnown())

    async def _listen(self, news: Subscription) -> None:
        async for event in news:
            if event.lost:
                self._counters.add("orchestrator.lost_news", event.lost)
                self._feed_levels()
            self._feed(self._happening(event))

    def _happening(self, event: Event) -> Happening:
        if event.name == BLOCK:
            return life.BlockProcessed(event.data["height"])
        if event.name == SYNCED:
            return life.ChainRead(event.data["height"])
        if event.name == CAPABILITY:
            return life.CapabilityChanged(bool(event.data["capable"]))
        return _PLAIN[event.name]

    def _facts(self) -> Facts:
        if not self._is_enterprise():
            return self._fixed
        return life.with_enterprise(self._fixed)

    def _feed(self, event: Happening) -> None:
        """Handle one event, and those that its effects bring at once, each whole before the next."""
        if self._nursery is None:
            return
        self._queue.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                self._handle(self._queue.popleft())
        finally:
            self._busy = False

    def _handle(self, event: Happening) -> None:
        before = self.state
        after, effects = step(before, event, self._facts())
        self.state = after
        self._note(event)
        if after.phase is not before.phase:
            self._since_now()
            self._counters.add(f"orchestrator.entered.{after.phase.value.lower()}")
            log.info("phase", before=before.phase.value, now=after.phase.value)
        self._show(after)
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: life.Effect) -> None:
        """Whatever goes wrong with one effect, those after it are still carried out."""
        try:
            _CARRY[type(effect)](self, effect)
        except Exception as error:
            self._counters.add(f"orchestrator.failed.{type(effect).__name__}")
            log.error("failed", what=type(effect).__name__, exc_info=error)
            if isinstance(effect, life.LookForPeers):
                self._feed(life.PeersEligible(()))

    def _note(self, event: Happening) -> None:
        if isinstance(event, life.HashSyncFailed | life.RebuildFailed):
            self._last_error = event.error
        elif isinstance(event, life.HashSyncEnded):
            self._last_error = None

    def _since_now(self) -> None:
        self._since_ms, self._since_s = self._clock.now_ms(), trio.current_time()

    def _show(self, state: State) -> None:
        """The gates, before anybody is told of the change."""
        self.db_ready.set(state.db_done)
        self.ready.set(state.phase is Phase.READY)
        if state.first_broadcast:
            self.first_broadcast.open()

    # Carrying out

    def _start(self, work: Callable[[], Awaitable[Happening]], failed: Callable[[str], Happening]) -> None:
        """Run `work` as a task; the event it ends with, or that of its failure, is fed."""
        assert self._nursery is not None
        self._nursery.start_soon(self._until_its_end, work, failed)

    async def _until_its_end(
        self, work: Callable[[], Awaitable[Happening]], failed: Callable[[str], Happening]
    ) -> None:
        try:
            end = await work()
        except Exception as error:  # whatever it is, the rules decide what follows
            end = failed(str(error) or type(error).__name__)
            self._counters.add(f"orchestrator.failed.{type(end).__name__}")
            log.error("failed", what=type(end).__name__, exc_info=error)
        self._feed(end)

    def _publish(self, effect: life.Publish) -> None:
        self._bus.publish(effect.name, effect.data)

    def _run_hash_sync(self, effect: life.RunHashSync) -> None:
        async def work() -> Happening:
            if effect.kind == "first":
                report = await self._hash_sync.first_run(effect.height)
            else:
                report = await self._hash_sync.later_run(effect.height, force=effect.force)
            return life.HashSyncEnded(report.missing, report.next_retry_height)

        def failed(error: str) -> Happening:
            self._counters.add("hashsync.failed")
            return life.HashSyncFailed(error)

        self._start(work, failed)

    def _rebuild(self, effect: life.Rebuild) -> None:
        async def work() -> Happening:
            if await self._hash_sync.rebuild() is None:
                raise RebuildUnderWay
            return life.Rebuilt()

        self._start(work, life.RebuildFailed)

    def _look_for_peers(self, effect: life.LookForPeers) -> None:
        self._feed(life.PeersEligible(tuple(self._state_sync.eligible())))

    def _ask_peers(self, effect: life.AskPeers) -> None:
        async def work() -> Happening:
            return life.PeersAsked(await self._state_sync.request(effect.keys))

        self._start(work, lambda error: life.AskingFailed())

    def _start_timer(self, effect: life.StartTimer) -> None:
        self._stop_timer(life.StopTimer(effect.timer))
        assert self._nursery is not None
        scope = self._timers[effect.timer] = trio.CancelScope()
        self._nursery.start_soon(self._timer, effect.timer, scope)

    async def _timer(self, timer: life.Timer, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(self._timer_s[timer])
        # It may have been stopped in the moment it ended, or even have a successor.
        if self._timers.get(timer) is scope:
            del self._timers[timer]
            self._feed(_ENDS[timer])

    def _stop_timer(self, effect: life.StopTimer) -> None:
        scope = self._timers.pop(effect.timer, None)
        if scope is not None:
            scope.cancel()

    def _forget_marks(self, effect: life.ForgetMarks) -> None:
        self._state_sync.forget_marks()

    def _ask_for_new(self, effect: life.AskForNewMessages) -> None:
        self._hash_sync.ask_for_new()

    def _open_first_broadcast(self, effect: life.OpenFirstBroadcast) -> None:
        log.info("own apps may be announced")


_CARRY: dict[type[life.Effect], Callable[[Orchestrator, Any], None]] = {
    life.Publish: Orchestrator._publish,
    life.RunHashSync: Orchestrator._run_hash_sync,
    life.Rebuild: Orchestrator._rebuild,
    life.LookForPeers: Orchestrator._look_for_peers,
    life.AskPeers: Orchestrator._ask_peers,
    life.StartTimer: Orchestrator._start_timer,
    life.StopTimer: Orchestrator._stop_timer,
    life.ForgetMarks: Orchestrator._forget_marks,
    life.AskForNewMessages: Orchestrator._ask_for_new,
    life.OpenFirstBroadcast: Orchestrator._open_first_broadcast,
}
