"""Rows of the registry as documents and back, in the shapes of docs/spec/registry.md §2.

A specification is kept as a document, as every node keeps it; its exact text must come out of it again.
Where it would not (half of a surrogate pair, a NUL in a member name: only an encrypted specification can
smuggle them in), the exact values are kept beside it in the member `trionode`. The other node ignores that
member, and has of such a row what its own driver would have stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from trionode.errors import WireError
from trionode.registry.rows import ChainMessageRow, CurrentSpec, HashRow, Number, PermanentRow, TemporaryRow
from trionode.store.mongo.values import Writer, date, from_bson, milliseconds, safe_text
from trionode.store.mongo.writes import Document
from trionode.wire.jsjson import parse, quote, stringify
from trionode.wire.jsnumber import MAX_SAFE

EXACT: Final = "trionode"
SPEC: Final = "appSpecifications"
LEGACY_SPEC: Final = "zelAppSpecifications"

_OWN_MEMBERS: Final = frozenset({"_id", "hash", "height", EXACT})
"""Members of a current specification's document that are not the specification's own."""


class _Draft:
    """A document in the making, and the exact values of what it cannot carry."""

    def __init__(self) -> None:
        self._exact: dict[str, str] = {}
        self._odd_name: str | None = None

    def keep(self, field: str, text: str) -> None:
        self._exact[field] = text

    def text(self, field: str, text: str) -> str:
        writer = Writer()
        written = writer.text(text)
        if not writer.is_exact:
            self.keep(field, text)
        return written

    def spec(self, text: str, *, leave_out: Iterable[str] = ()) -> Document:
        """The specification as a document; its text must come out of it again to the last character."""
        writer = Writer()
        document = writer.value(parse(text))
        if not isinstance(document, dict):
            raise TypeError(f"a specification is not an object: {text[:80]!r}")
        for name in leave_out:
            if document.pop(name, None) is not None:
                writer.is_exact = False
        if not writer.is_exact or stringify(document) != text:
            self.keep("spec", text)
        return document

    def labels(self, spec: Document, **labels: str) -> None:
        """What a row is found by; members of its specification, but kept when they differ."""
        for field, text in labels.items():
            if spec.get(field) != text:
                self.keep(field, text)
        name = labels["name"]
        if safe_text(name) != name:
            self._odd_name = quote(name)

    def seal(self, document: Document) -> Document:
        if self._exact:
            beside = {"exact": stringify(self._exact)}
            document[EXACT] = beside if self._odd_name is None else {"name": self._odd_name, **beside}
        return document


def by_names(field: str, names: Iterable[str]) -> Document:
    """A filter for exactly these names, also those that the document cannot carry."""
    plain: list[str] = []
    others: list[Document] = []
    for name in dict.fromkeys(names):
        written = safe_text(name)
        if written != name:
            others.append({field: written, f"{EXACT}.name": quote(name)})
        elif "\ufffd" in name:
            others.append({field: name, f"{EXACT}.name": None})
        else:
            plain.append(name)
    if not others:
        return {field: plain[0] if len(plain) == 1 else {"$in": plain}}
    return {"$or": [*others, *([{field: {"$in": plain}}] if plain else [])]}


def number(value: Number) -> Number:
    """A number as JavaScript's driver writes it. Raises OverflowError when a double cannot hold it."""
    if isinstance(value, int) and abs(value) > MAX_SAFE:
        raise OverflowError(f"{value} is no exact number of JavaScript")
    written: Number = Writer().value(value)
    return written


# ---- reading members that another node may have written otherwise -----------------------------------


def _number(value: Any) -> Number:
    found = from_bson(value)
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return found if is_number and found == found else 0


def _whole(value: Any) -> int:
    found = _number(value)
    return int(found) if abs(found) < 2**63 else 0


