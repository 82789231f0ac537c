"""Rows of the event log as documents and back, in the shapes of docs/spec/events.md §2, §3.

A value that BSON cannot carry exactly (values.py) is kept beside it in the member `trionode`: its exact
text, and the moment and signature of the content it belongs to. Another node ignores that member; when it
replaces the content, the member no longer fits and is ignored here too. Such payloads exist only where
somebody made them on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trionode.appstate.documents import (
    CopyKind,
    EventKey,
    EventRow,
    InstallErrorRow,
    InstallingRow,
    LocationRow,
    Signed,
    SignedCopy,
)
from trionode.errors import WireError
from trionode.store.mongo.values import Writer, date, from_bson, milliseconds, safe_text
from trionode.store.mongo.writes import Document
from trionode.wire.jsjson import JsValue, parse, stringify

EXACT = "trionode"


class _Draft:
    """A document in the making, with the exact values of what BSON could not carry."""

    def __init__(self) -> None:
        self.exact: dict[str, str] = {}

    def text(self, field: str, text: str) -> str:
        writer = Writer()
        written = writer.text(text)
        if not writer.is_exact:
            self.exact[field] = text
        return written

    def value(self, field: str, value: JsValue) -> Any:
        writer = Writer()
        written = writer.value(value)
        if not writer.is_exact:
            self.exact[field] = stringify(value)
        return written

    def payload(self, text: str) -> Any:
        """The payload as a document; its text must come out of it again to the last character."""
        writer = Writer()
        try:
            value = parse(text)
            written = writer.value(value)
            is_exact = writer.is_exact and value is not None and stringify(value) == text
        except WireError:
            written, is_exact = None, False
        if not is_exact:
            self.exact["data"] = text
        return written

    def envelope(self, signed: Signed) -> Document:
        return {
            "version": self.value("version", signed.version),
            "timestamp": self.value("timestamp", signed.timestamp),
            "pubKey": self.text("pubKey", signed.pub_key),
            "signature": self.text("signature", signed.signature),
        }

    def seal(self, document: Document, at_ms: int | None, signed: Signed | None) -> None:
        if self.exact:
            document[EXACT] = {"of": _seal(at_ms, signed), "exact": stringify(self.exact)}


def _seal(at_ms: int | None, signed: Signed | None) -> str:
    return f"{at_ms}:{safe_text(signed.signature) if signed is not None else ''}"


class _Reader:
    """A stored document with its exact values, if they still belong to it. Raises ValueError."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._exact: dict[str, str] = {}
        self.broadcasted_at_ms = milliseconds(document.get("broadcastedAt"))
        self.created_at_ms = milliseconds(document.get("createdAt"))
        self.received_at_ms = milliseconds(document.get("receivedAt"))
        expire_at_ms = milliseconds(document.get("expireAt"))
        if expire_at_ms is None:
            raise ValueError("no expireAt")
        self.expire_at_ms = expire_at_ms

    def unseal(self, at_ms: int | None, signature: str) -> None:
        kept = self._document.get(EXACT)
        if isinstance(kept, Mapping) and kept.get("of") == f"{at_ms}:{signature}":
            self._exact = parse(kept["exact"])

    def at_ms(self) -> int:
        if self.broadcasted_at_ms is None:
            raise ValueError("no broadcastedAt")
        return self.broadcasted_at_ms

    def text(self, field: str, document: Mapping[str, Any] | None = None) -> str:
        document = self._document if document is None else document
        text = self._exact.get(field, document.get(field))
        if not isinstance(text, str):
            raise ValueError(f"{field} is not a text")
        return text

    def value(self, field: str, document: Mapping[str, Any] | None = None) -> JsValue:
        document = self._document if document is None else document
        return parse(self._exact[field]) if field in self._exact else from_bson(document.get(field))

    def payload(self) -> str | None:
        if "data" in self._exact:
            return self._exact["data"]
        data = self._document.get("data")
        return None if data is None else stringify(from_bson(data))

    def signed(self, envelope: Mapping[str, Any]) -> Signed:
        return Signed(
            self.value("version", envelope),
            self.value("timestamp", envelope),
            self.text("pubKey", envelope),
            self.text("signature", envelope),
        )


# Events


def event_key(key: EventKey) -> Document:
    ip, kind, dedup_key = key
    return {"ip": safe_text(ip), "type": kind, "dedupKey": safe_text(dedup_key)}


def event_document(row: EventRow) -> Document:
    """The whole document, without `receivedAt`."""
    draft = _Draft()
    document: Document = {
        "ip": draft.text("ip", row.ip),
        "type": row.type,
        "dedupKey": draft.text("dedupKey", row.dedup_key),
    }
    if row.broadcasted_at_ms is not None:
        document["broadcastedAt"] = date(row.broadcasted_at_ms)
    if row.created_at_ms is not None:
        document["createdAt"] = date(row.created_at_ms)
    document["expireAt"] = date(row.expire_at_ms)
    if row.data_text is not None:
        document["data"] = draft.payload(row.data_text)
    if row.signed is not None:
        document["envelope"] = draft.envelope(row.signed)
    elif row.data_text is not None:
        document["envelope"] = None
    draft.seal(document, row.at_ms, row.signed)
    return document


