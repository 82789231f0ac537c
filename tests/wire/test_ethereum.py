"""Ethereum personal_sign (api.md §2.2): published values, and what must not verify."""

from __future__ import annotations

import coincurve
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.wire.ethereum import (
    address_of_key,
    keccak256,
    personal_digest,
    recover_address,
    verify_personal,
)

KEY = coincurve.PrivateKey(bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"))
ADDRESS = "0x2c7536e3605d9c16a7a3d7b1898e529396a65c23"


def sign(message: str, *, base: int = 27) -> str:
    raw = KEY.sign_recoverable(personal_digest(message), hasher=None)
    return "0x" + (raw[:64] + bytes([raw[64] + base])).hex()


def test_published_values() -> None:
    # keccak256 of nothing, and the well-known example of the web3 documentation
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert address_of_key(KEY.public_key.format(compressed=False)) == ADDRESS
    digest = personal_digest("Some data")
    assert digest.hex() == "1da44b586eb0729ff70a73c326926f6ed5a25f5b056e7f47fbc6e58d86871655"
    signature = (
        "0xb91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd"
        "6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c"
    )
    assert recover_address("Some data", signature) == ADDRESS


@given(st.text())
def test_every_text_verifies_and_no_other_does(message: str) -> None:
    signature = sign(message)
    assert verify_personal(message, ADDRESS, signature)
    assert not verify_personal(message + "x", ADDRESS, signature)


def test_the_length_counts_bytes() -> None:
    assert personal_digest("é") == keccak256(b"\x19Ethereum Signed Message:\n2\xc3\xa9")
    assert personal_digest("\ud800") == personal_digest("\ufffd")
    assert personal_digest("\U0001f600") == keccak256(b"\x19Ethereum Signed Message:\n4\xf0\x9f\x98\x80")


def test_accepted_spellings() -> None:
    assert verify_personal("m", ADDRESS.upper().replace("0X", "0x"), sign("m"))
    assert verify_personal("m", ADDRESS, sign("m")[2:])
    assert verify_personal("m", ADDRESS, sign("m", base=0))


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "0x",
        "zz",
        sign("m")[:-2],
        sign("m") + "00",
        sign("m")[:-2] + "1d",
        sign("m")[:-2] + "02",
        "0x" + "00" * 65,
    ],
)
def test_unusable_signatures(signature: str) -> None:
    assert recover_address("m", signature) is None
    assert not verify_personal("m", ADDRESS, signature)


def test_another_address_is_refused() -> None:
    assert not verify_personal("m", "0x" + "00" * 20, sign("m"))
