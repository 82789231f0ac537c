"""One hash sync: get the messages behind payments on the chain that are still missing (registry.md §12).

In this order, until nothing is missing: what is stored already is marked, more than 500 are read from the
lists of peers, requests go to peers nobody asked yet, and at last to a few nodes that are no peers. What is
missing then moves up the backoff ladder, which is stored with each payment.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import trio

from trionode.chain.progress import Progress, ProgressMeter
from trionode.config.tree import Settings
from trionode.errors import PeerError
from trionode.peers.facts import NetworkFacts
from trionode.peers.peer import Peer
from trionode.registry.backoff import Ladder, Setback, missing_messages, set_back
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.sync.bulk import BULK_PEERS, BulkSync
from trionode.sync.ports import Peers, Registry
from trionode.sync.report import StreamOutcome, SyncReport
from trionode.sync.rounds import Asked, Responses, signed_requests, untried
from trionode.wire.address import AddressError, peer_key, same_address, split_address
from trionode.wire.envelope import Envelope
from trionode.wire.keys import NodeKey

BULK_ABOVE = 500
LOOK_UP_HASHES = 10_000
SHOWN_REASONS = 3


class HashRun:
    """Runs one sync after the other; never two at once (the caller's business)."""

    def __init__(
        self,
        settings: Settings,
        *,
        registry: Registry,
        peers: Peers,
        facts: NetworkFacts,
        bulk: BulkSync,
        asked: Asked,
        counters: Counters,
        clock: WallClock,
        rng: random.Random,
        key: NodeKey,
    ) -> None:
        self._settings = settings.hash_sync
        self._handshake_s = settings.peers.handshake_timeout_s
        self._registry = registry
        self._store = registry.store
        self._peers = peers
        self._facts = facts
        self._bulk = bulk
        self._asked = asked
        self._counters = counters
        self._clock = clock
        self._rng = rng
        self._key = key
        self._responses = Responses(self._settings, self._store)
        self.left = 0
        """Messages that the run under way still misses."""
        self.progress: Progress | None = None
        """The same with its pace; None while no run is under way."""
        registry.on_hash_response(self._responses.arrived)

    async def run(
        self, current_height: int, *, force: bool = False, bulk_peers: int = BULK_PEERS
    ) -> SyncReport:
        """Raises StoreError."""
        began_s = trio.current_time()
        rows = await self._store.hashes(missing=True)
        wanted = [row.hash for row in missing_messages(rows, current_height, force=force)]
        del rows
        if not wanted:
            return SyncReport()
        course = _Course(self, wanted)
        await course.go(bulk_peers)
        setback = await self._set_back(current_height)
        resolved = len(wanted) - len(course.missing)
        self._counters.add("hashsync.resolved", resolved)
        self._counters.add("hashsync.unreachable", setback.unreachable)
        return SyncReport(
            resolved=resolved,
            missing=setback.missing,
            unreachable=setback.unreachable,
            next_retry_height=setback.next_retry_height,
            started_with=len(wanted),
            streamed=tuple(course.streamed),
            rounds=course.rounds,
            peers_asked=len(course.asked),
            ephemeral=course.ephemeral,
            took_s=trio.current_time() - began_s,
            why=(*course.told, *self._reasons(course.missing)),
        )

    async def _set_back(self, current_height: int) -> Setback:
        """Move what is still due up the ladder."""
        due = missing_messages(await self._store.hashes(due_at=current_height), current_height)
        setback = set_back(due, current_height, Ladder.of(self._settings))
        if not setback.rows:
            return setback
        await self._store.update_hashes(setback.rows)
        # A message that came in between has been marked as missing again.
        overtaken = await self._store.known_permanents(row.hash for row in setback.rows)
        if overtaken:
            await self._store.resolve_hashes(overtaken)
        return setback

    def _reasons(self, missing: Iterable[str]) -> list[str]:
        """Why messages that came were refused: the first few of them."""
        told: list[str] = []
        for hash_ in missing:
            rejection = self._registry.rejection_of(hash_)
            if rejection is not None:
                told.append(f"{hash_[:16]} came and was refused: {rejection.sentence}")
                if len(told) == SHOWN_REASONS:
                    break
        return told


class _Course:
    """The steps of one run, and what is to be told of them."""

    def __init__(self, run: HashRun, wanted: Sequence[str]) -> None:
        self._run = run
        self.missing: dict[str, None] = dict.fromkeys(wanted)
        self.streamed: list[StreamOutcome] = []
        self.rounds = 0
        self.asked: set[str] = set()
        self.ephemeral = 0
        self.told: list[str] = []

    async def go(self, bulk_peers: int) -> None:
        run = self._run
        run.left = len(self.missing)
        self._meter = ProgressMeter("messages", len(self.missing), trio.current_time())
        run.progress = self._meter.at(0, trio.current_time())
        try:
            await self._mark_stored()
            await self._promote_waiting()
            if len(self.missing) > BULK_ABOVE:
                await self._bulk(bulk_peers)
            while self.missing and self.rounds < run._settings.max_rounds:
                requests = self._requests()
                fit = (peer for peer in run._peers.table if run._asked.takes(peer, requests))
                peers = untried(fit, self.asked, run._settings.peers_per_round, run._rng)
                if not peers:
                    break
                await self._round(peers, requests)
            if self.missing:
                await self._ephemeral()
        finally:
            run.left = 0
            run.progress = None

    async def _mark_stored(self) -> None:
        """Messages that are here although their payment does not say so."""
        store = self._run._store
        hashes = list(self.missing)
        for start in range(0, len(hashes), LOOK_UP_HASHES):
            known = await store.known_permanents(hashes[start : start + LOOK_UP_HASHES])
            if known:
                await store.resolve_hashes(known)
                self.told.append(f"{len(known)} messages were stored already")
                self._found(known)

    async def _promote_waiting(self) -> None:
        """Paid messages that still wait as unpaid ones: a node that was killed in between has such."""
        registry = self._run._registry
        waiting = [row.hash for row in await registry.store.temporaries() if row.hash in self.missing]
        rows = await registry.store.hash_rows(waiting)
        promoted = [
            row.hash
            for row in rows.values()
            if await registry.promote(row.hash, row.txid, row.height, row.value_sat)
        ]
        if promoted:
            self.told.append(f"{len(promoted)} messages were here as unpaid ones")
            self._found(promoted)

    async def _bulk(self, count: int) -> None:
        run = self._run
        wanted = set(self.missing)
        batch = run._registry.batch_run()
        self.streamed = await run._bulk.fetch(wanted, run._peers.table, batch, count=count)
        self._found([hash_ for hash_ in self.missing if hash_ not in wanted])
        self.told += [outcome.sentence() for outcome in self.streamed]
        if not self.streamed:
            self.told.append("no peer whose list could be read")

    async def _round(self, peers: Sequence[Peer], requests: Sequence[Envelope]) -> None:
        """Ask these peers for everything that is missing, and wait."""
        run = self._run
        self.rounds += 1
        self.asked.update(peer.key for peer in peers)
        before = len(self.missing)
        run._responses.expect(self.missing)
        for peer in peers:
            run._asked.ask(peer, requests)
        await self._await_responses()
        self._tell(f"round {self.rounds}: {len(peers)} peers asked for {before}", before)

    async def _ephemeral(self) -> None:
        """Ask a few nodes that are no peers of ours over links opened for it."""
        run = self._run
        targets = self._strangers()
        if not targets:
            if not self.rounds:
                self.told.append("nobody to ask: no fit peers and no other nodes known")
            return
        before = len(self.missing)
        requests = self._requests()
        run._responses.expect(self.missing)
        opened: list[Peer] = []
        settled = trio.Event()
        done = trio.Event()
        waiting = len(targets)

        async def ask(ip: str, port: int) -> None:
            nonlocal waiting
            is_open = False
            try:
                async with run._peers.ephemeral(ip, port) as peer:
                    is_open = True
                    opened.append(peer)
                    run._asked.ask(peer, requests)
                    waiting -= 1
                    if not waiting:
                        settled.set()
                    await done.wait()
            except PeerError as error:
                run._counters.add(f"hashsync.ephemeral_failed.{error.code}")
            finally:
                if not is_open:
                    waiting -= 1
                    if not waiting:
                        settled.set()

        async with trio.open_nursery() as nursery:
            dials = nursery.cancel_scope
            for ip, port in targets:
                nursery.start_soon(ask, ip, port)
            with trio.move_on_after(run._handshake_s):
                await settled.wait()
            self.ephemeral = len(opened)
            if opened:
                await self._await_responses()
            done.set()
            # a dial that hangs is given up; links in use close in good order first
            dials.deadline = trio.current_time() + run._handshake_s
        self._tell(f"{self.ephemeral} of {len(targets)} nodes that are no peers asked for {before}", before)

    def _strangers(self) -> list[tuple[str, int]]:
        """Random nodes of the list that are neither peers nor we ourselves."""
        run = self._run
        own = run._facts.own_address
        fit: dict[tuple[str, int], None] = {}
        for entry in run._facts.nodes:
            if not entry.ip or (own is not None and same_address(entry.ip, own)):
                continue
            try:
                ip, port = split_address(entry.ip)
            except AddressError:
                run._counters.add("hashsync.unreadable_address")
                continue
            if peer_key(ip, port) not in run._peers.table:
                fit[ip, port] = None
        return run._rng.sample(list(fit), min(run._settings.ephemeral_peers, len(fit)))

    def _requests(self) -> list[Envelope]:
        """The requests for what is missing now."""
        run = self._run
        return signed_requests(list(self.missing), run._key, run._clock.now_ms())

    async def _await_responses(self) -> None:
        run = self._run
        await run._responses.wait()
        # What counts is the store; a message may also have come by another way meanwhile.
        rows = await run._store.hash_rows(self.missing)
        self._found([hash_ for hash_ in self.missing if hash_ not in rows or rows[hash_].message])

    def _found(self, hashes: Iterable[str]) -> None:
        for hash_ in hashes:
            self.missing.pop(hash_, None)
        self._run.left = len(self.missing)
        self._run.progress = self._meter.at(self._meter.total - len(self.missing), trio.current_time())

    def _tell(self, what: str, before: int) -> None:
        self.told.append(f"{what} messages, {before - len(self.missing)} came")