def _maybe_whole(value: Any) -> int | None:
    return None if value is None else _whole(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


class _Reader:
    """A stored document, with the exact values beside it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        beside = document.get(EXACT)
        self._exact: dict[str, str] = {}
        if isinstance(beside, Mapping) and "exact" in beside:
            self._exact = parse(beside["exact"])

    def text(self, field: str) -> str:
        return _text(self._exact.get(field, self._document.get(field)))

    def spec(self, members: Mapping[str, Any]) -> str:
        return self._exact["spec"] if "spec" in self._exact else _json(members)

    def label(self, field: str, members: Mapping[str, Any]) -> str:
        return _text(self._exact.get(field, members.get(field)))


def _json(members: Mapping[str, Any]) -> str:
    try:
        # Most documents print without being rebuilt member by member.
        return stringify(members)
    except (WireError, TypeError):
        return stringify(from_bson(members))


# ---- payments ----------------------------------------------------------------------------------------


def hash_document(row: HashRow) -> Document:
    """The stored document of a payment."""
    return {
        name: safe_text(value) if isinstance(value, str) else number(value) if type(value) is int else value
        for name, value in row.document().items()
    }


def hash_row(document: Mapping[str, Any]) -> HashRow:
    """The payment of a stored document."""
    get = document.get
    return HashRow(
        _text(get("txid")),
        _whole(get("height")),
        _text(get("hash")),
        _whole(get("value")),
        get("message") is True,
        _flag(get("messageNotFound")),
        _maybe_whole(get("syncAttempts")),
        _maybe_whole(get("nextRetryHeight")),
        _maybe_whole(get("retryFromHeight")),
    )


# ---- messages ----------------------------------------------------------------------------------------


def permanent_document(row: PermanentRow) -> Document:
    """The stored document of a paid message."""
    draft = _Draft()
    spec = draft.spec(row.spec_text)
    draft.labels(spec, name=row.name, owner=row.owner)
    return draft.seal(
        {
            "type": draft.text("type", row.type),
            "version": number(row.version),
            SPEC: spec,
            "hash": draft.text("hash", row.hash),
            "timestamp": number(row.timestamp_ms),
            "signature": draft.text("signature", row.signature),
            "txid": draft.text("txid", row.txid),
            "height": number(row.height),
            "valueSat": number(row.value_sat),
        }
    )


def permanent_row(document: Mapping[str, Any]) -> PermanentRow:
    """The paid message of a stored document, also of one with the old member name."""
    reader = _Reader(document)
    spec = _spec_of(document)
    return PermanentRow(
        reader.text("hash"),
        reader.text("type"),
        _number(document.get("version")),
        reader.spec(spec),
        reader.label("name", spec),
        reader.label("owner", spec),
        _number(document.get("timestamp")),
        reader.text("signature"),
        reader.text("txid"),
        _whole(document.get("height")),
        _whole(document.get("valueSat")),
    )


def _spec_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = document.get(SPEC)
    if spec is None:
        spec = document.get(LEGACY_SPEC)
    return spec if isinstance(spec, Mapping) else {}


class MessageKey(msgspec.Struct, frozen=True):
    """What tells which message of a name is the newest, without the message."""

    id: Any
    name: str
    recency: tuple[int, Number, str]


KEY_MEMBERS: Final = {f"{SPEC}.name": 1, "height": 1, "timestamp": 1, "hash": 1, EXACT: 1}


def message_key(document: Mapping[str, Any]) -> MessageKey:
    """The key of a document read with `KEY_MEMBERS`."""
    reader = _Reader(document)
    return MessageKey(
        document["_id"],
        reader.label("name", _spec_of(document)),
        (_whole(document.get("height")), _number(document.get("timestamp")), reader.text("hash")),
    )


def temporary_document(row: TemporaryRow) -> Document:
    """The stored document of an unpaid message."""
    draft = _Draft()
    spec = draft.spec(row.spec_text)
    draft.labels(spec, name=row.name, owner=row.owner)
    document: Document = {
        SPEC: spec,
        "type": draft.text("type", row.type),
        "version": number(row.version),
        "hash": draft.text("hash", row.hash),
        "timestamp": number(row.timestamp_ms),
        "signature": draft.text("signature", row.signature),
        "receivedAt": date(row.received_at_ms),
        "expireAt": date(row.expire_at_ms),
    }
    if row.arcane_sender is not None:
        document["arcaneSender"] = row.arcane_sender
    return draft.seal(document)


def temporary_row(document: Mapping[str, Any]) -> TemporaryRow:
    """The unpaid message of a stored document."""
    reader = _Reader(document)
    spec = _spec_of(document)
    return TemporaryRow(
        reader.text("hash"),
        reader.text("type"),
        _number(document.get("version")),
        reader.spec(spec),
        reader.label("name", spec),
        reader.label("owner", spec),
        _number(document.get("timestamp")),
        reader.text("signature"),
        milliseconds(document.get("receivedAt")) or 0,
        milliseconds(document.get("expireAt")) or 0,
        _flag(document.get("arcaneSender")),
    )


# ---- current specifications and soft fork messages ---------------------------------------------------


def current_document(row: CurrentSpec) -> Document:
    """The specification's own members, then `hash` and `height`."""
    draft = _Draft()
    spec = draft.spec(row.spec_text, leave_out=_OWN_MEMBERS)
    draft.labels(spec, name=row.name)
    if spec.get("name") != safe_text(row.name):
        # it is found by its name, so it must have one
        draft.keep("spec", row.spec_text)
        spec["name"] = safe_text(row.name)
    return draft.seal(spec | {"hash": draft.text("hash", row.hash), "height": number(row.height)})


def current_row(document: Mapping[str, Any]) -> CurrentSpec:
    """The current specification of a stored document."""
    reader = _Reader(document)
    spec = {name: value for name, value in document.items() if name not in _OWN_MEMBERS}
    return CurrentSpec(
        reader.label("name", spec), reader.spec(spec), reader.text("hash"), _whole(document.get("height"))
    )


def chain_message_document(row: ChainMessageRow) -> Document:
    """The stored document of a soft fork message."""
    draft = _Draft()
    return draft.seal(
        {
            "txid": draft.text("txid", row.txid),
            "height": number(row.height),
            "message": draft.text("message", row.message),
            "version": draft.text("version", row.version),
        }
    )


def chain_message_row(document: Mapping[str, Any]) -> ChainMessageRow:
    """The soft fork message of a stored document."""
    reader = _Reader(document)
    return ChainMessageRow(
        reader.text("txid"), _whole(document.get("height")), reader.text("message"), reader.text("version")
    )
