"""App messages: reading, text, hash and the key orders of old builds (docs/spec/registry.md §5)."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trionode.registry.messages import (
    AppMessage,
    alternative_texts,
    app_message,
    check_hash,
    message_document,
    message_hash_ok,
    read_app_message,
)
from trionode.registry.reasons import Reason, Rejected
from trionode.wire.jsjson import parse, stringify

FLAT = {"version": 3, "name": "a", "description": "d", "owner": "o", "repotag": "r", "ports": ["1"]}
PRIVATE = {
    "version": 7,
    "name": "a",
    "compose": [{"name": "c", "repoauth": "R", "cpu": 1, "secrets": "S"}, {"name": "d"}, 5],
    "instances": 3,
}
DOCUMENT = message_document(app_message("fluxappregister", 1, FLAT, 1_700_000_000_000, "sig"))


def refusal(document: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read_app_message(document)
    return caught.value


def test_a_message_read_back_is_the_same() -> None:
    message = read_app_message(parse(stringify(DOCUMENT)))
    assert message_document(message) == DOCUMENT
    assert message.spec_text == stringify(FLAT)
    assert message.name == "a"
    assert message.is_registration
    assert message.arcane_sender is None


def test_hash_is_taken_over_type_version_spec_time_and_signature() -> None:
    text = f"fluxappregister1{stringify(FLAT)}1700000000000sig"
    assert DOCUMENT["hash"] == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("key", ["type", "version", "hash", "timestamp", "signature", "appSpecifications"])
@pytest.mark.parametrize("value", [None, "UNSET", True, []])
def test_shape(key: str, value: Any) -> None:
    document = {**DOCUMENT, key: value}
    if value == "UNSET":
        del document[key]
    error = refusal(document)
    if key == "appSpecifications" and value is None:
        assert error.reason is Reason.SPEC_NULL
    elif key == "appSpecifications" and value == []:
        assert error.reason is Reason.MISSING_VERSION
    else:
        assert (error.reason, error.rejection.field) == (Reason.MESSAGE_SHAPE, key)


@pytest.mark.parametrize("document", [None, [], "x", 5])
def test_what_is_no_object_is_no_message(document: Any) -> None:
    assert refusal(document).reason is Reason.MESSAGE_SHAPE


def test_very_old_messages_call_their_specification_otherwise() -> None:
    document = {k: v for k, v in DOCUMENT.items() if k != "appSpecifications"}
    document["zelAppSpecifications"] = FLAT
    message = read_app_message(document)
    assert message.spec == FLAT
    assert message_hash_ok(message)


@pytest.mark.parametrize(("said", "kept"), [(True, True), (False, False), ("yes", None), (None, None)])
def test_arcane_sender(said: Any, kept: bool | None) -> None:
    message = read_app_message({**DOCUMENT, "arcaneSender": said})
    assert message.arcane_sender is kept
    told = message_document(message, arcane_sender=True)["arcaneSender"]
    assert told is (True if kept is None else kept)


@pytest.mark.parametrize("kind", ["fluxappupdate", "zelappupdate", "anything"])
def test_what_registers_nothing_is_an_update(kind: str) -> None:
    assert not read_app_message({**DOCUMENT, "type": kind}).is_registration


def test_flat_versions_have_the_owner_after_the_image_in_the_old_order() -> None:
    (text,) = alternative_texts(FLAT)
    assert text == '{"version":3,"name":"a","description":"d","repotag":"r","owner":"o","ports":["1"]}'
    without = {key: value for key, value in FLAT.items() if key != "repotag"}
    assert next(alternative_texts(without)) == (
        '{"version":3,"name":"a","description":"d","owner":"o","ports":["1"]}'
    )


def test_version_7_has_private_fields_last_in_the_old_order() -> None:
    (text,) = alternative_texts(PRIVATE)
    assert '[{"name":"c","cpu":1,"secrets":"S","repoauth":"R"},{"name":"d"},5]' in text


@pytest.mark.parametrize("spec", [{"version": 4}, {"version": 8, "compose": []}, {"version": 7}, {}])
def test_other_versions_have_one_order(spec: Any) -> None:
    assert list(alternative_texts(spec)) == []


@pytest.mark.parametrize("spec", [FLAT, PRIVATE])
def test_hash_over_the_old_order_counts(spec: Any) -> None:
    (old,) = alternative_texts(spec)
    hash_ = hashlib.sha256(f"fluxappupdate1{old}5sig".encode()).hexdigest()
    message = AppMessage(
        type="fluxappupdate",
        version=1,
        spec=spec,
        spec_text=stringify(spec),
        hash=hash_,
        timestamp_ms=5,
        signature="sig",
    )
    check_hash(message)


@pytest.mark.parametrize(
    "change",
    [{"timestamp": 1}, {"signature": "other"}, {"version": 2}, {"type": "fluxappupdate"}, {"hash": "A" * 64}],
)
def test_any_change_breaks_the_hash(change: dict[str, Any]) -> None:
    message = read_app_message({**DOCUMENT, **change})
    with pytest.raises(Rejected) as caught:
        check_hash(message)
    assert caught.value.reason is Reason.HASH_MISMATCH
    assert caught.value.rejection.value == message.hash


def test_unknown_keys_and_their_order_belong_to_the_hash() -> None:
    spec = {"version": 8, "foo": 1, "name": "a"}
    message = app_message("fluxappregister", 1, spec, 7, "s")
    other = app_message("fluxappregister", 1, {"version": 8, "name": "a", "foo": 1}, 7, "s")
    assert message_hash_ok(message)
    assert message.hash != other.hash


@settings(deadline=None)
@given(
    time_ms=st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False)),
    name=st.text() | st.just("a\ud800b"),
    signature=st.text() | st.just("\udc00"),
)
def test_messages_of_any_content_keep_their_hash(time_ms: float, name: str, signature: str) -> None:
    sent = app_message("fluxappregister", 1, {"version": 8, "name": name}, time_ms, signature)
    message = read_app_message(parse(stringify(message_document(sent))))
    assert message_hash_ok(message)
