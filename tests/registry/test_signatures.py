"""Signatures of app messages: kinds, roles, key orders, expire-only changes (docs/spec/registry.md §5)."""

from __future__ import annotations

import random
from typing import Any

import base58
import pytest
from coincurve import PrivateKey
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from trionode.config.economy import EconomySettings, SupportAddress
from trionode.registry.constants import ETH_REGISTRATIONS_AFTER_MS, Constants
from trionode.registry.messages import alternative_texts, signed_text
from trionode.registry.reasons import Reason, Rejected, Rejection
from trionode.registry.signatures import (
    check_registration,
    check_update,
    ethereum_digest,
    expire_only,
    is_marketplace_name,
    verify_bitcoin,
    verify_signature,
)
from trionode.wire import ethereum, signing
from trionode.wire.jsjson import stringify
from trionode.wire.keys import NodeKey

OWNER, OTHER, TEAM, EXTENDER = (NodeKey.generate(random.Random(n), compressed=True) for n in range(4))
SUPPORT_FROM = 1_000
CONSTANTS = Constants(
    economy=EconomySettings(
        support_addresses=(SupportAddress(SUPPORT_FROM, TEAM.address),),
        extending_users=(EXTENDER.address,),
    )
)
TIME_MS = 1_750_000_000_000
SPEC = {"version": 8, "name": "app", "owner": OWNER.address, "compose": [], "expire": 5, "enterprise": ""}
OLD_SPECS: list[dict[str, Any]] = [
    {"version": 3, "name": "app", "description": "d", "owner": OWNER.address, "repotag": "r"},
    {"version": 7, "name": "app", "owner": OWNER.address, "compose": [{"repoauth": "r", "secrets": "s"}]},
]


class EthereumKey:
    """A wallet that signs the way the network reads it."""

    def __init__(self, seed: int) -> None:
        self._key = PrivateKey(random.Random(seed).randbytes(32))
        self.address = ethereum.address_of_key(self._key.public_key.format(compressed=False))

    def sign(self, message: str, first_v: int = 27) -> str:
        raw = self._key.sign_recoverable(ethereum_digest(message), hasher=None)
        return "0x" + (raw[:64] + bytes((raw[64] + first_v,))).hex()


def refusal(rule: Any, *arguments: Any, **named: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        rule(*arguments, **named)
    return caught.value


def text_of(spec: dict[str, Any], kind: str = "fluxappupdate", time_ms: int = TIME_MS) -> str:
    return signed_text(kind, 1, stringify(spec), time_ms)


# ---- one signature -----------------------------------------------------------------------------------


@given(message=st.text(st.characters(exclude_categories=()), min_size=1))
@settings(max_examples=60, deadline=None)
def test_both_kinds_verify_any_text(message: str) -> None:
    wallet = EthereumKey(5)
    assert verify_signature(message, OWNER.address, OWNER.sign(message))
    assert verify_signature(message, OWNER.public_key, OWNER.sign(message))
    assert verify_signature(message, wallet.address, wallet.sign(message))
    assert verify_signature(message, wallet.address.replace("a", "A"), wallet.sign(message, first_v=0))
    assert not verify_signature(message + "x", wallet.address, wallet.sign(message))


@given(
    message=st.text(st.characters(exclude_categories=())),
    address=st.one_of(
        st.text(st.characters(exclude_categories=())),
        st.just(OWNER.address),
        st.text().map(lambda text: "0x" + text),
    ),
    signature=st.one_of(
        st.text(st.characters(exclude_categories=())),
        st.binary(min_size=65, max_size=65).map(lambda raw: "0x" + raw.hex()),
        st.binary(min_size=65, max_size=65).map(lambda raw: __import__("base64").b64encode(raw).decode()),
    ),
)
@settings(max_examples=examples(150), deadline=None)
def test_nothing_raises(message: str, address: str, signature: str) -> None:
    assert verify_signature(message, address, signature) is False


def test_digest_is_that_of_wallets_for_plain_text() -> None:
    assert ethereum_digest("fluxappregister1{}") == ethereum.personal_digest("fluxappregister1{}")
    assert ethereum_digest("caf\u00e9") != ethereum.personal_digest("caf\u00e9")


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("a\nb", "61a62"),
        ("\u0142", "142"),
        ("\U0001f600", "d83dde00"),
        ("\u00e9\u00e9", "e9e9"),
        ("\x00", "0"),
    ],
)
def test_digest_cuts_unpadded_hex_into_pairs(text: str, body: str) -> None:
    raw = bytes(int(body[at : at + 2], 16) for at in range(0, len(body), 2))
    assert ethereum_digest(text) == ethereum.keccak256(ethereum.PREFIX + str(len(raw)).encode() + raw)


