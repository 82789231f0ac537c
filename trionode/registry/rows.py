"""The rows of the registry as they are stored, and their JSON forms (docs/spec/registry.md §2).

None is an absent field: a row read from another node's database may lack the retry fields. A spec is kept
as its exact canonical text, because the hash and the signature of its message cover that text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from trionode.wire.jsjson import JsValue, parse, quote, stringify

Number: TypeAlias = int | float
"""A JavaScript number: message versions and timestamps are signed as they came, whole or not."""


class HashRow(msgspec.Struct, frozen=True, gc=False):
    """A payment on the chain for the message with that hash."""

    txid: str
    height: int
    hash: str
    value_sat: int
    message: bool = False
    message_not_found: bool | None = None
    sync_attempts: int | None = None
    next_retry_height: int | None = None
    retry_from_height: int | None = None

    @classmethod
    def found(cls, txid: str, height: int, hash: str, value_sat: int) -> HashRow:
        """The row of a payment just seen in block `height` (§9)."""
        return cls(
            txid,
            height,
            hash,
            value_sat,
            sync_attempts=0,
            next_retry_height=height,
            retry_from_height=height,
        )

    @property
    def flagged(self) -> bool:
        """Given up: no longer asked for by itself."""
        return self.message_not_found is True

    def due(self, height: int) -> bool:
        """Whether its message is still to be asked for at `height` (§12)."""
        if self.message or self.flagged:
            return False
        return self.next_retry_height is None or self.next_retry_height <= height

    def document(self) -> dict[str, JsValue]:
        """The stored document of §2; absent fields stay absent."""
        document: dict[str, JsValue] = {
            "txid": self.txid,
            "height": self.height,
            "hash": self.hash,
            "value": self.value_sat,
            "message": self.message,
        }
        optional = {
            "messageNotFound": self.message_not_found,
            "syncAttempts": self.sync_attempts,
            "nextRetryHeight": self.next_retry_height,
            "retryFromHeight": self.retry_from_height,
        }
        document |= {key: value for key, value in optional.items() if value is not None}
        return document

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> HashRow:
        """The row of a stored document."""
        return cls(
            document.get("txid", ""),
            document.get("height", 0),
            document["hash"],
            document.get("value", 0),
            document.get("message") is True,
            document.get("messageNotFound"),
            document.get("syncAttempts"),
            document.get("nextRetryHeight"),
            document.get("retryFromHeight"),
        )


class PermanentRow(msgspec.Struct, frozen=True, gc=False):
    """A message joined with the payment for it."""

    hash: str
    type: str
    version: Number
    spec_text: str
    name: str
    owner: str
    timestamp_ms: Number
    signature: str
    txid: str
    height: int
    value_sat: int

    @property
    def recency(self) -> tuple[int, Number, str]:
        """Orders the messages of a name; the greatest is the newest. Of equal heights the later timestamp
        wins, then the greater hash, so that the order of arrival never decides."""
        return (self.height, self.timestamp_ms, self.hash)

    def spec(self) -> dict[str, JsValue]:
        """The specification, parsed anew."""
        return _object(self.spec_text)

    def json_text(self) -> str:
        """The document of §2 as JSON text, without parsing the specification."""
        return (
            f'{{"type":{quote(self.type)},"version":{stringify(self.version)},'
            f'"appSpecifications":{self.spec_text},"hash":{quote(self.hash)},'
            f'"timestamp":{stringify(self.timestamp_ms)},"signature":{quote(self.signature)},'
            f'"txid":{quote(self.txid)},"height":{self.height},"valueSat":{self.value_sat}}}'
        )


class TemporaryRow(msgspec.Struct, frozen=True, gc=False):
    """A message known from gossip that is not paid yet. `expire_at_ms` ends its stay."""

    hash: str
    type: str
    version: Number
    spec_text: str
    name: str
    owner: str
    timestamp_ms: Number
    signature: str
    received_at_ms: int
    expire_at_ms: int
    arcane_sender: bool | None = None

    def spec(self) -> dict[str, JsValue]:
        """The specification, parsed anew."""
        return _object(self.spec_text)

    def permanent(self, txid: str, height: int, value_sat: int) -> PermanentRow:
        """The permanent row that this message becomes when paid."""
        return PermanentRow(
            self.hash,
            self.type,
            self.version,
            self.spec_text,
            self.name,
            self.owner,
            self.timestamp_ms,
            self.signature,
            txid,
            height,
            value_sat,
        )


class CurrentSpec(msgspec.Struct, frozen=True, gc=False):
    """The specification in force for a name."""

    name: str
    spec_text: str
    hash: str
    height: int

    def spec(self) -> dict[str, JsValue]:
        """The specification, parsed anew."""
        return _object(self.spec_text)

    def json_text(self) -> str:
        """The flattened document of §2 as JSON text: the specification, then hash and height."""
        head = self.spec_text[:-1]
        comma = "" if head == "{" else ","
        return f'{head}{comma}"hash":{quote(self.hash)},"height":{self.height}}}'

    @classmethod
    def of(cls, row: PermanentRow) -> CurrentSpec:
        return cls(row.name, row.spec_text, row.hash, row.height)


class ChainMessageRow(msgspec.Struct, frozen=True, gc=False):
    """A soft fork message of the chain, e.g. prices with version "p" (§9)."""

    txid: str
    height: int
    message: str
    version: str


def _object(text: str) -> dict[str, JsValue]:
    value = parse(text)
    if not isinstance(value, dict):
        raise TypeError(f"a stored specification is not an object: {text[:80]!r}")
    return value
