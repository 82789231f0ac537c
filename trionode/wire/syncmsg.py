"""State-sync answers: building, chunking, and reading them (docs/spec/wire.md §11, events.md §10).

An answer is an ordinary envelope of the responder whose data lists stored documents. Items are built as
text around the exact stored J texts, because what was signed must leave as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from trionode.errors import WireError
from trionode.wire.envelope import Envelope, decode_envelope
from trionode.wire.frames import SYNC_INSTALL_ERRORS, SYNC_INSTALLING, SYNC_RUNNING, SYNC_TEMP
from trionode.wire.jsjson import JsValue, is_number, quote, stringify

CHUNK_RECORDS = 2000
"""Records per answer; the receiver's cap is `MAX_RECORDS`."""
MAX_RECORDS = 2500

DATA_TYPES = {
    SYNC_TEMP: "fluxapptempsync",
    SYNC_RUNNING: "fluxapprunningsync",
    SYNC_INSTALLING: "fluxappinstallingsync",
    SYNC_INSTALL_ERRORS: "fluxappinstallingerrorssync",
}
KINDS = {name: kind for kind, name in DATA_TYPES.items()}

ORDER_FIELDS = {
    SYNC_TEMP: "receivedAt",
    SYNC_RUNNING: "broadcastedAt",
    SYNC_INSTALLING: "broadcastedAt",
    SYNC_INSTALL_ERRORS: "broadcastedAt",
}
"""The stored date by which the records of an answer ascend."""

