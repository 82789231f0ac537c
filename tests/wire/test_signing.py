"""Keys, digests, signatures and their lenient reading (docs/spec/wire.md §7)."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trionode.wire.keys import KeyFormatError, NodeKey, address_of
from trionode.wire.signing import decode_base64, decode_hex, message_digest, verify_batch, verify_message


def _neighbour(name: str) -> Any:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"wire_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


child = _neighbour("node_child")
FIXTURE = (
    "test",
    "0474eb4690689bb408139249eda7f361b7881c4254ccbe303d3b4d58c2b48897d0f070b44944941998551f9ea0e1befd96f13adf1"
    "71c07c885e62d0c2af56d3dab",
    "G6wvdaMqtuQYqa5BAtKsLHFCYQwB4PXoTwG0YSGtWU6ude/brDNM5MraSBfT64HU3XPhObGohFjLLo6KjtMgnlc=",
)
ADDRESS = "1KoXq8mLxpNt3BSnNLq2HzKC39Ne2pVJtF"


@pytest.fixture(scope="module")
def buffers() -> Iterator[Any]:
    code = "(pair) => Buffer.from(pair[0], pair[1]).toString('hex')"
    with child.node_child(code) as node:
        yield node


def test_public_fixture_verifies_for_key_and_address() -> None:
    message, key, signature = FIXTURE
    assert verify_message(message, key, signature)
    assert verify_message(message, ADDRESS, signature)
    assert address_of(key) == ADDRESS


@pytest.mark.parametrize("compressed", [True, False])
def test_own_signatures_verify_and_nothing_else_does(compressed: bool) -> None:
    key = NodeKey.generate(random.Random(1), compressed=compressed)
    other = NodeKey.generate(random.Random(2), compressed=compressed)
    signature = key.sign("mešsage")
    assert signature == key.sign("mešsage")
    for signer in (key.public_key, key.address, key.public_key.upper()):
        assert verify_message("mešsage", signer, signature)
        assert not verify_message("mešsagf", signer, signature)
    assert not verify_message("mešsage", other.public_key, signature)
    flipped = NodeKey.from_wif(key.wif)
    assert (flipped.public_key, flipped.address) == (key.public_key, key.address)


def test_every_flipped_bit_of_a_signature_counts() -> None:
    key = NodeKey.generate(random.Random(3))
    raw = base64.b64decode(key.sign("m"))
    for bit in range(0, 65 * 8, 7):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert not verify_message("m", key.public_key, base64.b64encode(changed).decode())


def test_batch_equals_single_except_for_the_empty_message() -> None:
    key = NodeKey.generate(random.Random(4))
    empty, full = key.sign(""), key.sign("x")
    items = [
        ("x", key.public_key, full),
        ("", key.public_key, empty),
        ("y", key.public_key, full),
        ("x", "", full),
    ]
    assert verify_batch(items) == [True, True, False, False]
    assert [verify_message(*item) for item in items] == [True, False, False, False]
    assert verify_batch([]) == []


@given(
    st.text(),
    st.text(),
    st.one_of(st.text(), st.binary(min_size=65, max_size=65).map(lambda b: base64.b64encode(b).decode())),
)
@example("m", "1" * 36, FIXTURE[2])
@example("m", "zz" * 40, FIXTURE[2])
@example("m", "0" * 37, FIXTURE[2])
@example("\ud800", ADDRESS, FIXTURE[2])
@example("m", "é" * 40, FIXTURE[2])
@example("m", "²" * 40, FIXTURE[2])
@example("m", "\ud800" * 3, "\ud800")
def test_verify_never_raises(message: str, signer: str, signature: str) -> None:
    assert verify_message(message, signer, signature) is False
    assert verify_batch([(message, signer, signature)]) in ([False], [True] if not message else [False])


@pytest.mark.parametrize("space", [" ", "\n", "\t", "\u00a0", "  "])
def test_an_address_has_no_spaces(space: str) -> None:
    message, _, signature = FIXTURE
    assert verify_message(message, ADDRESS, signature)
    assert not verify_message(message, ADDRESS + space, signature)
    assert not verify_message(message, space + ADDRESS, signature)


@pytest.mark.parametrize("size", [0, 1, 252, 253, 254, 65535, 65536, 70000])
def test_digest_length_prefix(size: int) -> None:
    body = b"a" * size
    prefix = (
        bytes([size]) if size < 253 else b"\xfd" + size.to_bytes(2, "little")
        if size < 65536 else b"\xfe" + size.to_bytes(4, "little")
    )  # fmt: skip
    whole = b"\x18Bitcoin Signed Message:\n" + prefix + body
    assert message_digest(body.decode()) == hashlib.sha256(hashlib.sha256(whole).digest()).digest()


base64ish = st.text(st.sampled_from("ABab01+/-_=\n \t!é\u2028*"), max_size=100)


@pytest.mark.process
@settings(max_examples=examples(200), deadline=None)
@given(
    st.one_of(
        base64ish, st.binary(max_size=70).map(lambda b: base64.b64encode(b).decode()), st.text(max_size=20)
    )
)
@example("IBEt9NajPaMJyfUM6c5Z\nSlozc2rJgEuaedKJgpxbArBcA8oWWW4tPQT8CejUZh47OcJpJvgUJ3M6edg4vBZKq_U")
@example("YQ==YQ==")
@example("Y=Q=")
@example("A")
@example("=AAA")
def test_base64_is_read_as_by_node(buffers: Any, text: str) -> None:
    assert decode_base64(text).hex() == buffers.call([text, "base64"])


@pytest.mark.process
@settings(max_examples=examples(200), deadline=None)
@given(st.text(st.sampled_from("0123abcdEFxg \n٣é"), max_size=20))
@example("0g00")
@example("abc")
@example("00 11")
@example("٣٣")
def test_hex_is_read_as_by_node(buffers: Any, text: str) -> None:
    assert decode_hex(text).hex() == buffers.call([text, "hex"])


@pytest.mark.parametrize(
    "wif", ["", "5", "0OIl", "5JvAHHWCSqGZ4pTGHdpjT3bYf7Lx9gemZo8pFJsd8CPbmPWP3Xd", "é", "1" * 52]
)
def test_bad_wif_is_told_with_a_remedy(wif: str) -> None:
    with pytest.raises(KeyFormatError) as caught:
        NodeKey.from_wif(wif)
    assert caught.value.remedy
    assert len(wif) < 9 or wif not in str(caught.value)


@pytest.mark.parametrize("secret", [b"", bytes(32), b"\xff" * 32, b"\x01" * 31])
def test_secrets_outside_the_curve_are_refused(secret: bytes) -> None:
    with pytest.raises(KeyFormatError):
        NodeKey(secret, compressed=True)


def test_key_does_not_tell_its_secret() -> None:
    key = NodeKey.generate(random.Random(5))
    assert key.wif not in repr(key)
    assert key.address in repr(key)


def test_address_of_wants_hex() -> None:
    with pytest.raises(KeyFormatError):
        address_of("xyz")


def test_generate_repeats_from_a_seed() -> None:
    assert NodeKey.generate(random.Random(9)).wif == NodeKey.generate(random.Random(9)).wif
    assert NodeKey.generate(random.Random(9)).wif.startswith("5")
    assert NodeKey.generate(random.Random(9), compressed=True).wif[0] in "KL"
