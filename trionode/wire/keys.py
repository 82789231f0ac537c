"""Node keys: WIF in, public key and signatures out (docs/spec/wire.md §7)."""

from __future__ import annotations

import binascii
import random

import base58
from coincurve import PrivateKey

from trionode.errors import WireError
from trionode.wire.signing import hash160, message_digest

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_WIF_VERSION = b"\x80"
_ADDRESS_VERSION = b"\x00"


class KeyFormatError(WireError):
    """A private or public key text cannot be read."""


def address_of(public_key_hex: str) -> str:
    """P2PKH address of a public key in the form given. Raises KeyFormatError if it is not hex."""
    try:
        raw = bytes.fromhex(public_key_hex)
    except ValueError:
        raise KeyFormatError(
            f"public key is not hex: {public_key_hex[:20]!r}...", remedy="give 66 or 130 hex digits"
        ) from None
    return base58.b58encode_check(_ADDRESS_VERSION + hash160(raw)).decode()


class NodeKey:
    """A secret key together with the form (compressed or not) in which its public key travels."""

    __slots__ = ("_secret", "address", "compressed", "public_key", "wif")

    def __init__(self, secret: bytes, *, compressed: bool, wif: str | None = None) -> None:
        """`secret` is 32 bytes. Raises KeyFormatError when it is no key of the curve."""
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < _ORDER:
            raise KeyFormatError("secret key outside the curve's range", remedy="create a new key")
        self._secret = PrivateKey(secret)
        self.compressed = compressed
        self.public_key = self._secret.public_key.format(compressed=compressed).hex()
        self.address = address_of(self.public_key)
        self.wif = wif or _wif(secret, compressed)

    @classmethod
    def from_wif(cls, wif: str) -> NodeKey:
        """Read a WIF; one that starts with 5 means the uncompressed form. Raises KeyFormatError."""
        try:
            payload = base58.b58decode_check(wif)
        except ValueError:
            raise KeyFormatError(
                "private key is not Base58 with a valid checksum",
                remedy="copy zelnodeprivkey from the daemon's configuration again",
            ) from None
        return cls(payload[1:33], compressed=not wif.startswith("5"), wif=wif)

    @classmethod
    def generate(cls, rng: random.Random, *, compressed: bool = False) -> NodeKey:
        """Make a new key from `rng`; use random.SystemRandom() for keys that guard anything."""
        return cls(rng.randrange(1, _ORDER).to_bytes(32, "big"), compressed=compressed)

    def sign(self, message: str) -> str:
        """Sign a message: 65 bytes as Base64, low-S, nonce by RFC 6979 (so equal inputs sign equally)."""
        raw = self._secret.sign_recoverable(message_digest(message), hasher=None)
        header = 27 + raw[64] + (4 if self.compressed else 0)
        return binascii.b2a_base64(bytes((header,)) + raw[:64], newline=False).decode()

    def __repr__(self) -> str:
        return f"NodeKey({self.address})"


def _wif(secret: bytes, compressed: bool) -> str:
    return base58.b58encode_check(_WIF_VERSION + secret + (b"\x01" if compressed else b"")).decode()
