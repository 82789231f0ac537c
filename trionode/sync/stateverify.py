"""What of a state-sync answer may be believed (docs/spec/wire.md §11 Receive, events.md §10.3, §13.6).

First the answer as a whole, then each record by the rules of gossip: the signer must be the node that the
record is about. A record that fails is left out and counted, the others count. Evictions carry no
signature, so one is believed only when our own node list does not know the address either.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import trio

from trionode.appstate.batch import BatchRecord
from trionode.appstate.documents import EVICTED
from trionode.errors import WireError
from trionode.wire.envelope import Envelope, decode_envelope
from trionode.wire.frames import SYNC_RUNNING
from trionode.wire.jsjson import JsValue, parse
from trionode.wire.nodelist import NodeList
from trionode.wire.origin import OriginVerdict, verify_envelope, verify_records
from trionode.wire.syncmsg import SyncChunk, read_chunk, record_of

SLICE_RECORDS = 25
"""Records read and verified before other tasks run: two or three milliseconds of work."""


class ChunkRefused(WireError):
    """An answer of which nothing counts, not even its `done`; `reason` is for the counters."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, remedy="another peer is asked instead")
        self.reason = reason


class VerifiedRecords(msgspec.Struct, frozen=True):
    """The records of an answer that may be believed, and how many may not, by reason."""

    records: list[BatchRecord]
    refused: Counter[str]


def open_chunk(
    text: str, nodes: NodeList, now_ms: int, *, not_before_ms: int, max_future_ms: int
) -> SyncChunk:
    """Read one answer and verify its own envelope. Raises ChunkRefused.

    `not_before_ms`: an answer that was signed earlier is an old one played again.
    """
    try:
        envelope = decode_envelope(parse(text))
    except WireError as error:
        raise ChunkRefused("malformed", error.message) from error
    verdict = verify_envelope(envelope, nodes, now_ms, max_future_ms=max_future_ms)
    if verdict is not OriginVerdict.OK:
        raise ChunkRefused(verdict.value.replace(" ", "_"), f"sync answer: {verdict.value}")
    if envelope.timestamp_ms < not_before_ms:
        raise ChunkRefused("replayed", "sync answer signed before the request")
    try:
        return read_chunk(envelope)
    except WireError as error:
        raise ChunkRefused("no_list_or_too_many", error.message) from error


async def verify_chunk(chunk: SyncChunk, nodes: NodeList) -> VerifiedRecords:
    """Verify the records of a chunk of the event log, in order, in slices that let gossip go on."""
    believed: list[BatchRecord] = []
    refused: Counter[str] = Counter()
    for start in range(0, len(chunk.messages), SLICE_RECORDS):
        _verify_slice(chunk.kind, chunk.messages[start : start + SLICE_RECORDS], nodes, believed, refused)
        await trio.lowlevel.checkpoint()
    return VerifiedRecords(believed, refused)


def _verify_slice(
    kind: int,
    items: tuple[dict[str, JsValue], ...],
    nodes: NodeList,
    believed: list[BatchRecord],
    refused: Counter[str],
) -> None:
    candidates: list[BatchRecord] = []
    signed: list[Envelope] = []
    for item in items:
        if kind == SYNC_RUNNING and item.get("type") == EVICTED:
            candidates.append(BatchRecord.of(record_of(kind, {**item, "envelope": None})))
            continue
        record = record_of(kind, item)
        if record.envelope is None:
            refused["no_envelope"] += 1
            continue
        candidates.append(BatchRecord.of(record))
        signed.append(record.envelope)
    verdicts = iter(verify_records(signed, nodes))
    for candidate in candidates:
        if candidate.envelope is None:
            if nodes.by_address(candidate.ip) is not None:
                refused["evicted_but_listed"] += 1
                continue
        elif (verdict := next(verdicts)) is not OriginVerdict.OK:
            refused[verdict.value.replace(" ", "_")] += 1
            continue
        believed.append(candidate)