_TEMP_FIELDS = ("type", "version", "appSpecifications", "hash", "timestamp", "signature", "arcaneSender")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999."""
_ISO = re.compile(
    r"([+-][0-9]{6}|[0-9]{4})-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z", re.ASCII
)


class SyncChunk(msgspec.Struct, frozen=True):
    """One received answer. `done` marks the last of its kind from that peer."""

    kind: int
    messages: tuple[dict[str, JsValue], ...]
    done: bool


class SyncRecord(msgspec.Struct, frozen=True):
    """One item of an answer: its fields as received, and its signed copy if it has a usable one."""

    item: dict[str, JsValue]
    envelope: Envelope | None


# ---- dates -----------------------------------------------------------------------------------------


def iso_text(time_ms: int) -> str:
    """ISO-8601 with milliseconds and Z, as JavaScript dates print. Raises WireError outside years 1-9999."""
    try:
        moment = _EPOCH + timedelta(milliseconds=time_ms)
    except OverflowError:
        raise WireError(
            f"time {time_ms} ms is no calendar date", remedy="use milliseconds since 1970"
        ) from None
    return moment.strftime("%Y").zfill(4) + moment.strftime("-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03d}Z"


def iso_ms(value: JsValue) -> int | None:
    """Milliseconds of a date as it crosses the wire (ISO text, or a plain number); None if it is neither.

    What `iso_text` could not print again is no date: it would be stored and spoil our own answers.
    """
    if is_number(value):
        return int(value) if _FIRST_MS <= value <= _LAST_MS else None
    if not isinstance(value, str) or not _ISO.fullmatch(value) or value[0] in "+-":
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment - _EPOCH) // timedelta(milliseconds=1)


# ---- answers ---------------------------------------------------------------------------------------


def envelope_fields_text(envelope: Envelope) -> str:
    """The four envelope fields (all but data) as J text of an object."""
    return stringify(
        {
            "version": envelope.version,
            "timestamp": envelope.timestamp,
            "pubKey": envelope.pub_key,
            "signature": envelope.signature,
        }
    )


def event_item_text(
    ip: str,
    type_: str,
    dedup_key: str,
    *,
    broadcasted_at_ms: int | None = None,
    data_text: str | None = None,
    envelope_text: str | None = None,
    created_at_ms: int | None = None,
    received_at_ms: int | None = None,
) -> str:
    """An event-log row as an item of `fluxapprunningsync`; fields given as None are left out."""
    parts = [f'{{"ip":{quote(ip)},"type":{quote(type_)},"dedupKey":{quote(dedup_key)}']
    if broadcasted_at_ms is not None:
        parts.append(f'"broadcastedAt":"{iso_text(broadcasted_at_ms)}"')
    if data_text is not None:
        parts.append(f'"data":{data_text}')
    if envelope_text is not None:
        parts.append(f'"envelope":{envelope_text}')
    if created_at_ms is not None:
        parts.append(f'"createdAt":"{iso_text(created_at_ms)}"')
    if received_at_ms is not None:
        parts.append(f'"receivedAt":"{iso_text(received_at_ms)}"')
    return ",".join(parts) + "}"


def signed_copy_item_text(
    envelope_text: str,
    *,
    broadcasted_at_ms: int,
    received_at_ms: int | None = None,
    expire_at_ms: int | None = None,
) -> str:
    """A signed copy as an item of the installing answers (`expire_at_ms` only for errors).

    `envelope_text` is J of the whole envelope.
    """
    parts = [envelope_text.removesuffix("}"), f'"broadcastedAt":"{iso_text(broadcasted_at_ms)}"']
    if expire_at_ms is not None:
        parts.append(f'"expireAt":"{iso_text(expire_at_ms)}"')
    if received_at_ms is not None:
        parts.append(f'"receivedAt":"{iso_text(received_at_ms)}"')
    return ",".join(parts) + "}"


def temp_item_text(message: dict[str, JsValue]) -> str:
    """A temporary app message as an item of `fluxapptempsync`; absent fields are left out."""
    return stringify({name: message[name] for name in _TEMP_FIELDS if name in message})


def chunk_data_text(kind: int, items: Iterable[str], *, done: bool) -> str:
    """J of the data object of one answer, ready for `envelope.seal_text`."""
    version = '"version":1,' if kind == SYNC_TEMP else ""
    messages = ",".join(items)
    flag = "true" if done else "false"
    return f'{{"type":"{DATA_TYPES[kind]}",{version}"messages":[{messages}],"done":{flag}}}'


def chunked(kind: int, items: Iterable[str], *, size: int = CHUNK_RECORDS) -> Iterator[str]:
    """Data texts of a whole answer: full chunks with done false, then always a last one with done true."""
    batch: list[str] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield chunk_data_text(kind, batch, done=False)
            batch = []
    yield chunk_data_text(kind, batch, done=True)


# ---- receiving -------------------------------------------------------------------------------------


def is_sync_answer(body: JsValue) -> bool:
    """Whether a parsed message is a sync answer (handled apart from gossip if the sender was asked)."""
    data = body.get("data") if isinstance(body, dict) else None
    kind = data.get("type") if isinstance(data, dict) else None
    return isinstance(kind, str) and kind in KINDS


def read_chunk(envelope: Envelope) -> SyncChunk:
    """Take the records out of a received answer. Raises WireError when its form is wrong or it is too big.

    Items that are no objects are left out: they can be nothing that is stored.
    """
    kind = KINDS.get(envelope.type)
    if kind is None:
        raise WireError(f"{envelope.type!r} is no sync answer", remedy="see docs/spec/wire.md §11")
    messages = envelope.data.get("messages")
    if not isinstance(messages, list):
        raise WireError("sync answer without a list of messages", remedy="send messages as an array")
    if len(messages) > MAX_RECORDS:
        raise WireError(f"sync answer with {len(messages)} records", remedy=f"send at most {MAX_RECORDS}")
    items = tuple(item for item in messages if isinstance(item, dict))
    return SyncChunk(kind, items, envelope.data.get("done") is True)


def record_of(kind: int, item: dict[str, JsValue]) -> SyncRecord:
    """Read one item. `envelope` is None when the item carries no complete signed copy (evictions, junk)."""
    if kind == SYNC_TEMP:
        return SyncRecord(item, None)
    body = item
    if kind == SYNC_RUNNING:
        fields = item.get("envelope")
        if not isinstance(fields, dict):
            return SyncRecord(item, None)
        body = {**fields, "data": item.get("data")}
    try:
        return SyncRecord(item, decode_envelope(body))
    except WireError:
        return SyncRecord(item, None)


def records_of(chunk: SyncChunk) -> list[SyncRecord]:
    """Read all items of a chunk, in order."""
    return [record_of(chunk.kind, item) for item in chunk.messages]