def test_ethereum_signature_loses_its_first_two_characters() -> None:
    wallet = EthereumKey(1)
    signature = wallet.sign("text")
    assert verify_signature("text", wallet.address, "??" + signature[2:])
    assert not verify_signature("text", wallet.address, signature[2:])
    assert not verify_signature("text", wallet.address, signature + "00")
    assert not verify_bitcoin("text", wallet.address, signature)


def _with_header(key: NodeKey, message: str, header: int) -> str:
    raw = bytearray(signing.decode_base64(key.sign(message)))
    raw[0] = header + (raw[0] - 27 & 3)
    return __import__("base64").b64encode(bytes(raw)).decode()


def test_nested_segwit_headers_verify_their_own_addresses_only() -> None:
    script = b"\x00\x14" + signing.hash160(bytes.fromhex(OWNER.public_key))
    nested = base58.b58encode_check(b"\x05" + signing.hash160(script)).decode()
    assert verify_signature("text", nested, _with_header(OWNER, "text", 35))
    assert not verify_signature("text", nested, OWNER.sign("text"))
    assert not verify_signature("text", OWNER.address, _with_header(OWNER, "text", 35))
    assert not verify_signature("text", OWNER.public_key, _with_header(OWNER, "text", 35))
    assert not verify_signature("text", OWNER.address, _with_header(OWNER, "text", 39))
    assert not verify_signature("text", "3" * 30, _with_header(OWNER, "text", 35))


# ---- registrations -----------------------------------------------------------------------------------


def test_a_registration_is_signed_by_its_owner() -> None:
    text = text_of(SPEC, "fluxappregister")
    signer = check_registration("fluxappregister", 1, SPEC, TIME_MS, OWNER.sign(text))
    assert (signer.role, signer.address, signer.kind, signer.old_order) == (
        "owner",
        OWNER.address,
        "bitcoin",
        False,
    )
    error = refusal(check_registration, "fluxappregister", 1, SPEC, TIME_MS, OTHER.sign(text))
    assert error.reason is Reason.SIGNATURE_INVALID
    assert OWNER.address in str(error)


@pytest.mark.parametrize("spec", OLD_SPECS, ids=["v3", "v7"])
def test_registrations_over_the_old_order_count(spec: dict[str, Any]) -> None:
    (old,) = alternative_texts(spec)
    signature = OWNER.sign(signed_text("zelappregister", 1, old, TIME_MS))
    assert check_registration("zelappregister", 1, spec, TIME_MS, signature).old_order


@pytest.mark.parametrize(("time_ms", "counts"), [(0, False), (1, True)])
def test_ethereum_registrations_have_a_first_day(time_ms: int, counts: bool) -> None:
    wallet = EthereumKey(2)
    time_ms += ETH_REGISTRATIONS_AFTER_MS
    spec = {**SPEC, "owner": wallet.address}
    signature = wallet.sign(text_of(spec, "fluxappregister", time_ms))
    arguments = ("fluxappregister", 1, spec, time_ms, signature)
    if counts:
        assert check_registration(*arguments).kind == "ethereum"
    else:
        assert refusal(check_registration, *arguments).reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    ("position", "value"),
    [(0, 1), (1, "1"), (1, True), (2, []), (2, None), (2, "x"), (3, "5"), (3, None), (4, None), (4, 5)],
)
def test_arguments(position: int, value: Any) -> None:
    arguments: list[Any] = ["fluxappupdate", 1, SPEC, TIME_MS, "signature"]
    arguments[position] = value
    assert refusal(check_registration, *arguments).reason is Reason.MESSAGE_ARGUMENTS
    error = refusal(check_update, *arguments, previous_owner=OWNER.address, height=1)
    assert error.reason is Reason.MESSAGE_ARGUMENTS


def test_an_owner_that_is_no_text_signs_nothing() -> None:
    error = refusal(check_registration, "fluxappregister", 1, {**SPEC, "owner": 5}, TIME_MS, "x")
    assert error.reason is Reason.SIGNATURE_INVALID


# ---- updates -----------------------------------------------------------------------------------------


def update(
    spec: dict[str, Any], key: Any, *, height: int = SUPPORT_FROM, text: str = "", **named: Any
) -> Any:
    signature = key.sign(text or text_of(spec))
    named = {"previous_owner": OWNER.address, "constants": CONSTANTS, **named}
    return check_update("fluxappupdate", 1, spec, TIME_MS, signature, height=height, **named)