def event_row(document: Mapping[str, Any]) -> EventRow:
    """Raises ValueError or WireError when the document is not an event."""
    reader = _Reader(document)
    envelope = document.get("envelope")
    signature = str(envelope.get("signature")) if isinstance(envelope, Mapping) else ""
    at_ms = reader.broadcasted_at_ms if reader.broadcasted_at_ms is not None else reader.created_at_ms
    reader.unseal(at_ms or 0, signature)
    return EventRow(
        reader.text("ip"),
        reader.text("type"),
        reader.text("dedupKey"),
        reader.expire_at_ms,
        broadcasted_at_ms=reader.broadcasted_at_ms,
        created_at_ms=reader.created_at_ms,
        received_at_ms=reader.received_at_ms,
        data_text=reader.payload(),
        signed=reader.signed(envelope) if isinstance(envelope, Mapping) else None,
    )


# Signed copies


def copy_key(kind: CopyKind, ip: str, name: str, hash_: str) -> Document:
    key = {"data.name": safe_text(name), "data.ip": safe_text(ip)}
    return {**key, "data.hash": safe_text(hash_)} if kind == "error" else key


def copy_document(copy: SignedCopy) -> Document:
    """The whole document. Name, ip and hash are members of its payload."""
    draft = _Draft()
    document = draft.envelope(copy.signed)
    document["data"] = draft.payload(copy.data_text)
    document["broadcastedAt"] = date(copy.broadcasted_at_ms)
    document["expireAt"] = date(copy.expire_at_ms)
    if copy.received_at_ms is not None:
        document["receivedAt"] = date(copy.received_at_ms)
    draft.seal(document, copy.broadcasted_at_ms, copy.signed)
    return document


def copy_row(kind: CopyKind, document: Mapping[str, Any]) -> SignedCopy:
    """Raises ValueError or WireError when the document is not a signed copy."""
    reader = _Reader(document)
    reader.unseal(reader.broadcasted_at_ms, str(document.get("signature")))
    data_text = reader.payload()
    if data_text is None:
        raise ValueError("no data")
    data = parse(data_text)
    name, ip = data.get("name"), data.get("ip")
    hash_ = data.get("hash") if kind == "error" else ""
    if not (isinstance(name, str) and isinstance(ip, str) and isinstance(hash_, str)):
        raise ValueError("data without name, ip or hash")
    return SignedCopy(
        kind,
        ip,
        name,
        hash_,
        reader.at_ms(),
        reader.expire_at_ms,
        reader.received_at_ms,
        data_text,
        reader.signed(document),
    )


# Rows


def location_document(row: LocationRow, key: Any) -> Document:
    draft = _Draft()
    document: Document = {
        "_id": key,
        "name": draft.text("name", row.name),
        "hash": draft.text("hash", row.hash),
        "ip": draft.text("ip", row.ip),
        "broadcastedAt": date(row.broadcasted_at_ms),
        "expireAt": date(row.expire_at_ms),
    }
    if row.running_since_ms is not None:
        document["runningSince"] = date(row.running_since_ms)
    document["osUptime"] = draft.value("osUptime", row.os_uptime)
    document["staticIp"] = draft.value("staticIp", row.static_ip)
    draft.seal(document, row.broadcasted_at_ms, None)
    return document


def location_row(document: Mapping[str, Any], row_id: int) -> LocationRow:
    reader = _Reader(document)
    reader.unseal(reader.broadcasted_at_ms, "")
    return LocationRow(
        row_id,
        reader.text("name"),
        reader.text("hash") if document.get("hash") is not None else "",
        reader.text("ip"),
        reader.at_ms(),
        reader.expire_at_ms,
        milliseconds(document.get("runningSince")),
        reader.value("osUptime"),
        reader.value("staticIp"),
    )


def installing_document(row: InstallingRow) -> Document:
    draft = _Draft()
    document: Document = {
        "name": draft.text("name", row.name),
        "ip": draft.text("ip", row.ip),
        "broadcastedAt": date(row.broadcasted_at_ms),
        "expireAt": date(row.expire_at_ms),
    }
    draft.seal(document, row.broadcasted_at_ms, None)
    return document


def installing_row(document: Mapping[str, Any]) -> InstallingRow:
    reader = _Reader(document)
    reader.unseal(reader.broadcasted_at_ms, "")
    return InstallingRow(reader.text("name"), reader.text("ip"), reader.at_ms(), reader.expire_at_ms)


def error_document(row: InstallErrorRow) -> Document:
    draft = _Draft()
    document: Document = {
        "name": draft.text("name", row.name),
        "hash": draft.text("hash", row.hash),
        "ip": draft.text("ip", row.ip),
        "error": draft.text("error", row.error),
        "broadcastedAt": date(row.broadcasted_at_ms),
        "expireAt": date(row.expire_at_ms),
    }
    draft.seal(document, row.broadcasted_at_ms, None)
    return document


def error_row(document: Mapping[str, Any]) -> InstallErrorRow:
    reader = _Reader(document)
    reader.unseal(reader.broadcasted_at_ms, "")
    return InstallErrorRow(
        reader.text("name"),
        reader.text("hash"),
        reader.text("ip"),
        reader.text("error"),
        reader.at_ms(),
        reader.expire_at_ms,
    )
