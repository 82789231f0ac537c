"""Copy everything a node keeps from one pair of stores to another (docs/storage.md).

It may be cut off at any moment and started again: what arrived is found and not written twice. Until it is
finished the target carries a mark (copymark.py), so that an unfinished copy is told from a database with a
life of its own, which is never touched. At the end both sides are read once more and compared, kind by kind.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar, cast

import msgspec

from trionode.appstate.changes import (
    Change,
    DeleteCopy,
    DeleteEvent,
    DeleteInstallError,
    DeleteInstalling,
    DeleteLocation,
    PutCopy,
    PutEvent,
    PutInstallError,
    PutInstalling,
    PutLocation,
)
from trionode.appstate.documents import (
    EventRow,
    InstallErrorRow,
    InstallingRow,
    LocationRow,
    Row,
    SignedCopy,
)
from trionode.appstate.facts import fact_of
from trionode.registry.changes import (
    AddHashes,
    AddPermanents,
    DeleteCurrent,
    DeleteTemporaries,
    PutBlockHash,
    PutChainMessage,
    PutCurrent,
    PutTemporary,
    RegistryChange,
    SetScannedHeight,
    UpdateHashes,
)
from trionode.registry.rows import HashRow, PermanentRow
from trionode.store.copymark import (
    FINISHED,
    MARKER,
    brought_by,
    is_unfinished,
    refuse_filled,
    refuse_lived_in,
    unfinished,
)
from trionode.store.localapps import LOCAL_KIND, LocalAppStore, copy_local, held_locally
from trionode.store.port import Store
from trionode.store.registry_port import RegistryStore

EVENT_META = ("heartbeat", "ownAddress")
REGISTRY_META = ("hashSyncVersion",)
PAGE = 1000
COMPARE_MARGIN_MS = 10 * 60 * 1000
"""What expires so soon is not compared: it may vanish between reading one side and the other."""

_T = TypeVar("_T")

Progress = Callable[[str, int, int], None]
"""Called with the kind, how many of it were looked at, and how many there are."""


class Side(msgspec.Struct, frozen=True):
    """The stores of a node. `local`: what is installed here, None where that does not matter."""

    name: str
    log: Store
    registry: RegistryStore
    local: LocalAppStore | None = None


class Compared(msgspec.Struct, frozen=True):
    """Number and checksum of the documents of one kind on both sides."""

    kind: str
    source: int
    target: int
    source_sum: str
    target_sum: str

    @property
    def is_equal(self) -> bool:
        return (self.source, self.source_sum) == (self.target, self.target_sum)


class Tally:
    """Counts documents and sums their digests, so that the order in which they come does not matter."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, row: object, place: int | None = None) -> None:
        """`place` is the row's number where the order of insertion is part of the data."""
        self.count += 1
        self._sum = (self._sum + int.from_bytes(digest((place, row)), "big")) % (1 << 128)

    @property
    def checksum(self) -> str:
        return f"{self._sum:032x}"


def digest(row: object) -> bytes:
    """Equal for equal rows: 1 and 1.0 differ, which matters to signed numbers."""
    return hashlib.sha256(repr(row).encode("utf-8", "surrogatepass")).digest()[:16]


async def copy(source: Side, target: Side, *, now_ms: int, progress: Progress) -> Sequence[Compared]:
    """Make `target` hold what `source` holds. The source must not be written meanwhile.

    Raises StoreError when the target holds something else, or when a store fails.
    """
    await _claim(source, target)
    await _copy_log(source.log, target.log, now_ms, progress)
    await _copy_registry(source.registry, target.registry, now_ms, progress)
    if source.local is not None and target.local is not None:
        await copy_local(source.local, target.local)
    compared = await compare(source, target, now_ms=now_ms)
    if all(kind.is_equal for kind in compared):
        await target.log.put_meta(MARKER, FINISHED)
    return compared


async def compare(source: Side, target: Side, *, now_ms: int) -> Sequence[Compared]:
    """Read both sides whole and set numbers and checksums beside each other."""
    until_ms = now_ms + COMPARE_MARGIN_MS
    ours, theirs = await tallies(source, until_ms), await tallies(target, until_ms)
    return [
        Compared(kind, ours[kind].count, theirs[kind].count, ours[kind].checksum, theirs[kind].checksum)
        for kind in ours
    ]


