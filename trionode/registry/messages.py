"""App messages: a signed registration or update, its text and its hash (docs/spec/registry.md §5).

A message is kept as it was received; its hash is taken over that text. Signatures are taken over the
formatted specification, see signatures.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from trionode.registry.coercion import UNDEFINED, num
from trionode.registry.reasons import Reason, reject
from trionode.wire.appmessage import app_message_hash
from trionode.wire.jsjson import JsValue, is_number, stringify, truthy
from trionode.wire.jsnumber import number_text

REGISTER_TYPES = frozenset({"fluxappregister", "zelappregister"})
UPDATE_TYPES = frozenset({"fluxappupdate", "zelappupdate"})
MESSAGE_TYPES = REGISTER_TYPES | UPDATE_TYPES

SPEC_KEY = "appSpecifications"
LEGACY_SPEC_KEY = "zelAppSpecifications"
"""What very old messages call their specification."""

_OLD_FLAT_ORDER = ("version", "name", "description", "repotag", "owner")
_MOVED_TO_END = ("secrets", "repoauth")


class AppMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A signed registration or update as it was received.

    `spec_text` is the exact JSON text of `spec`. `arcane_sender` is None when the sender did not say.
    `type` is not checked against the four known ones: anything that registers nothing is an update.
    """

    type: str
    version: int | float
    spec: dict[str, Any]
    spec_text: str
    hash: str
    timestamp_ms: int | float
    signature: str
    arcane_sender: bool | None = None

    @property
    def is_registration(self) -> bool:
        return self.type in REGISTER_TYPES

    @property
    def name(self) -> str:
        """The app's name as the message gives it; empty when it gives none."""
        name = self.spec.get("name")
        return name if isinstance(name, str) else ""


def spec_of(document: dict[str, Any]) -> JsValue:
    """The specification of a message or row under its present or its very old key."""
    spec = document.get(SPEC_KEY)
    return spec if truthy(spec) else document.get(LEGACY_SPEC_KEY)


def app_message(
    kind: str,
    version: int | float,
    spec: dict[str, Any],
    timestamp_ms: int | float,
    signature: str,
    *,
    arcane_sender: bool | None = None,
) -> AppMessage:
    """A message of our own making: text and hash are worked out here."""
    spec_text = stringify(spec)
    return AppMessage(
        type=kind,
        version=version,
        spec=spec,
        spec_text=spec_text,
        hash=app_message_hash(signed_text(kind, version, spec_text, timestamp_ms), signature),
        timestamp_ms=timestamp_ms,
        signature=signature,
        arcane_sender=arcane_sender,
    )


def read_app_message(data: JsValue) -> AppMessage:
    """Read a message off the wire or out of a row.

    Raises Rejected: MESSAGE_SHAPE, SPEC_NULL, or MISSING_VERSION for an array as specification.
    """
    if not isinstance(data, dict):
        reject(Reason.MESSAGE_SHAPE, "the content", data)
    for key in ("type", "hash", "signature"):
        if not isinstance(data.get(key), str):
            reject(Reason.MESSAGE_SHAPE, key, data.get(key))
    for key in ("version", "timestamp"):
        if not is_number(data.get(key)):
            reject(Reason.MESSAGE_SHAPE, key, data.get(key))
    spec = spec_of(data)
    if spec is None and (SPEC_KEY in data or LEGACY_SPEC_KEY in data):
        reject(Reason.SPEC_NULL)
    if isinstance(spec, list):
        reject(Reason.MISSING_VERSION, SPEC_KEY)  # what an array never has
    if not isinstance(spec, dict):
        reject(Reason.MESSAGE_SHAPE, SPEC_KEY, spec)
    arcane_sender = data.get("arcaneSender")
    return AppMessage(
        type=data["type"],
        version=data["version"],
        spec=spec,
        spec_text=stringify(spec),
        hash=data["hash"],
        timestamp_ms=data["timestamp"],
        signature=data["signature"],
        arcane_sender=arcane_sender if isinstance(arcane_sender, bool) else None,
    )


def message_document(message: AppMessage, arcane_sender: bool | None = None) -> dict[str, Any]:
    """The message as it travels; `arcane_sender` is told when the message itself knows none."""
    document: dict[str, Any] = {
        "type": message.type,
        "version": message.version,
        SPEC_KEY: message.spec,
        "hash": message.hash,
        "timestamp": message.timestamp_ms,
        "signature": message.signature,
    }
    told = arcane_sender if message.arcane_sender is None else message.arcane_sender
    if told is not None:
        document["arcaneSender"] = told
    return document


# ---- texts -------------------------------------------------------------------------------------------


def signed_text(kind: str, version: int | float, spec_text: str, timestamp_ms: int | float) -> str:
    """What the owner signs, given the exact text of the specification."""
    return f"{kind}{number_text(version)}{spec_text}{number_text(timestamp_ms)}"


def alternative_texts(spec: dict[str, Any]) -> Iterator[str]:
    """The text of the same specification in the key order old builds signed and hashed, where there is one.

    Versions up to 3 had the owner after the repotag; version 7 had `secrets` before `repoauth`, both last.
    """
    version = num(spec.get("version", UNDEFINED))
    if version <= 3:
        head = {key: spec[key] for key in _OLD_FLAT_ORDER if key in spec}
        yield stringify(head | spec)
    elif version == 7 and isinstance(spec.get("compose"), list):
        yield stringify({**spec, "compose": [_moved(component) for component in spec["compose"]]})


def _moved(component: JsValue) -> JsValue:
    if not isinstance(component, dict):
        return component
    kept = {key: value for key, value in component.items() if key not in _MOVED_TO_END}
    kept.update((key, component[key]) for key in _MOVED_TO_END if key in component)
    return kept


# ---- hash --------------------------------------------------------------------------------------------


def message_hash(message: AppMessage) -> str:
    """The hash of the message as received."""
    text = signed_text(message.type, message.version, message.spec_text, message.timestamp_ms)
    return app_message_hash(text, message.signature)


def message_hash_ok(message: AppMessage) -> bool:
    """Whether the hash belongs to the message, as received or in the old key order."""
    if message_hash(message) == message.hash:
        return True
    kind, version, timestamp_ms = message.type, message.version, message.timestamp_ms
    return any(
        app_message_hash(signed_text(kind, version, text, timestamp_ms), message.signature) == message.hash
        for text in alternative_texts(message.spec)
    )


def check_hash(message: AppMessage) -> None:
    """Raises Rejected (HASH_MISMATCH) unless `message_hash_ok`."""
    if not message_hash_ok(message):
        reject(Reason.HASH_MISMATCH, "hash", message.hash, message_hash(message))
