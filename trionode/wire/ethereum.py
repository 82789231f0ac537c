"""Ethereum `personal_sign`: who signed a text (docs/spec/api.md §2.2, wire.md §7).

Used for people (sign-in, app owners) whose identity starts with `0x`; nodes never sign this way.
"""

from __future__ import annotations

import coincurve
from Crypto.Hash import keccak

PREFIX = b"\x19Ethereum Signed Message:\n"
SIGNATURE_BYTES = 65


def keccak256(data: bytes) -> bytes:
    """The Keccak digest Ethereum uses (not the later SHA3-256)."""
    return keccak.new(digest_bits=256, data=data).digest()


def personal_digest(message: str) -> bytes:
    """What a wallet signs for `message`: the prefix carries the length of its UTF-8 form in bytes.

    Lone surrogates become U+FFFD, as when JavaScript encodes text.
    """
    body = message.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    return keccak256(PREFIX + str(len(body)).encode() + body)


def address_of_key(public_key: bytes) -> str:
    """`0x` + 40 lower-case hex for an uncompressed public key (65 bytes, leading 04)."""
    return "0x" + keccak256(public_key[1:])[-20:].hex()


def recover_address(message: str, signature: str) -> str | None:
    """The lower-case address that signed `message`, or None when the signature is unusable.

    `signature` is hex with or without `0x`: r, s and a recovery byte of 0, 1, 27 or 28.
    """
    digits = signature[2:] if signature[:2] in ("0x", "0X") else signature
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        return None
    if len(raw) != SIGNATURE_BYTES:
        return None
    recovery = raw[64] - 27 if raw[64] >= 27 else raw[64]
    if recovery not in (0, 1):
        return None
    try:
        key = coincurve.PublicKey.from_signature_and_message(
            raw[:64] + bytes([recovery]), personal_digest(message), hasher=None
        )
    except ValueError:
        return None
    return address_of_key(key.format(compressed=False))


def verify_personal(message: str, address: str, signature: str) -> bool:
    """True when `address` (any letter case) signed `message` with `personal_sign`."""
    return recover_address(message, signature) == address.lower()