async def tallies(side: Side, until_ms: int) -> Mapping[str, Tally]:
    """A tally of every kind, without what expires before `until_ms`."""
    made = {kind: Tally() for kind in (*LOG_KINDS.values(), *REGISTRY_KINDS, LOCAL_KIND)}
    if side.local is not None:
        for row_or_value in await held_locally(side.local):
            made[LOCAL_KIND].add(row_or_value)
    async for row in side.log.load():
        if row.expire_at_ms > until_ms:
            made[LOG_KINDS[type(row)]].add(_without_id(row))
    registry = side.registry
    async for payment in registry.stream_hashes():
        made["hashes"].add(payment, made["hashes"].count)
    async for message in registry.stream_permanents():
        made["permanents"].add(message, made["permanents"].count)
    for unpaid in await registry.temporaries():
        if unpaid.expire_at_ms > until_ms:
            made["temporaries"].add(unpaid)
    async for spec in registry.stream_current():
        made["current"].add(spec)
    for number, chain_message in enumerate(await registry.chain_messages()):
        made["chain_messages"].add(chain_message, number)
    for block in (await registry.block_hashes()).items():
        made["block_hashes"].add(block)
    made["values"].add(await registry.scanned_height())
    for store, keys in ((side.log, EVENT_META), (registry, REGISTRY_META)):
        for key in keys:
            value = await store.get_meta(key)
            if value is not None:
                made["values"].add((key, value))
    return made


LOG_KINDS: Mapping[type, str] = {
    EventRow: "events",
    LocationRow: "locations",
    InstallingRow: "installing",
    InstallErrorRow: "install_errors",
    SignedCopy: "signed_copies",
}
REGISTRY_KINDS = (
    "hashes",
    "permanents",
    "temporaries",
    "current",
    "chain_messages",
    "block_hashes",
    "values",
)


async def _claim(source: Side, target: Side) -> None:
    """Mark the target as being filled, with what comes of installed apps, unless it has a life of its own."""
    wanted = [] if source.local is None else await held_locally(source.local)
    brought = {digest(row).hex() for row in wanted}
    there = [] if target.local is None else await held_locally(target.local)
    mark = await target.log.get_meta(MARKER)
    if is_unfinished(mark):
        brought |= brought_by(mark)
        strange = [row for row in there if digest(row).hex() not in brought]
        alive = [await side.log.get_meta("heartbeat") for side in (source, target)]
        refuse_lived_in(target.name, strange, *alive)
    else:
        held = await target.log.counts() | await target.registry.counts()
        refuse_filled(target.name, held | {LOCAL_KIND: len(there)})
    await target.log.put_meta(MARKER, unfinished(brought))


# The event log


async def _copy_log(source: Store, target: Store, now_ms: int, progress: Progress) -> None:
    there = Counter[bytes]()
    total = 0
    async with _reading(source.load()) as rows:
        async for row in rows:
            if row.expire_at_ms > now_ms:
                there[digest(_without_id(row))] += 1
                total += 1
    arrived, next_id = await _drop_others(target, there)
    batch: list[Change] = []
    done = 0
    async with _reading(source.load()) as rows:
        async for row in rows:
            if row.expire_at_ms <= now_ms:
                continue
            done += 1
            mark = digest(_without_id(row))
            if arrived[mark]:
                arrived[mark] -= 1
                continue
            batch.append(_put(row, next_id))
            next_id += 1
            if len(batch) == PAGE:
                await target.commit(batch)
                batch = []
                progress("event log", done, total)
    await target.commit(batch)
    for key in EVENT_META:
        value = await source.get_meta(key)
        if value is not None and value != await target.get_meta(key):
            await target.put_meta(key, value)
    progress("event log", done, total)


async def _drop_others(target: Store, wanted: Counter[bytes]) -> tuple[Counter[bytes], int]:
    """Delete what an earlier attempt brought and the source has no more; what is left, and a free row id."""
    arrived = Counter[bytes]()
    deletes: list[Change] = []
    next_id = 1
    async for row in target.load():
        mark = digest(_without_id(row))
        if isinstance(row, LocationRow):
            next_id = max(next_id, row.row_id + 1)
        if arrived[mark] < wanted[mark]:
            arrived[mark] += 1
        else:
            deletes.append(_delete(row))
    for start in range(0, len(deletes), PAGE):
        await target.commit(deletes[start : start + PAGE])
    return arrived, next_id


def _without_id(row: Row) -> Row:
    return msgspec.structs.replace(row, row_id=0) if isinstance(row, LocationRow) else row


