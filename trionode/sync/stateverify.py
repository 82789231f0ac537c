"""What of a state-sync answer may be believed (docs/spec/wire.md §11 Receive, events.md §10.3, §13.6).

First the answer as a whole, then each record by the rules of gossip: the signer must be the node that the
record is about. A record that fails is left out and counted, the others count. Evictions carry no
signature, so one is believed only when our own node list does not know the address either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

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
from trionode.wire.syncmsg import KINDS, MAX_RECORDS, read_chunk, record_of

SLICE_RECORDS = 25
"""Records read and verified before other tasks run: two or three milliseconds of work."""


class ChunkRefused(WireError):
    """An answer of which nothing counts, not even its `done`; `reason` is for the counters."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, remedy="another peer is asked instead")
        self.reason = reason


class Answer(msgspec.Struct, frozen=True):
    """One answer whose envelope is verified. Its items are parsed slice by slice: it may have megabytes."""

    kind: int
    items: Sequence[msgspec.Raw | dict[str, JsValue]]
    done: bool


class VerifiedRecords(msgspec.Struct, frozen=True):
    """The records of an answer that may be believed, and how many may not, by reason."""

    records: list[BatchRecord]
    refused: Counter[str]


# ---- the answer as a whole --------------------------------------------------------------------------


class _Outer(msgspec.Struct, frozen=True):
    version: int
    timestamp: int
    pubKey: str  # noqa: N815 - as it is on the wire
    signature: str
    data: msgspec.Raw


class _Inner(msgspec.Struct, frozen=True):
    type: str
    messages: list[msgspec.Raw]
    done: bool = False


_read_outer = msgspec.json.Decoder(_Outer).decode
_read_inner = msgspec.json.Decoder(_Inner).decode


def open_answer(text: str, nodes: NodeList, now_ms: int, *, not_before_ms: int, max_future_ms: int) -> Answer:
    """Read one answer and verify its own envelope. Raises ChunkRefused.

    `not_before_ms`: an answer that was signed earlier is an old one played again.
    """
    envelope = _as_signed(text)
    verdict = None
    if envelope is not None:
        verdict = verify_envelope(envelope, nodes, now_ms, max_future_ms=max_future_ms)
    if verdict in (None, OriginVerdict.BAD_SIGNATURE):
        # perhaps it is only written in another way than it was signed
        try:
            envelope = decode_envelope(parse(text))
        except WireError as error:
            raise ChunkRefused("malformed", error.message) from error
        verdict = verify_envelope(envelope, nodes, now_ms, max_future_ms=max_future_ms)
    assert envelope is not None
    if verdict is not OriginVerdict.OK:
        assert verdict is not None
        raise ChunkRefused(verdict.value.replace(" ", "_"), f"sync answer: {verdict.value}")
    if envelope.timestamp_ms < not_before_ms:
        raise ChunkRefused("replayed", "sync answer signed before the request")
    return _answer_of(envelope)


def _as_signed(text: str) -> Envelope | None:
    """The envelope around the text of its data as it stands, which every node sends as it signed it.

    Parsing a long answer as a whole, and printing it again, would hold up the loop for a tenth of a second.
    """
    try:
        outer = _read_outer(text)
        data_text = bytes(outer.data).decode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    found = _TYPE(data_text)
    if found is None or not outer.signature or not outer.pubKey:
        return None
    # `messages` is read from the text later; the rules for envelopes look at the type only
    data: dict[str, JsValue] = {"type": found[1]}
    return Envelope(outer.version, outer.timestamp, outer.pubKey, outer.signature, data, data_text)


_TYPE = re.compile(r'\{"type":"([a-z]+)"', re.ASCII).match


def _answer_of(envelope: Envelope) -> Answer:
    try:
        inner = _read_inner(envelope.data_text)
        kind, items, done = KINDS[inner.type], inner.messages, inner.done
    except (msgspec.DecodeError, UnicodeError, RecursionError, KeyError):
        if "messages" not in envelope.data:
            envelope = msgspec.structs.replace(envelope, data=_data_of(envelope))
        try:
            chunk = read_chunk(envelope)
        except WireError as error:
            raise ChunkRefused("no_list_or_too_many", error.message) from error
        return Answer(chunk.kind, chunk.messages, chunk.done)
    if len(items) > MAX_RECORDS:
        raise ChunkRefused("no_list_or_too_many", f"sync answer with {len(items)} records")
    return Answer(kind, items, done)


def _data_of(envelope: Envelope) -> dict[str, JsValue]:
    try:
        data = parse(envelope.data_text)
    except WireError as error:
        raise ChunkRefused("malformed", error.message) from error
    return data if isinstance(data, dict) else {}


# ---- its items --------------------------------------------------------------------------------------


async def plain_items(answer: Answer) -> list[JsValue]:
    """The items as they are; what is no object is left out."""
    found: list[JsValue] = []
    for start in range(0, len(answer.items), SLICE_RECORDS):
        for item in answer.items[start : start + SLICE_RECORDS]:
            parsed = _parsed(item)
            if parsed is not None:
                found.append(parsed)
        await trio.lowlevel.checkpoint()
    return found


async def verify_records_of(answer: Answer, nodes: NodeList) -> VerifiedRecords:
    """Verify the records of the event log in an answer, in order, in slices that let gossip go on."""
    believed: list[BatchRecord] = []
    refused: Counter[str] = Counter()
    for start in range(0, len(answer.items), SLICE_RECORDS):
        _verify_slice(answer.kind, answer.items[start : start + SLICE_RECORDS], nodes, believed, refused)
        await trio.lowlevel.checkpoint()
    return VerifiedRecords(believed, refused)


def _parsed(item: msgspec.Raw | dict[str, JsValue]) -> dict[str, JsValue] | None:
    if isinstance(item, dict):
        return item
    try:
        value = parse(bytes(item).decode())
    except WireError:
        return None  # nested too deeply; nothing that is stored is
    return value if isinstance(value, dict) else None


def _verify_slice(
    kind: int,
    items: Sequence[msgspec.Raw | dict[str, JsValue]],
    nodes: NodeList,
    believed: list[BatchRecord],
    refused: Counter[str],
) -> None:
    candidates: list[BatchRecord] = []
    signed: list[Envelope] = []
    for raw in items:
        item = _parsed(raw)
        if item is None:
            refused["no_object"] += 1
            continue
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
