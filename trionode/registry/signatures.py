"""Who signed an app message, and whether he may (docs/spec/registry.md §5).

A signature is taken over `type + version + J(formatted specification) + timestamp`. Owners sign with a
Bitcoin key (their Flux ID) or, when their identity starts with `0x`, with an Ethereum key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec
from coincurve import PublicKey

from trionode.registry.coercion import num
from trionode.registry.constants import ETH_REGISTRATIONS_AFTER_MS, MAINNET, MARKETPLACE_NUMBER, Constants
from trionode.registry.messages import alternative_texts, signed_text
from trionode.registry.reasons import Reason, Rejected, Rejection, reject
from trionode.wire import ethereum, signing
from trionode.wire.jsjson import JsValue, is_number, stringify, truthy

Spec = dict[str, Any]
Decrypt = Callable[[Spec], Spec]
"""Opens the enterprise part of a specification; raises Rejected (CANNOT_DECRYPT) when it cannot."""

# ---- one signature -----------------------------------------------------------------------------------

_PLAIN = re.compile("[\x10-\xff]*").fullmatch
_SEGWIT_FLAGS = range(8, 12)


def ethereum_digest(message: str) -> bytes:
    """What an Ethereum owner signs.

    The text goes through unpadded hex of its UTF-16 units, cut into pairs: for plain text that is the
    usual `personal_sign`, for other characters it is the network's own.
    """
    if _PLAIN(message):
        body = message.encode("latin-1")
    else:
        units = message.encode("utf-16-be", "surrogatepass")
        digits = "".join(f"{high << 8 | low:x}" for high, low in zip(units[::2], units[1::2], strict=True))
        body = bytes(int(digits[at : at + 2], 16) for at in range(0, len(digits), 2))
    return ethereum.keccak256(ethereum.PREFIX + str(len(body)).encode() + body)


def _verify_ethereum(message: str, address: str, signature: str) -> bool:
    # the first two characters are cut without a look: `0x` has to be there
    raw = signing.decode_hex(signature[2:])
    if len(raw) != ethereum.SIGNATURE_BYTES:
        return False
    recovery = raw[64] if raw[64] < 2 else 1 - raw[64] % 2
    try:
        key = PublicKey.from_signature_and_message(
            raw[:64] + bytes((recovery,)), ethereum_digest(message), hasher=None
        )
    except ValueError:
        return False
    return ethereum.address_of_key(key.format(compressed=False)) == address.lower()


def verify_bitcoin(message: str, address: str, signature: str) -> bool:
    """Bitcoin signed message by a Flux ID (or public key in hex); the P2SH-P2WPKH headers count too."""
    if signing.verify_message(message, address, signature):
        return True
    return bool(message and signature) and _verify_segwit(message, address, signature)


def _verify_segwit(message: str, address: str, signature: str) -> bool:
    """Headers 35-38; those above ask for an address longer than any that is not taken as a public key."""
    raw = signing.decode_base64(signature)
    if len(raw) != signing.SIGNATURE_BYTES or raw[0] - 27 not in _SEGWIT_FLAGS:
        return False
    if not address or len(address) > signing.LONGEST_ADDRESS:
        return False
    try:
        digest = signing.message_digest(message)
        key = PublicKey.from_signature_and_message(raw[1:] + bytes((raw[0] - 27 & 3,)), digest, hasher=None)
        script = b"\x00\x14" + signing.hash160(key.format())
        return signing.address_payload(address)[1:] == signing.hash160(script)
    except ValueError:
        return False


def verify_signature(message: str, address: str, signature: str) -> bool:
    """Whether `signature` over `message` is by `address`, of whichever kind. Never raises."""
    if not (message and address and signature):
        return False
    if address.startswith("0x"):
        return _verify_ethereum(message, address, signature)
    return verify_bitcoin(message, address, signature)


# ---- registrations -----------------------------------------------------------------------------------

Role = Literal["owner", "team support", "extending user"]


class Signer(msgspec.Struct, frozen=True):
    """Who signed: in which role, with which identity, and whether over the key order of old builds."""

    role: Role
    address: str
    old_order: bool = False

    @property
    def kind(self) -> Literal["bitcoin", "ethereum"]:
        return "ethereum" if self.address.startswith("0x") else "bitcoin"


def _check_arguments(
    kind: JsValue, version: JsValue, spec: JsValue, timestamp: JsValue, signature: JsValue
) -> None:
    for field, value, fits in (
        ("type", kind, isinstance(kind, str)),
        ("version", version, is_number(version)),
        ("appSpecifications", spec, isinstance(spec, dict)),
        ("timestamp", timestamp, is_number(timestamp)),
        ("signature", signature, isinstance(signature, str)),
    ):
        if not fits:
            reject(Reason.MESSAGE_ARGUMENTS, field, value)


def _texts(spec: Spec, spec_text: str | None) -> Iterator[tuple[str, bool]]:
    """The canonical text, then the old key order where there is one."""
    yield (stringify(spec) if spec_text is None else spec_text), False
    for text in alternative_texts(spec):
        yield text, True


def _identity(value: JsValue) -> str:
    return value if isinstance(value, str) else ""


def check_registration(
    kind: str,
    version: int | float,
    spec: Spec,
    timestamp_ms: int | float,
    signature: str,
    *,
    spec_text: str | None = None,
) -> Signer:
    """Raises Rejected unless the owner named in the formatted `spec` signed its registration.

    `spec_text` is the exact text of `spec`, when the caller has it already.
    """
    _check_arguments(kind, version, spec, timestamp_ms, signature)
    owner = _identity(spec.get("owner"))
    verify = verify_signature if timestamp_ms > ETH_REGISTRATIONS_AFTER_MS else verify_bitcoin
    for text, old_order in _texts(spec, spec_text):
        if verify(signed_text(kind, version, text, timestamp_ms), owner, signature):
            return Signer("owner", owner, old_order)
    raise Rejected(Rejection(Reason.SIGNATURE_INVALID, "signature", signature, owner))


# ---- updates -----------------------------------------------------------------------------------------

_NUMBERS = re.compile("[0-9]+").findall


def is_marketplace_name(name: JsValue) -> bool:
    """Apps of the marketplace carry the time they were made in their name."""
    return isinstance(name, str) and any(float(run) > MARKETPLACE_NUMBER for run in _NUMBERS(name))


def check_update(
    kind: str,
    version: int | float,
    spec: Spec,
    timestamp_ms: int | float,
    signature: str,
    *,
    previous_owner: str,
    height: int,
    previous_spec: Spec | None = None,
    spec_text: str | None = None,
    constants: Constants = MAINNET,
    system_secure: bool = False,
    decrypt: Decrypt | None = None,
) -> Signer:
    """Raises Rejected unless somebody signed the update of the formatted `spec` who may.

    `height` is the H of §5. `previous_spec` is what the update replaces; a secure node brings `decrypt` to
    look into enterprise specifications.
    """
    _check_arguments(kind, version, spec, timestamp_ms, signature)
    signers: list[tuple[Role, str]] = [("owner", _identity(previous_owner))]
    support = constants.support_address(height)
    if support is not None and is_marketplace_name(spec.get("name")):
        signers.append(("team support", support))
    canonical = stringify(spec) if spec_text is None else spec_text
    for text, old_order in _texts(spec, canonical):
        message = signed_text(kind, version, text, timestamp_ms)
        for role, address in signers:
            if verify_signature(message, address, signature):
                return Signer(role, address, old_order)
    if previous_spec is not None:
        message = signed_text(kind, version, canonical, timestamp_ms)
        for user in constants.extending_users:
            if verify_signature(message, user, signature) and _may_extend(
                spec, previous_spec, system_secure=system_secure, decrypt=decrypt
            ):
                return Signer("extending user", user)
    raise Rejected(Rejection(Reason.SIGNATURE_NOT_OWNER, "signature", signature, previous_owner))


def _may_extend(spec: Spec, previous_spec: Spec, *, system_secure: bool, decrypt: Decrypt | None) -> bool:
    """Extending users may change the lifetime only."""
    if not _is_enterprise(spec):
        return expire_only(spec, previous_spec)
    if system_secure:
        return expire_only(_opened(spec, decrypt), previous_spec)
    return True  # a node that cannot look inside takes any change, as the network does


def _is_enterprise(spec: Spec) -> bool:
    return bool(num(spec.get("version")) >= 8 and truthy(spec.get("enterprise")))


def _opened(spec: Spec, decrypt: Decrypt | None) -> Spec:
    if decrypt is None:
        reject(Reason.CANNOT_DECRYPT, "enterprise")
    return decrypt(spec)


_EXTENSION_KEYS = ("expire", "height", "hash", "enterprise")


def expire_only(new: JsValue, existing: JsValue) -> bool:
    """Whether two specifications differ in nothing but their lifetime; key order does not count."""
    if not isinstance(new, dict) or not isinstance(existing, dict):
        return False
    return _same(_without_extension(new), _without_extension(existing))


def _without_extension(spec: Spec) -> Spec:
    return {key: value for key, value in spec.items() if key not in _EXTENSION_KEYS}


def _same(one: JsValue, other: JsValue) -> bool:
    """Deep equality as JavaScript has it: true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
