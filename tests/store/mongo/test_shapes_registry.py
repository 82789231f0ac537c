"""Rows of the registry as documents: exact texts, and the shapes of the other node (registry.md §2)."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from appspecs import component, spec
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from hypothesis import example, given
from hypothesis import strategies as st

from trionode.registry.formats import format_spec
from trionode.registry.rows import ChainMessageRow, CurrentSpec, HashRow, PermanentRow, TemporaryRow
from trionode.store.mongo.shapes_registry import (
    EXACT,
    by_names,
    chain_message_document,
    chain_message_row,
    current_document,
    current_row,
    hash_document,
    hash_row,
    permanent_document,
    permanent_row,
    temporary_document,
    temporary_row,
)
from trionode.wire.jsjson import parse, stringify

OPTIONS = CodecOptions[dict[str, Any]](datetime_conversion=DatetimeConversion.DATETIME_MS)

# What JSON can say: any text (also half a surrogate pair, NUL), any double, any member name.
TEXTS = st.text(st.one_of(st.characters(), st.characters(categories=("Cs",)), st.sampled_from('$."\\\0_é')))
NUMBERS = st.one_of(
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 1e21, 1e-7, 0.1, 1_750_000_000_000, -0.0]),
)
NAMES = st.one_of(TEXTS, st.sampled_from(["$ref", "$id", "$set", "_id", "hash", "height", "0", "12", "name"]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)
SPECS = st.dictionaries(NAMES, VALUES, max_size=6)

# What a formatted specification can hold that is not encrypted: texts of whole characters.
PLAIN = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)
AMOUNTS = st.one_of(
    st.integers(1, 2**53), st.floats(1e-8, 1e21, allow_nan=False), st.sampled_from([0.1, 1e21])
)


def through_the_wire(document: dict[str, Any]) -> dict[str, Any]:
    return bson.decode(bson.encode(document), OPTIONS)


def canonical(value: Any) -> str:
    return stringify(parse(stringify(value)))


def permanent(text: str, **values: Any) -> PermanentRow:
    found = parse(text)
    labels = {key: found.get(key) if isinstance(found.get(key), str) else "?" for key in ("name", "owner")}
    row = {
        "hash": "h",
        "type": "fluxappregister",
        "version": 1,
        "spec_text": text,
        **labels,
        "timestamp_ms": 1_750_000_000_000,
        "signature": "sig",
        "txid": "t",
        "height": 5,
        "value_sat": 5,
    }
    return PermanentRow(**(row | values))


@given(SPECS, TEXTS, NUMBERS, TEXTS)
@example({"a": {"$ref": "x", "$id": 1}}, "s", 1, "n")
@example({"a\0": 1, "a": 2}, "\ud83d", 1.5, "\ud800")
@example({"deep": parse("[" * 150 + "]" * 150)}, "s", 1, "n")
def test_every_text_comes_back_to_the_last_character(
    value: dict[str, Any], signature: str, version: float, name: str
) -> None:
    text = canonical(value)
    version = parse(stringify(version))
    for row in (permanent(text, signature=signature, version=version), permanent(text, name=name)):
        back = permanent_row(through_the_wire(permanent_document(row)))
        assert back == row
        assert back.json_text() == row.json_text()
    unpaid = TemporaryRow("h", "t", version, text, name, "o", version, signature, 7, 9, None)
    assert temporary_row(through_the_wire(temporary_document(unpaid))) == unpaid
    current = CurrentSpec(name, text, "h", 5)
    assert current_row(through_the_wire(current_document(current))) == current


@st.composite
def formatted(draw: st.DrawFn) -> dict[str, Any]:
    version = draw(st.integers(1, 8))
    common: dict[str, Any] = {"name": draw(PLAIN), "description": draw(PLAIN), "owner": draw(PLAIN)}
    hardware = {key: draw(AMOUNTS) for key in ("cpu", "ram", "hdd")}
    texts = st.lists(PLAIN, max_size=3)
    if version <= 3:
        return spec(version, **common, **hardware, enviromentParameters=draw(texts), repotag=draw(PLAIN))
    ports = st.lists(st.one_of(st.integers(0, 65535), st.floats(0, 1e21)), max_size=3)
    part = component(
        version,
        **hardware,
        name=draw(PLAIN),
        ports=draw(ports),
        environmentParameters=draw(texts),
        commands=draw(texts),
    )
    return spec(version, **common, compose=[part])


@given(formatted())
def test_what_the_formats_allow_needs_nothing_beside(value: dict[str, Any]) -> None:
    text = stringify(format_spec(value))
    document = permanent_document(permanent(text))
    assert EXACT not in document
    stored = through_the_wire(document)
    assert stringify(stored["appSpecifications"]) == text
    assert permanent_row(stored).spec_text == text
    _as_javascript_writes(stored)
    current = current_document(CurrentSpec(value["name"], text, "h", 5))
    assert EXACT not in current
    assert list(current) == [*parse(text), "hash", "height"]


def _as_javascript_writes(value: Any) -> None:
    """Whole numbers of 32 bits are int32, all others doubles: never int64."""
    if isinstance(value, dict):
        for item in value.values():
            _as_javascript_writes(item)
    elif isinstance(value, list):
        for item in value:
            _as_javascript_writes(item)
    elif isinstance(value, int) and not isinstance(value, bool):
        assert type(value) is int
        assert -(2**31) <= value < 2**31
    elif isinstance(value, float):
        assert not (value.is_integer() and -(2**31) <= value < 2**31)


def test_the_documents_are_those_of_the_other_node() -> None:
    text = '{"version":1,"name":"App","owner":"me"}'
    row = permanent(text, value_sat=5_000_000_000)
    assert list(permanent_document(row).items()) == [
        ("type", "fluxappregister"),
        ("version", 1),
        ("appSpecifications", {"version": 1, "name": "App", "owner": "me"}),
        ("hash", "h"),
        ("timestamp", 1_750_000_000_000.0),
        ("signature", "sig"),
        ("txid", "t"),
        ("height", 5),
        ("valueSat", 5e9),
    ]
    unpaid = TemporaryRow("h", "fluxappupdate", 1, text, "App", "me", 7, "sig", 10, 20, True)
    assert list(temporary_document(unpaid)) == [
        "appSpecifications",
        "type",
        "version",
        "hash",
        "timestamp",
        "signature",
        "receivedAt",
        "expireAt",
        "arcaneSender",
    ]
    assert temporary_document(unpaid)["receivedAt"] == DatetimeMS(10)
    current = CurrentSpec.of(row)
    assert list(current_document(current).items()) == [*parse(text).items(), ("hash", "h"), ("height", 5)]
    payment = HashRow.found("t", 100, "h", 3_000_000_000)
    document = hash_document(payment)
    assert list(document) == [
        "txid",
        "height",
        "hash",
        "value",
        "message",
        "syncAttempts",
        "nextRetryHeight",
        "retryFromHeight",
    ]
    assert type(document["value"]) is float
    assert hash_row(through_the_wire(document)) == payment
    soft_fork = ChainMessageRow("t", 5, "p_1_2", "p")
    assert list(chain_message_document(soft_fork)) == ["txid", "height", "message", "version"]
    assert chain_message_row(chain_message_document(soft_fork)) == soft_fork


def test_rows_that_others_left_behind_are_read() -> None:
    old = {
        "_id": 1,
        "type": "zelappregister",
        "version": 1,
        "zelAppSpecifications": {"version": bson.Int64(1), "name": "Old", "owner": "me", "cpu": 2.0},
        "hash": "h",
        "timestamp": bson.Int64(1_600_000_000_000),
        "signature": "s",
        "txid": "t",
        "height": 5.0,
        "valueSat": float("nan"),
    }
    row = permanent_row(old)
    assert (row.name, row.owner, row.height, row.value_sat) == ("Old", "me", 5, 0)
    assert row.spec_text == '{"version":1,"name":"Old","owner":"me","cpu":2}'
    assert row.timestamp_ms == 1_600_000_000_000
    bare = hash_row({"txid": "t", "height": 5, "hash": "h", "value": 2.0, "message": False})
    assert bare == HashRow("t", 5, "h", 2)
    odd = permanent_row({"hash": "h", "appSpecifications": {"a": DatetimeMS(5)}})
    assert odd.spec_text == '{"a":5}'
    assert (odd.name, odd.txid, odd.height) == ("", "", 0)


def test_an_amount_that_no_double_holds_is_refused() -> None:
    with pytest.raises(OverflowError):
        hash_document(HashRow.found("t", 1, "h", 2**70))
    with pytest.raises(TypeError):
        permanent_document(PermanentRow("h", "t", 1, "[]", "n", "o", 1, "s", "t", 1, 1))


def test_names_are_compared_exactly_and_never_become_operators() -> None:
    assert by_names("name", ["$gt"]) == {"name": "$gt"}
    assert by_names("name", ["a", "b", "a"]) == {"name": {"$in": ["a", "b"]}}
    half = by_names("name", ["\ud800"])
    whole = by_names("name", ["\ufffd"])
    assert half == {"$or": [{"name": "\ufffd", "trionode.name": '"\\ud800"'}]}
    assert whole == {"$or": [{"name": "\ufffd", "trionode.name": None}]}
