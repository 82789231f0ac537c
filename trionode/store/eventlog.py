"""EventLog: the one way into the event log (docs/spec/events.md §3-§7, §10.3).

A message is judged and folded into memory at once, its changes join the next group commit, and only when
they are durable the news is published and the decision handed back, so that nothing is relayed that a
crash could lose. With an immediate store (simulator) all of this happens in the caller's own step.

`run` is the service: it rebuilds the state from the store, commits, and lets records expire at the exact
moment. If a commit fails, memory is ahead of the store: every waiting caller gets the StoreError, nothing
more is committed, `run` ends with it, and a restart rebuilds the state from what is really stored.

Back-pressure: at most `queue_batches` batches wait for a commit; further callers wait before they are
judged, first come, first served.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TypeAlias

import trio

from trionode.appstate.batch import BatchRecord, SyncKind, chunk_steps
from trionode.appstate.changes import Change
from trionode.appstate.decision import Decision, Published, SyncOutcome
from trionode.appstate.documents import InstallErrorRow, InstallingRow
from trionode.appstate.explain import Step, explain
from trionode.appstate.index import LocationIndex, LocationView
from trionode.appstate.judge import evict, forget_install_errors, judge, judge_local
from trionode.appstate.state import AppState
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings, StoreSettings
from trionode.errors import StoreError
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.store.port import Store
from trionode.wire.envelope import Envelope

_NEVER = 1 << 62
_FLUSH_GRACE_S = 2.0
_LOAD_SLICE = 200
_CLOCK_CHECK_S = 60.0
"""A wall clock that was set forward is noticed this soon: nothing else wakes a sleep that is too long now."""
_SYNC_SLICE = 50

_Rule: TypeAlias = Callable[[int], Decision]


class _Batch:
    """Changes of one step on their way to the store, and who waits for them."""

    __slots__ = ("changes", "done", "error", "published")

    def __init__(self, changes: Sequence[Change], published: Sequence[Published]) -> None:
        self.changes = changes
        self.published = published
        self.done: trio.Event | None = None
        self.error: StoreError | None = None


class EventLog:
    """The event log of a node. Service name "eventlog"."""

    name = "eventlog"

    def __init__(
        self,
        settings: AppStateSettings,
        store: Store,
        clock: WallClock,
        bus: EventBus,
        counters: Counters,
        *,
        store_settings: StoreSettings | None = None,
    ) -> None:
        store_settings = store_settings or StoreSettings()
        self.windows = Windows.from_settings(settings)
        self.state = AppState(self.windows)
        self.store = store
        self._clock = clock
        self._bus = bus
        self._counters = counters
        self.batch_changes = store_settings.commit_batch_changes
        self._room = trio.Semaphore(store_settings.queue_batches)
        self.queue_batches = store_settings.queue_batches
        self._queue: deque[_Batch] = deque()
        self._work = trio.Event()
        self._ready = Gate()
        self._wheel_ms = _NEVER
        self._wheel_moved = trio.Event()

    # What others ask

    @property
    def index(self) -> LocationIndex:
        """The location index of this moment; not to be kept over a restart of the service."""
        return self.state.index

    def locations(self, name: str | None = None, ip: str | None = None) -> Sequence[LocationView]:
        """Rows for the location routes (§11), from the index."""
        return self.state.index.locations(name, ip)

    def installing(self, name: str | None = None) -> Sequence[InstallingRow]:
        return self.state.installing(name)

    def install_errors(self, name: str | None = None) -> Sequence[InstallErrorRow]:
        return self.state.install_errors(name)

    async def explain(self, name: str, ip: str | None = None) -> list[Step]:
        """Why is, or is not, this app listed (at this address)? Raises StoreError."""
        events = await self.store.events_for(ip=ip, name=None if ip else name)
        return explain(events, name, ip, self._clock.now_ms(), self.windows)

    # What others bring

    async def ingest(self, envelope: Envelope, *, received_at_ms: int | None = None) -> Decision:
        """Judge one verified gossip message; returns when its changes are durable.

        The caller relays if `relay` is set. `received_at_ms` is when the message came in (default now);
        ages are measured at that time. Raises StoreError if it cannot be stored.
        """
        await self._enter()
        now_ms = self._now() if received_at_ms is None else received_at_ms
        expired = self.state.advance(now_ms)
        decision = judge(self.state, envelope, now_ms)
        self._count(decision, envelope.type)
        await self._settle((*expired, *decision.changes), decision.published)
        return decision

    async def ingest_sync(self, kind: SyncKind, records: Sequence[BatchRecord], peer: str) -> SyncOutcome:
        """Fold in one chunk of verified records (§10.3), in slices so that nothing else has to wait.

        Returns when all of it is durable. Raises StoreError if it cannot be stored.
        """
        await self._enter()
        now_ms = self._now()
        state = self.state
        changes = state.advance(now_ms)
        outcome: SyncOutcome | None = None
        last: _Batch | None = None
        steps = chunk_steps(state, kind, records, now_ms, peer, slice_records=_SYNC_SLICE)
        while outcome is None:
            try:
                changes += next(steps)
            except StopIteration as end:
                outcome = end.value
                break
            last = self._hand_over(changes, (), wanted=True) or last
            await trio.lowlevel.checkpoint()
            await self._enter()
            if self.state is not state:
                self._room.release()
                raise StoreError("the event log restarted within a sync chunk", remedy="ask for it again")
            changes = []
        assert outcome is not None
        add = self._counters.add
        add("appstate.sync.records", len(records))
        add("appstate.sync.stored", outcome.stored)
        for _, stop, reason in outcome.refused:
            add(f"appstate.sync.refused.{stop}.{reason}")
        if changes or last is None:
            await self._settle(changes, outcome.published)
        else:
            # the last slice was handed over before it was known to be the last
            self._room.release()
            await self._durable(last)
            self._publish(outcome.published)
        return outcome

    async def apply_local(self, envelope: Envelope) -> Decision:
        """Fold in a message this node itself signed, before or after it is broadcast (§9, §13.4).

        Nothing is published and `relay` is False: the sender of its own news does both.
        """
        return await self._apply(lambda now_ms: judge_local(self.state, envelope, now_ms))

    async def evict(self, ip: str) -> Decision:
        """Store an eviction of an address that left the node list, and drop its cache rows (§8)."""
        return await self._apply(lambda now_ms: evict(self.state, ip, now_ms))

    async def forget_install_errors(self, name: str) -> Decision:
        """Drop the install errors of an app that has a newer specification or expired (§7)."""
        return await self._apply(lambda now_ms: forget_install_errors(self.state, name, now_ms))

    # The service

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load, then commit and expire until cancelled. Raises StoreError."""
        await self._load()
        self._ready.open()
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._commit_forever)
                nursery.start_soon(self._expire_forever)
        except* StoreError as group:
            raise _first(group) from None
        finally:
            self._ready.close()
            with trio.move_on_after(_FLUSH_GRACE_S, shield=True):
                await self._flush()
            self._fail_waiting(StoreError("the event log stopped", remedy="see the log for the reason"))

    async def _load(self) -> None:
        state = AppState(self.windows, self._now())
        rows = 0
        async for row in self.store.load():
            state.load(row)
            rows += 1
            if rows % _LOAD_SLICE == 0:
                await trio.lowlevel.checkpoint()
        expired = state.advance(self._now())
        if expired:
            await self.store.commit(expired)
        self.state = state
        self._room = trio.Semaphore(self.queue_batches)

    async def _commit_forever(self) -> None:
        while True:
            if not self._queue:
                self._work = trio.Event()
                await self._work.wait()
            await self._flush_once()

    async def _flush(self) -> None:
        while self._queue:
            await self._flush_once()

    async def _flush_once(self) -> None:
        """One group commit of what waits, up to the size of a commit."""
        group = [self._queue.popleft()]
        changes = list(group[0].changes)
        while self._queue and len(changes) + len(self._queue[0].changes) <= self.batch_changes:
            batch = self._queue.popleft()
            group.append(batch)
            changes += batch.changes
        try:
            await self.store.commit(changes)
        except trio.Cancelled:
            # The commit was never begun (it is not abandoned once it runs): leave it to the last flush.
            self._queue.extendleft(reversed(group))
            raise
        except Exception as error:
            self._counters.add("store.failed_commits")
            problem = StoreError(f"the store failed: {error}", remedy="see the log for the reason")
            if isinstance(error, StoreError):
                problem = error
            # What waits behind was judged on memory that holds what is lost now: no store may acknowledge it,
            # and the last flush least of all, which would find a store that works again.
            self._ready.close()
            for batch in group:
                self._finish(batch, problem)
            self._fail_waiting(problem)
            raise problem from error
        self._counters.add("store.commits")
        self._counters.add("store.changes", len(changes))
        for batch in group:
            self._finish(batch, None)

    def _finish(self, batch: _Batch, error: StoreError | None) -> None:
        batch.error = error
        if error is None:
            self._publish(batch.published)
        if batch.done is not None:
            batch.done.set()
        self._room.release()

    def _fail_waiting(self, error: StoreError) -> None:
        while self._queue:
            self._finish(self._queue.popleft(), error)

    async def _expire_forever(self) -> None:
        """Sleep until the next deadline; an earlier one wakes the wheel up."""
        while True:
            self._wheel_moved = trio.Event()
            deadline_ms = self.state.next_deadline_ms()
            self._wheel_ms = _NEVER if deadline_ms is None else deadline_ms
            if deadline_ms is None:
                await self._wheel_moved.wait()
                continue
            left_s = max(0.0, (deadline_ms - self._now()) / 1000)
            with trio.move_on_after(min(left_s, _CLOCK_CHECK_S)):
                await self._wheel_moved.wait()
            await self._enter()
            expired = self.state.advance(self._now())
            self._counters.add("appstate.expired", len(expired))
            await self._pass_on(expired, ())

    # The way of a batch

    async def _enter(self) -> None:
        """Wait until the log is loaded and has room for one more batch."""
        while True:
            if not self._ready.is_open:
                await self._ready.wait()
            room = self._room
            try:
                room.acquire_nowait()
            except trio.WouldBlock:
                await room.acquire()
            if self._ready.is_open and room is self._room:
                return
            # The service went down while we waited; its successor has other room.
            room.release()

    async def _apply(self, rule: _Rule) -> Decision:
        await self._enter()
        now_ms = self._now()
        expired = self.state.advance(now_ms)
        decision = rule(now_ms)
        await self._settle((*expired, *decision.changes), decision.published)
        return decision

    async def _settle(self, changes: Sequence[Change], published: Sequence[Published]) -> None:
        """Hand a batch over and wait until it is durable."""
        batch = self._hand_over(changes, published, wanted=True)
        if batch is None:
            await trio.lowlevel.checkpoint()
            return
        await self._durable(batch)

    async def _durable(self, batch: _Batch) -> None:
        assert batch.done is not None
        await batch.done.wait()
        if batch.error is not None:
            # Each caller its own: one exception raised in many tasks would collect their tracebacks.
            raise copy(batch.error) from batch.error

    async def _pass_on(self, changes: Sequence[Change], published: Sequence[Published]) -> None:
        """Hand a batch over without waiting for it: a later one of the same caller waits for both."""
        self._hand_over(changes, published, wanted=False)
        await trio.lowlevel.checkpoint()

    def _hand_over(
        self, changes: Sequence[Change], published: Sequence[Published], *, wanted: bool
    ) -> _Batch | None:
        """Queue a batch in the same step in which memory was changed: the order of both is the same.

        None when there is nothing to wait for: no changes, or an immediate store that has them already.
        """
        if not changes:
            self._room.release()
            self._publish(published)
            return None
        deadline_ms = self.state.next_deadline_ms()
        if deadline_ms is not None and deadline_ms < self._wheel_ms:
            self._wheel_ms = deadline_ms
            self._wheel_moved.set()
        if self.store.immediate:
            with self._released():
                self.store.commit_now(changes)
            self._publish(published)
            return None
        batch = _Batch(changes, published)
        if wanted:
            batch.done = trio.Event()
        self._queue.append(batch)
        self._work.set()
        return batch

    @contextmanager
    def _released(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._room.release()

    def _publish(self, published: Sequence[Published]) -> None:
        for name, data in published:
            self._bus.publish(name, data)

    def _count(self, decision: Decision, kind: str) -> None:
        if decision.accepted:
            self._counters.add(f"appstate.accepted.{kind}")
        else:
            self._counters.add(f"appstate.refused.{decision.stop}.{decision.reason}")

    def _now(self) -> int:
        return self._clock.now_ms()


def _first(group: BaseExceptionGroup[StoreError]) -> StoreError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