def _put(row: Row, row_id: int) -> Change:
    match row:
        case EventRow():
            return PutEvent(row, fact_of(row))
        case LocationRow():
            return PutLocation(msgspec.structs.replace(row, row_id=row_id))
        case InstallingRow():
            return PutInstalling(row)
        case InstallErrorRow():
            return PutInstallError(row)
        case SignedCopy():
            return PutCopy(row)


def _delete(row: Row) -> Change:
    match row:
        case EventRow():
            return DeleteEvent(row.key)
        case LocationRow():
            return DeleteLocation(row.row_id, row.name, row.ip)
        case InstallingRow():
            return DeleteInstalling(row.ip, row.name)
        case InstallErrorRow():
            return DeleteInstallError(row.ip, row.name, row.hash)
        case SignedCopy():
            return DeleteCopy(row.key)


# The registry


async def _copy_registry(
    source: RegistryStore, target: RegistryStore, now_ms: int, progress: Progress
) -> None:
    counts = await source.counts()
    done = 0
    async with _reading(_pages(source.stream_hashes())) as pages:
        async for payments in pages:
            await _commit(target, await _changed_payments(target, payments))
            done += len(payments)
            progress("payments", done, counts["hashes"])
    done = 0
    async with _reading(_pages(source.stream_permanents())) as pages:
        async for messages in pages:
            await _commit(target, await _new_messages(target, messages))
            done += len(messages)
            progress("paid messages", done, counts["permanents"])
    await _copy_current(source, target, counts["current"], progress)
    await _copy_rest(source, target, now_ms)


async def _changed_payments(target: RegistryStore, rows: Sequence[HashRow]) -> list[RegistryChange]:
    stored = await target.hash_rows(row.hash for row in rows)
    new = tuple(row for row in rows if row.hash not in stored)
    other = tuple(row for row in rows if row.hash in stored and stored[row.hash] != row)
    return [*([AddHashes(new)] if new else ()), *([UpdateHashes(other)] if other else ())]


async def _new_messages(target: RegistryStore, rows: Sequence[PermanentRow]) -> list[RegistryChange]:
    known = await target.known_permanents(row.hash for row in rows)
    new = tuple(row for row in rows if row.hash not in known)
    return [AddPermanents(new)] if new else []


async def _copy_current(source: RegistryStore, target: RegistryStore, total: int, progress: Progress) -> None:
    left = {spec.name: digest(spec) async for spec in target.stream_current()}
    done = 0
    async with _reading(_pages(source.stream_current())) as pages:
        async for specs in pages:
            await _commit(target, [PutCurrent(spec) for spec in specs if left.get(spec.name) != digest(spec)])
            for spec in specs:
                left.pop(spec.name, None)
            done += len(specs)
            progress("specifications", done, total)
    await _commit(target, [DeleteCurrent(name) for name in left])


async def _copy_rest(source: RegistryStore, target: RegistryStore, now_ms: int) -> None:
    """What is small, in one commit; the scanned height comes last, when all it stands for is there."""
    unpaid = [row for row in await source.temporaries() if row.expire_at_ms > now_ms]
    stored = {row.hash: row for row in await target.temporaries()}
    gone = tuple(stored.keys() - {row.hash for row in unpaid})
    changes: list[RegistryChange] = [DeleteTemporaries(gone)] if gone else []
    changes += [PutTemporary(row) for row in unpaid if stored.get(row.hash) != row]
    messages = set(await target.chain_messages())
    changes += [PutChainMessage(row) for row in await source.chain_messages() if row not in messages]
    blocks = await target.block_hashes()
    changes += [
        PutBlockHash(height, hash_)
        for height, hash_ in (await source.block_hashes()).items()
        if blocks.get(height) != hash_
    ]
    changes.append(SetScannedHeight(await source.scanned_height()))
    await _commit(target, changes)
    for key in REGISTRY_META:
        value = await source.get_meta(key)
        if value is not None and value != await target.get_meta(key):
            await target.put_meta(key, value)


async def _commit(target: RegistryStore, changes: Sequence[RegistryChange]) -> None:
    if changes:
        await target.commit(changes)


@asynccontextmanager
async def _reading(rows: AsyncIterator[_T]) -> AsyncIterator[AsyncIterator[_T]]:
    """Close the generator also when reading ends early."""
    async with aclosing(cast("AsyncGenerator[_T, None]", rows)) as reading:
        yield reading


async def _pages(rows: AsyncIterator[_T]) -> AsyncIterator[list[_T]]:
    page: list[_T] = []
    async with _reading(rows) as reading:
        async for row in reading:
            page.append(row)
            if len(page) == PAGE:
                yield page
                page = []
    if page:
        yield page
