"""Signed text and hash of app register and update messages (docs/spec/wire.md §10).

Only the texts: which key orders are tried and what a valid specification is belongs to the registry.
"""

from __future__ import annotations

import hashlib

from trionode.wire.jsjson import JsValue, stringify, utf8
from trionode.wire.jsnumber import number_text


def _plain(value: JsValue) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_text(value)
    return stringify(value)


def app_signed_text(kind: str, version: JsValue, specification: JsValue, timestamp: JsValue) -> str:
    """The text an app owner signs: type, version, J(specification) and timestamp without separators."""
    return f"{kind}{_plain(version)}{stringify(specification)}{_plain(timestamp)}"


def app_message_hash(signed_text: str, signature: str) -> str:
    """SHA-256 (64 hex digits) over the signed text and the signature: the hash paid for on the chain."""
    return hashlib.sha256(utf8(signed_text + signature)).hexdigest()