def test_the_previous_owner_signs_even_when_he_gives_the_app_away() -> None:
    given_away = {**SPEC, "owner": OTHER.address}
    assert update(given_away, OWNER).role == "owner"
    assert refusal(update, given_away, OTHER).reason is Reason.SIGNATURE_NOT_OWNER


def test_ethereum_owners_may_update_at_any_time() -> None:
    wallet = EthereumKey(3)
    signature = wallet.sign(text_of(SPEC, time_ms=5))
    signer = check_update(
        "fluxappupdate", 1, SPEC, 5, signature, previous_owner=wallet.address, height=1, constants=CONSTANTS
    )
    assert (signer.role, signer.kind) == ("owner", "ethereum")


@pytest.mark.parametrize("spec", OLD_SPECS, ids=["v3", "v7"])
def test_updates_over_the_old_order_count_for_owner_and_team(spec: dict[str, Any]) -> None:
    spec = {**spec, "name": "market1700000000000"}
    (old,) = alternative_texts(spec)
    text = signed_text("fluxappupdate", 1, old, TIME_MS)
    assert update(spec, OWNER, text=text).old_order
    assert update(spec, TEAM, text=text).role == "team support"
    assert refusal(update, spec, EXTENDER, text=text, previous_spec=spec)


@pytest.mark.parametrize(
    ("name", "marketplace"),
    [
        ("app", False),
        ("app1577836800000", False),
        ("app1577836800001", True),
        ("a1b1577836800001c", True),
        ("9" * 6000, True),
        (5, False),
    ],
)
def test_marketplace_names(name: Any, marketplace: bool) -> None:
    assert is_marketplace_name(name) is marketplace


def test_team_support_updates_marketplace_apps_from_its_height_on() -> None:
    spec = {**SPEC, "name": "app1700000000000"}
    assert update(spec, TEAM).role == "team support"
    assert refusal(update, spec, TEAM, height=SUPPORT_FROM - 1).reason is Reason.SIGNATURE_NOT_OWNER
    assert refusal(update, SPEC, TEAM).reason is Reason.SIGNATURE_NOT_OWNER


def test_extending_users_change_the_lifetime_only() -> None:
    previous = {**SPEC, "expire": 99, "height": 5, "hash": "h"}
    assert update(SPEC, EXTENDER, previous_spec=previous).role == "extending user"
    assert refusal(update, SPEC, EXTENDER).reason is Reason.SIGNATURE_NOT_OWNER
    changed = {**SPEC, "name": "other"}
    error = refusal(update, changed, EXTENDER, previous_spec=previous)
    assert error.reason is Reason.SIGNATURE_NOT_OWNER
    assert refusal(update, SPEC, OTHER, previous_spec=previous)


def test_encrypted_specifications_are_opened_where_they_can_be() -> None:
    sealed = {**SPEC, "enterprise": "QUJD"}
    changed = {**sealed, "name": "other"}
    assert update(changed, EXTENDER, previous_spec=sealed).role == "extending user"

    def opened(spec: dict[str, Any]) -> dict[str, Any]:
        return {**spec, "compose": ["c"]}

    def closed(spec: dict[str, Any]) -> dict[str, Any]:
        raise Rejected(Rejection(Reason.CANNOT_DECRYPT))

    previous = opened(sealed)
    secure: dict[str, Any] = {"previous_spec": previous, "system_secure": True}
    assert update(sealed, EXTENDER, decrypt=opened, **secure).role == "extending user"
    assert refusal(update, changed, EXTENDER, decrypt=opened, **secure).reason is Reason.SIGNATURE_NOT_OWNER
    assert refusal(update, sealed, EXTENDER, decrypt=closed, **secure).reason is Reason.CANNOT_DECRYPT
    assert refusal(update, sealed, EXTENDER, **secure).reason is Reason.CANNOT_DECRYPT
    assert update(sealed, OWNER, decrypt=closed, **secure).role == "owner"


# ---- expire-only -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "existing", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1, "expire": 5}, {"a": 1, "expire": 6, "height": 7, "hash": "h", "enterprise": "e"}, True),
        ({"a": {"expire": 1}}, {"a": {"expire": 2}}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": None}, {}, False),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2.0}]}, True),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": []}, {"a": {}}, False),
        (None, {}, False),
        ({}, None, False),
        ({"version": 7}, {"version": 8}, False),
    ],
)
def test_expire_only(new: Any, existing: Any, expected: bool) -> None:
    assert expire_only(new, existing) is expected
