"""AppRegistry: the one way into the registry (docs/spec/registry.md §8, §10, §12).

Messages from gossip come in by `ingest_temporary`, paid ones become permanent by `promote`, and many at once
by `process_messages`. The rules are in `trionode.registry`; here their facts are looked up and what they
decide is stored, in one commit each, before memory follows and the news are published. Permanent messages
live in the store only. `run` loads the current specifications and the hashes of temporary messages, lets
these expire at the exact moment, and keeps the judges of batches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec
import trio

from trionode.errors import StoreError
from trionode.registry.batch import CHUNK_MESSAGES, BatchRules
from trionode.registry.changes import (
    AddPermanents,
    DeleteCurrent,
    PutCurrent,
    RegistryChange,
    ResolveHashes,
)
from trionode.registry.constants import MAINNET, Constants
from trionode.registry.messages import UPDATE_TYPES
from trionode.registry.predecessor import previous_spec
from trionode.registry.prices import PRICE_MESSAGE_VERSION, PriceTable
from trionode.registry.promotion import Promotion, PromotionFacts, promotion
from trionode.registry.reasons import Rejected, Rejection
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow
from trionode.registry.signatures import Spec
from trionode.registry.temporary import (
    Candidate,
    PendingUpdates,
    TemporaryFacts,
    followed_by,
    is_enterprise,
    judge_temporary,
    read_candidate,
)
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.store.appregistry_batch import BatchReport, BatchRun
from trionode.store.appregistry_current import CurrentSpecs
from trionode.store.appregistry_judges import InlineJudges, Judges
from trionode.store.appregistry_ports import EnterpriseOpener, LocalApps, NoLocalApps
from trionode.store.appregistry_temporary import Temporaries
from trionode.store.appregistry_turn import Turns
from trionode.store.appregistry_upkeep import Upkeep
from trionode.store.registry_port import RegistryStore
from trionode.wire.jsjson import JsValue

KEPT_VERDICTS = 5_000

Ingested = Literal["kept", "promoted", "waiting", "queued", "known", "rejected"]
"""`kept`: new, to be relayed. `promoted`: the chain had asked for it, it is permanent now; `waiting`: it
could not be promoted. `queued`: an update of an app we do not know yet."""


class IngestOutcome(msgspec.Struct, frozen=True):
    """What became of one message."""

    status: Ingested
    hash: str = ""
    relay: bool = False
    rejection: Rejection | None = None


class AppRegistry:
    """The registry of a node. Service name "registry"."""

    name = "registry"

    def __init__(
        self,
        store: RegistryStore,
        clock: WallClock,
        bus: EventBus,
        counters: Counters,
        *,
        daemon_height: Callable[[], int],
        constants: Constants = MAINNET,
        judges: Judges | None = None,
        local_apps: LocalApps | None = None,
        opener: EnterpriseOpener | None = None,
        forget_install_errors: Callable[[str], Awaitable[object]] | None = None,
    ) -> None:
        self.store = store
        self.constants = constants
        self.current = CurrentSpecs(constants)
        self.temporaries = Temporaries(store, clock, counters, constants.registry.temporary_message_ttl_s)
        self.pending = PendingUpdates(constants.registry.pending_update_ttl_s)
        self._clock = clock
        self._bus = bus
        self._counters = counters
        self._daemon_height = daemon_height
        self._judges = judges or InlineJudges()
        self._local_apps = local_apps or NoLocalApps()
        self._opener = opener
        self._forget_install_errors = forget_install_errors
        self._listeners: list[Callable[[str], None]] = []
        self._rejections: OrderedDict[str, Rejection] = OrderedDict()
        # nothing inside a turn waits for a peer
        self._turns = Turns(store, self.current, counters, stored=self._spec_stored, gone=self._spec_over)
        self._ready = Gate()
        self._upkeep = Upkeep(store, self.current, self._local_apps, self._spec_gone, constants)

    # What others ask

    def on_hash_response(self, listener: Callable[[str], None]) -> None:
        """Call back for every message that came for a payment without one (the hash sync waits for it)."""
        self._listeners.append(listener)

    def rejection_of(self, hash_: str) -> Rejection | None:
        """Why the message of this payment was refused when it last came; None when it never came."""
        return self._rejections.get(hash_)

    async def prices(self) -> PriceTable:
        """The price table in force: configured rows and those of the chain."""
        messages = await self.store.chain_messages(PRICE_MESSAGE_VERSION)
        return PriceTable.flux(self.constants, messages)

    # What others bring

    async def ingest_temporary(self, data: JsValue) -> IngestOutcome:
        """Judge one register or update message of gossip (§10); returns when it is durable.

        The caller relays it if `relay` is set. Raises StoreError.
        """
        await self._ready.wait()
        outcome = await self._ingest(data)
        self._counters.add(f"registry.temporary.{outcome.status}")
        if outcome.rejection is not None:
            self._counters.add(f"registry.temporary.rejected.{outcome.rejection.code}")
        return outcome

    async def promote(self, hash_: str, txid: str, height: int, value_sat: int) -> bool:
        """Make a paid message permanent if we have it (§10); True when its payment is resolved.

        Raises StoreError.
        """
        await self._ready.wait()
        if height < self.constants.first_height:
            return False
        name = ""
        async with self._turns.mine():
            if await self.store.known_permanents((hash_,)):
                await self.store.resolve_hashes((hash_,))
                return True
            decided = await self._decide(hash_, txid, height, value_sat)
            if decided is None or decided.permanent is None:
                return False
            name = decided.permanent.name
            try:
                await self._carry_out(decided)
            except StoreError:
                self.pending.drop(name)
                raise
        if decided.queue == "replay":
            await self._replay(name)
        return True

    async def promote_rows(self, rows: Sequence[HashRow]) -> Sequence[HashRow]:
        """`promote` every new payment of a block; returns, and tells, those without. Raises StoreError."""
        missed = [
            row for row in rows if not await self.promote(row.hash, row.txid, row.height, row.value_sat)
        ]
        if missed:
            self._bus.publish("registry:hashesUnresolved", {"count": len(missed)})
        return missed

    def batch_run(self, *, chunk_messages: int = CHUNK_MESSAGES) -> BatchRun:
        """A run of the batch processor over several calls: it remembers changes of owner between them."""
        rules = BatchRules(self._daemon_height(), self._opener is not None, self.constants)
        return BatchRun(
            self.store,
            self._judges,
            self._counters,
            rules,
            opener=self._opener,
            chunk_messages=chunk_messages,
            on_rejected=self._remember,
        )

    async def process_messages(
        self, rows: Sequence[JsValue], *, chunk_messages: int = CHUNK_MESSAGES
    ) -> BatchReport:
        """Judge and store rows as a peer serves them (§12), in the order of the chain.

        Current specifications stay as they are: `reindex` follows a sync. Raises StoreError.
        """
        await self._ready.wait()
        return await self.batch_run(chunk_messages=chunk_messages).process(rows)

    # Upkeep

    async def on_block_expire(self, scanned_height: int) -> Sequence[str]:
        """Let apps end that are over at this height (§8); their names."""
        await self._ready.wait()
        async with self._turns.mine():
            return await self._upkeep.expire(scanned_height)

    async def reindex(self) -> int | None:
        """Make the current specifications anew (§12); how many there are. None: one is running already."""
        return await self._alone(self._upkeep.reindex)

    async def rescan(self, from_height: int) -> int | None:
        """The same from messages paid at `from_height` and later, ended ones included (§12)."""
        return await self._alone(lambda: self._upkeep.rescan(from_height))

    async def reconstruct(self, daemon_height: int | None = None) -> int:
        """Put payments right that disagree with the stored messages (§12); how many changed."""
        await self._ready.wait()
        height = self._daemon_height() if daemon_height is None else daemon_height
        return await self._upkeep.reconstruct(height)

    async def on_rewind(self, height: int) -> None:
        """The store has forgotten what came from blocks above `height`: memory follows it."""
        await self._ready.wait()
        async with self._turns.mine():
            await self._turns.reread()

    # The service

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load, then expire temporary messages until cancelled. Raises StoreError."""
        await self.load()
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.temporaries.run)
                nursery.start_soon(self._judges.run)
        finally:
            self._ready.close()

    async def load(self) -> None:
        """Read what is kept in memory from the store and begin to answer."""
        await self._turns.load()
        await self.temporaries.load()
        self._ready.open()

    # Temporary messages

    async def _ingest(self, data: JsValue) -> IngestOutcome:
        try:
            candidate = read_candidate(data)
        except Rejected as error:
            return IngestOutcome("rejected", rejection=error.rejection)
        hash_ = candidate.message.hash
        if self.temporaries.knows(hash_) or await self.store.known_permanents((hash_,)):
            return IngestOutcome("known", hash_)
        payment = await self._awaited_payment(hash_)
        facts = await self._temporary_facts(candidate, payment)
        try:
            keep = judge_temporary(candidate, facts, self.constants)
        except Rejected as error:
            if payment is not None:
                self._remember(hash_, error.rejection)
            return IngestOutcome("rejected", hash_, rejection=error.rejection)
        if not keep:
            assert isinstance(data, dict)
            self.pending.put(candidate.name, hash_, data, facts.height, self._clock.now_ms())
            return IngestOutcome("queued", hash_)
        if not await self.temporaries.put(candidate):
            return IngestOutcome("known", hash_)
        if payment is None:
            self._bus.publish(
                "network:appmessage",
                {"hash": hash_, "type": candidate.message.type, "name": candidate.name},
            )
            return IngestOutcome("kept", hash_, relay=True)
        promoted = await self.promote(hash_, payment.txid, payment.height, payment.value_sat)
        return IngestOutcome("promoted" if promoted else "waiting", hash_)

    async def _awaited_payment(self, hash_: str) -> HashRow | None:
        """The payment that waits for this message; those who asked for it hear that it came."""
        payment = await self.store.hash_row(hash_)
        if payment is None or payment.message:
            return None
        for listener in self._listeners:
            listener(hash_)
        return payment

    async def _temporary_facts(self, candidate: Candidate, payment: HashRow | None) -> TemporaryFacts:
        facts = TemporaryFacts(
            daemon_height=self._daemon_height(),
            payment=payment,
            builtin_names=self._local_apps.builtin_names,
            secure=self._opener is not None,
        )
        if candidate.message.is_registration:
            facts = msgspec.structs.replace(facts, existing=self.current.find(candidate.name))
        else:
            rows = await self.store.permanents_of(candidate.name, order="stored")
            facts = msgspec.structs.replace(facts, permanents=rows)
        if self._opener is None:
            return facts
        return msgspec.structs.replace(
            facts,
            opened=await self._open(candidate.spec, facts.height),
            previous_opened=await self._opened_row(followed_by(candidate, facts)),
        )

    async def _open(self, spec: Spec, height: int) -> Spec | None:
        if self._opener is None or not is_enterprise(spec):
            return None
        return await self._opener.open(spec, height)

    async def _opened_row(self, row: PermanentRow | None) -> Spec | None:
        return None if row is None else await self._open(row.spec(), row.height)

    async def _replay(self, name: str) -> None:
        """Judge the updates that waited for this registration; the first refusal drops the rest (§10)."""
        for data in self.pending.take(name, self._clock.now_ms()):
            outcome = await self.ingest_temporary(data)
            if outcome.status == "rejected":
                return

    # Promotion

    async def _decide(self, hash_: str, txid: str, height: int, value_sat: int) -> Promotion | None:
        message = await self.temporaries.row(hash_)
        if message is None:
            return None
        rows = await self.store.permanents_of(message.name, order="stored")
        facts = PromotionFacts(
            txid=txid,
            height=height,
            value_sat=value_sat,
            daemon_height=self._daemon_height(),
            permanents=rows,
            current=self.current.get(message.name),
            prices=await self.prices(),
            secure=self._opener is not None,
        )
        if self._opener is not None and message.type in UPDATE_TYPES:
            facts = msgspec.structs.replace(
                facts,
                opened=await self._open(message.spec(), height),
                previous_opened=await self._opened_row(previous_spec(rows, message.timestamp_ms)),
            )
        decided = promotion(message, facts, self.constants)
        if decided.refused is not None:
            self._remember(hash_, decided.refused)
            self._counters.add(f"registry.promotion.refused.{decided.refused.code}")
        return decided

    async def _carry_out(self, decided: Promotion) -> None:
        """Store what was decided in one commit, then let memory follow."""
        row, spec = decided.permanent, decided.current
        assert row is not None
        changes: list[RegistryChange] = [AddPermanents((row,)), ResolveHashes((row.hash,))]
        expired = decided.activation == "expired"
        if spec is not None:
            changes.append(PutCurrent(spec))
        elif expired:
            changes.append(DeleteCurrent(row.name))
        await self.store.commit(changes)
        self._rejections.pop(row.hash, None)
        self._counters.add(f"registry.promotion.{decided.activation}")
        if spec is not None:
            self.current.put(spec)
            await self._spec_stored(spec)
        elif expired:
            self.current.delete(row.name)
            await self._upkeep.remove_installed(row.name)

    async def _spec_stored(self, spec: CurrentSpec) -> None:
        self._bus.publish("app:specStored", {"name": spec.name, "hash": spec.hash})
        await self._spec_gone(spec.name)

    async def _spec_over(self, name: str) -> None:
        await self._spec_gone(name)
        await self._upkeep.remove_installed(name)

    async def _spec_gone(self, name: str) -> None:
        """A new specification, or none, makes old install errors pointless."""
        if self._forget_install_errors is not None:
            await self._forget_install_errors(name)

    def _remember(self, hash_: str, rejection: Rejection) -> None:
        self._rejections[hash_] = rejection
        self._rejections.move_to_end(hash_)
        while len(self._rejections) > KEPT_VERDICTS:
            self._rejections.popitem(last=False)

    async def _alone(self, work: Callable[[], Awaitable[int]]) -> int | None:
        await self._ready.wait()
        if self._upkeep.rebuilding:
            return None
        with self._upkeep.rebuild():
            async with self._turns.mine():
                return await work()
