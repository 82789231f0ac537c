"""Bitcoin-style signed messages: digest, recovery, verdict (docs/spec/wire.md §7).

A signature is judged by recovering its public key and comparing it with the signer. The recovery in C
releases the interpreter lock, so batches may be spread over threads.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import base58
from coincurve import PublicKey
from Crypto.Hash import RIPEMD160

from trionode.wire.jsjson import utf8

SIGNATURE_BYTES = 65
_PREFIX = b"\x18Bitcoin Signed Message:\n"
LONGEST_ADDRESS = 36
"""A longer signer is a public key in hex."""

_HEX_PAIRS = re.compile(r"(?:[0-9a-fA-F]{2})*", re.ASCII)
_PLAIN_BASE64 = re.compile(r"[A-Za-z0-9+/]{87}=", re.ASCII).fullmatch
_TO_PLAIN = str.maketrans("-_", "+/")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]", re.ASCII)


def message_digest(message: str) -> bytes:
    """The 32 bytes that are signed for a message."""
    body = utf8(message)
    size = len(body)
    if size < 0xFD:
        length = bytes((size,))
    elif size <= 0xFFFF:
        length = b"\xfd" + size.to_bytes(2, "little")
    else:
        length = b"\xfe" + size.to_bytes(4, "little")
    return hashlib.sha256(hashlib.sha256(_PREFIX + length + body).digest()).digest()


def hash160(data: bytes) -> bytes:
    """RIPEMD160(SHA256(data)), the 20 bytes inside an address."""
    return RIPEMD160.new(hashlib.sha256(data).digest()).digest()


@lru_cache(maxsize=8192)
def address_payload(text: str) -> bytes:
    """Base58Check content, version bytes first. Raises ValueError when text or checksum are wrong."""
    if text[-1:].isspace():
        # the decoder would strip it; to the network a space is no Base58 digit
        raise ValueError("address ends with a space")
    return base58.b58decode_check(text)


def _low_bytes(text: str) -> str:
    """Both decoders of the network look at the low byte of each UTF-16 unit only."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass")[::2].decode("latin-1")


def decode_base64(text: str) -> bytes:
    """Base64 as the network reads it: either alphabet, no padding needed, foreign characters skipped."""
    if _PLAIN_BASE64(text):
        return binascii.a2b_base64(text)
    text = _NOT_BASE64.sub("", _low_bytes(text).partition("=")[0].translate(_TO_PLAIN))
    if len(text) % 4 == 1:
        text = text[:-1]
    return binascii.a2b_base64(text + "=" * (-len(text) % 4))


def decode_hex(text: str) -> bytes:
    """Hex as the network reads it: up to the first pair that is none."""
    text = _low_bytes(text)
    try:
        # fromhex skips spaces, which the network does not
        return bytes.fromhex(text) if text.isalnum() else _hex_head(text)
    except ValueError:
        return _hex_head(text)


def _hex_head(text: str) -> bytes:
    found = _HEX_PAIRS.match(text)
    return bytes.fromhex(found[0]) if found else b""


def recover(message: str, signature: str) -> bytes | None:
    """Public key (in the form the header byte states) that made the signature; None if it is unusable."""
    raw = decode_base64(signature)
    if len(raw) != SIGNATURE_BYTES:
        return None
    flags = raw[0] - 27
    # 8 and above mark segwit addresses, which no signer of the network uses
    if not 0 <= flags < 8:
        return None
    try:
        key = PublicKey.from_signature_and_message(
            raw[1:] + bytes((flags & 3,)), message_digest(message), hasher=None
        )
    except ValueError:
        return None
    return key.format(compressed=flags >= 4)


def _verdict(message: str, signer: str, signature: str) -> bool:
    key = recover(message, signature)
    if key is None:
        return False
    if len(signer) > LONGEST_ADDRESS:
        # equal keys and equal HASH160 are the same thing, and this needs no hashing
        return key == decode_hex(signer)
    try:
        payload = address_payload(signer)
    except ValueError:
        return False
    return payload[1:] == hash160(key)


def verify_message(message: str, signer: str, signature: str) -> bool:
    """Whether `signature` (Base64) over `message` is by `signer` (public key hex, or address up to 36 chars).

    Never raises: whatever is wrong with the three texts makes the answer False. An empty text is False.
    """
    if not (message and signer and signature):
        return False
    return _verdict(message, signer, signature)


def verify_batch(items: Sequence[tuple[str, str, str]]) -> list[bool]:
    """Verdicts for (message, signer, signature) in order; unlike `verify_message` an empty message counts."""
    return [
        bool(signer and signature) and _verdict(message, signer, signature)
        for message, signer, signature in items
    ]
