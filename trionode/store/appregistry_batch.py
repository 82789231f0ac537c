"""The batch processor: many messages of a peer, judged and stored chunk by chunk (registry.md §12).

A run sorts what it is given by our own heights, cuts it into chunks, asks the store once per chunk what
is known and once for all predecessors, has the chunk judged and stores what is right, payments resolved,
in one commit; while that is written the next chunk is judged already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import msgspec
import trio

from trionode.registry.batch import (
    CHUNK_MESSAGES,
    BatchRow,
    BatchRules,
    Judged,
    Verdict,
    arrange,
    grouped,
    row_name,
    served_hash,
    update_names,
)
from trionode.registry.changes import AddPermanents, RegistryChange, ResolveHashes
from trionode.registry.reasons import Reason, Rejection
from trionode.registry.rows import HashRow, PermanentRow
from trionode.registry.temporary import is_enterprise
from trionode.runtime.counters import Counters
from trionode.store.appregistry_judges import Judges
from trionode.store.appregistry_ports import EnterpriseOpener
from trionode.store.registry_port import RegistryStore
from trionode.wire.jsjson import JsValue

_LOOK_UP_SLICE = 2_000
MOST_PARKED = 2_000


class MessageVerdict(msgspec.Struct, frozen=True, gc=False):
    """What became of one message of a batch; `rejection` says why it was refused."""

    hash: str
    verdict: Verdict
    rejection: Rejection | None = None


class BatchReport(msgspec.Struct, frozen=True):
    """What became of the messages of one call."""

    verdicts: tuple[MessageVerdict, ...] = ()

    def count(self, verdict: Verdict) -> int:
        return sum(row.verdict == verdict for row in self.verdicts)

    @property
    def inserted(self) -> int:
        """Messages that are permanent now and were not before."""
        return self.count("accepted")

    @property
    def resolved(self) -> tuple[str, ...]:
        """Hashes that need not be looked for any more."""
        return tuple(row.hash for row in self.verdicts if row.verdict in ("accepted", "known"))

    @property
    def rejected(self) -> tuple[MessageVerdict, ...]:
        return tuple(row for row in self.verdicts if row.verdict == "rejected")


class BatchRun:
    """One run over what peers serve, in one call or several.

    From one call to the next it remembers changes of owner, and updates that came before what they follow.
    """

    def __init__(
        self,
        store: RegistryStore,
        judges: Judges,
        counters: Counters,
        rules: BatchRules,
        *,
        opener: EnterpriseOpener | None = None,
        chunk_messages: int = CHUNK_MESSAGES,
        on_rejected: Callable[[str, Rejection], None] | None = None,
    ) -> None:
        self._store = store
        self._judges = judges
        self._counters = counters
        self._rules = rules
        self._opener = opener
        self._chunk = chunk_messages
        self._on_rejected = on_rejected
        self._owners_before: dict[str, str] = {}
        self._parked: dict[str, BatchRow] = {}

    async def process(self, served: Sequence[JsValue]) -> BatchReport:
        """Judge what a peer served; returns when all that is right is durable. Raises StoreError."""
        hashes = [hash_ for hash_ in map(served_hash, served) if hash_ is not None]
        payments, known = await self._look_up(hashes)
        rows, others = arrange(served, payments, known)
        verdicts = {hash_: MessageVerdict(hash_, verdict) for hash_, verdict in others.items()}
        stored_already = tuple(hash_ for hash_, verdict in others.items() if verdict == "known")
        if stored_already:
            await self._store.resolve_hashes(stored_already)
        judged = await self._in_chunks(rows)
        again = self._unpark(judged)
        self._park(rows, judged)
        if again:
            # what they follow came later than they did; in the order of the chain it is there now
            judged += await self._in_chunks(again)
        verdicts |= {one.hash: MessageVerdict(one.hash, one.verdict, one.rejection) for one in judged}
        for verdict in verdicts.values():
            self._counters.add(f"registry.batch.{verdict.verdict}")
            if verdict.rejection is not None and self._on_rejected is not None:
                self._on_rejected(verdict.hash, verdict.rejection)
        return BatchReport(tuple(verdicts.values()))

    def _park(self, rows: Sequence[BatchRow], judged: Sequence[Judged]) -> None:
        """Keep updates that no known owner signed: what they follow may come with a later call."""
        refused = {
            one.hash
            for one in judged
            if one.rejection is not None and one.rejection.code is Reason.SIGNATURE_NOT_OWNER
        }
        if not refused:
            return
        for row in rows:
            if row.hash in refused and len(self._parked) < MOST_PARKED:
                self._parked[row.hash] = row

    def _unpark(self, judged: Sequence[Judged]) -> list[BatchRow]:
        """Those kept before that follow a message accepted just now."""
        if not self._parked:
            return []
        lowest: dict[str, int] = {}
        for one in judged:
            if one.row is not None:
                lowest[one.row.name] = min(one.row.height, lowest.get(one.row.name, one.row.height))
        found = [
            row for row in self._parked.values() if row.height > lowest.get(row_name(row.data), row.height)
        ]
        for row in found:
            del self._parked[row.hash]
        return sorted(found, key=lambda row: (row.height, row.hash))

    async def _look_up(self, hashes: Sequence[str]) -> tuple[dict[str, HashRow], set[str]]:
        """Our own rows of the payments, and which messages are stored already."""
        payments: dict[str, HashRow] = {}
        known: set[str] = set()
        for start in range(0, len(hashes), _LOOK_UP_SLICE):
            some = hashes[start : start + _LOOK_UP_SLICE]
            payments.update(await self._store.hash_rows(some))
            known |= await self._store.known_permanents(some)
        return payments, known

    async def _in_chunks(self, rows: Sequence[BatchRow]) -> list[Judged]:
        judged: list[Judged] = []
        # what is being written while the next chunk is judged: the store may or may not tell of it yet
        unwritten: list[PermanentRow] = []
        async with trio.open_nursery() as nursery:
            written = trio.Event()
            written.set()
            waiting = iter(rows)
            while chunk := list(islice(waiting, self._chunk)):
                verdicts = await self._judge(chunk, unwritten)
                judged += verdicts
                await written.wait()
                unwritten = [one.row for one in verdicts if one.row is not None]
                unwritten.sort(key=lambda row: (row.height, row.hash))
                written = trio.Event()
                nursery.start_soon(self._write, tuple(unwritten), written)
        return judged

    async def _write(self, rows: tuple[PermanentRow, ...], written: trio.Event) -> None:
        if rows:
            resolved = ResolveHashes(tuple(row.hash for row in rows))
            changes: list[RegistryChange] = [AddPermanents(rows), resolved]
            await self._store.commit(changes)
        written.set()

    async def _judge(self, chunk: Sequence[BatchRow], unwritten: Sequence[PermanentRow]) -> list[Judged]:
        history = await self._history(update_names(chunk), unwritten)
        if self._opener is not None:
            chunk = [await self._opened(row, self._opener) for row in chunk]
        groups = grouped(chunk, history, self._owners_before)
        answers = await self._judges.judge(groups, self._rules)
        verdicts: list[Judged] = []
        for group, judged in zip(groups, answers, strict=True):
            for one in judged:
                if one.owner_before is not None:
                    self._owners_before[group.name] = one.owner_before
            verdicts += judged
        return verdicts

    async def _history(
        self, names: set[str], unwritten: Sequence[PermanentRow]
    ) -> Mapping[str, Sequence[PermanentRow]]:
        """All earlier messages of these names, by one query and what is still on its way to the store."""
        history = {name: list(rows) for name, rows in (await self._store.permanents_of_names(names)).items()}
        for row in unwritten:
            if row.name in names:
                rows = history.setdefault(row.name, [])
                if all(known.hash != row.hash for known in rows):
                    rows.append(row)
        return history

    async def _opened(self, row: BatchRow, opener: EnterpriseOpener) -> BatchRow:
        spec = row.data.get("appSpecifications")
        if not isinstance(spec, dict) or not isinstance(spec.get("version"), int | float):
            return row
        if not is_enterprise(spec):
            return row
        return msgspec.structs.replace(row, opened=await opener.open(spec, row.height))
