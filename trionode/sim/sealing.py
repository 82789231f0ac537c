"""A stand-in for the cipher of encrypted specifications, for secure benchmark daemons (registry.md §10).

The blob has the real form, AES-256-GCM included. Only the wrapping of the key is another one: instead of RSA
it is masked with a pad of owner and app, so that a question that names another owner or app opens nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import random
from typing import Any

import msgspec
from Crypto.Cipher import AES

from trionode.chain.enterprise import KEY_BYTES, NONCE_BYTES, TAG_BYTES, WRAPPED_KEY_BYTES
from trionode.wire.jsjson import stringify, utf8

SECTION = ("contacts", "compose")
"""Members of a specification that are in the encrypted section."""


def seal_spec(spec: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The specification as its owner registers it: section in `enterprise`, its members empty in clear."""
    key, nonce = rng.randbytes(KEY_BYTES), rng.randbytes(NONCE_BYTES)
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=TAG_BYTES)
    text, tag = cipher.encrypt_and_digest(utf8(stringify({name: spec[name] for name in SECTION})))
    wrapped = _masked(key, spec["owner"], spec["name"])
    blob = base64.b64encode(wrapped + nonce + text + tag).decode()
    return {**spec, "contacts": [], "compose": [], "enterprise": blob}


def unwrap(question: str) -> str:
    """What `decryptrsamessage` of a secure node answers."""
    try:
        asked = msgspec.json.decode(question, type=dict[str, Any])
        wrapped = base64.b64decode(asked["message"], validate=True)
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, binascii.Error):
        return _text("error", "no such message")
    key = bytes(
        one ^ other for one, other in zip(wrapped, _pad(asked["fluxID"], asked["appName"]), strict=False)
    )[:KEY_BYTES]
    if len(wrapped) != WRAPPED_KEY_BYTES or _masked(key, asked["fluxID"], asked["appName"]) != wrapped:
        return _text("error", "decryption failed")
    return _text("ok", base64.b64encode(key).decode())


def _masked(key: bytes, owner: str, app: str) -> bytes:
    check = hashlib.sha512(key).digest() * 4
    return bytes(one ^ other for one, other in zip(_filled(key, check), _pad(owner, app), strict=True))


def _filled(key: bytes, check: bytes) -> bytes:
    return (key + check)[:WRAPPED_KEY_BYTES]


def _pad(owner: str, app: str) -> bytes:
    return b"".join(
        hashlib.sha512(f"{owner} {app} {number}".encode()).digest()
        for number in range(WRAPPED_KEY_BYTES // 64)
    )


def _text(status: str, message: str) -> str:
    return msgspec.json.encode({"status": status, "message": message}).decode()
