"""Signed envelopes: the JSON wrapper every gossip message travels in (docs/spec/wire.md §8, §9 step 1)."""

from __future__ import annotations

from functools import cached_property

import msgspec

from trionode.errors import WireError
from trionode.wire.jsjson import JsValue, is_number, parse, quote, stringify, truthy
from trionode.wire.jsnumber import number_text
from trionode.wire.keys import NodeKey
from trionode.wire.objecthash import object_hash

VERSION = 1


class EnvelopeError(WireError):
    """A message lacks a field of the envelope or has it in an impossible form (close 4016/4017)."""


class Envelope(msgspec.Struct, frozen=True, dict=True):
    """One envelope as received or sealed. `data` is not to be changed: its text and hash are fixed.

    `version` and `timestamp` are as received (a foreign timestamp may be a text); `data_text` is J(data).
    """

    version: JsValue
    timestamp: int | float | str
    pub_key: str
    signature: str
    data: dict[str, JsValue]
    data_text: str

    @property
    def timestamp_ms(self) -> int:
        """The timestamp as whole milliseconds. Raises EnvelopeError when it is not an integer."""
        if isinstance(self.timestamp, int):
            return self.timestamp
        raise EnvelopeError(
            f"envelope timestamp {self.timestamp!r} is not an integer", remedy="send milliseconds since 1970"
        )

    @property
    def has_integer_timestamp(self) -> bool:
        return isinstance(self.timestamp, int)

    @property
    def type(self) -> str:
        """`data.type`, or "" when it is missing or not a text."""
        kind = self.data.get("type")
        return kind if isinstance(kind, str) else ""

    @cached_property
    def signed_text(self) -> str:
        """The text the signature covers."""
        return f"{_plain(self.version)}{self.data_text}{_plain(self.timestamp)}"

    @cached_property
    def data_hash(self) -> str:
        """Content hash of `data`, 40 hex digits: the name of this message in the inventory."""
        return object_hash(self.data)

    @cached_property
    def text(self) -> str:
        """The whole envelope as it is sent on."""
        return envelope_text(self.version, self.timestamp, self.pub_key, self.signature, self.data_text)


def _plain(value: JsValue) -> str:
    """String(value) for the scalar kinds an envelope may hold."""
    if isinstance(value, str):
        return value
    return number_text(value) if is_number(value) else stringify(value)


def envelope_text(version: JsValue, timestamp: JsValue, pub_key: str, signature: str, data_text: str) -> str:
    """J of an envelope whose data is already in J form."""
    return (
        f'{{"version":{stringify(version)},"timestamp":{stringify(timestamp)},"pubKey":{quote(pub_key)},'
        f'"signature":{quote(signature)},"data":{data_text}}}'
    )


def decode_envelope(body: JsValue) -> Envelope:
    """Take an envelope out of a parsed message (docs/spec/wire.md §9 step 1).

    Raises EnvelopeError when version, timestamp, pubKey, signature or data is missing or falsy, or has a
    form that no verifiable message has: data must be an object, the texts texts, the timestamp a number
    or a text.
    """
    if not isinstance(body, dict):
        raise EnvelopeError("message is not an object", remedy="send an envelope as one JSON object")
    get = body.get
    version, timestamp, pub_key = get("version"), get("timestamp"), get("pubKey")
    signature, data = get("signature"), get("data")
    for name, value in (
        ("pubKey", pub_key),
        ("timestamp", timestamp),
        ("signature", signature),
        ("version", version),
        ("data", data),
    ):
        if not truthy(value):
            raise EnvelopeError(f"envelope without {name}", remedy="an envelope needs all five fields")
    if not isinstance(data, dict):
        raise EnvelopeError("envelope data is not an object", remedy="put the message fields into data")
    if not isinstance(pub_key, str) or not isinstance(signature, str):
        raise EnvelopeError("pubKey or signature is not a text", remedy="send hex and Base64 texts")
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float | str):
        raise EnvelopeError("envelope timestamp is not a number", remedy="send milliseconds since 1970")
    return Envelope(version, timestamp, pub_key, signature, data, stringify(data))


def seal(data: dict[str, JsValue], key: NodeKey, timestamp_ms: int) -> Envelope:
    """Sign a message with the node key. `data` is brought into JavaScript's order first."""
    data_text = stringify(data)
    return seal_text(data_text, key, timestamp_ms)


def seal_text(data_text: str, key: NodeKey, timestamp_ms: int) -> Envelope:
    """Like `seal`, for data that is already in J form (sync answers built from stored texts)."""
    signature = key.sign(f"{VERSION}{data_text}{timestamp_ms}")
    return Envelope(VERSION, timestamp_ms, key.public_key, signature, parse(data_text), data_text)


def sealed_text(data_text: str, key: NodeKey, timestamp_ms: int) -> str:
    """The text of `seal_text(...)` alone: long data is not parsed only to be printed again."""
    signature = key.sign(f"{VERSION}{data_text}{timestamp_ms}")
    return envelope_text(VERSION, timestamp_ms, key.public_key, signature, data_text)
