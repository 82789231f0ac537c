"""Every payload text comes out of BSON as it went in, or the writer says that it will not."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions, DatetimeConversion
from hypothesis import given
from hypothesis import strategies as st

from trionode.appstate.documents import EventRow, LocationRow, Signed
from trionode.store.mongo.shapes_events import event_document, event_row, location_document, location_row
from trionode.store.mongo.values import Writer, from_bson, safe_text
from trionode.wire.jsjson import parse, stringify

OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
any_text = st.text(st.characters(), max_size=8) | st.sampled_from(["$set", "$id", "a.b", "", "_id", "1", "0"])
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=15,
)


def over_the_wire(document: dict[str, Any]) -> dict[str, Any]:
    return bson.decode(bson.encode(document), OPTIONS)


@given(json_values)
def test_what_the_writer_calls_exact_prints_the_same(value: Any) -> None:
    value = parse(stringify([value]))[0]
    writer = Writer()
    written = over_the_wire({"data": writer.value(value)})["data"]
    assert not writer.is_exact or stringify([from_bson(written)]) == stringify([value])


@given(st.dictionaries(any_text, json_values, max_size=5), any_text, any_text, json_values)
def test_any_event_survives(data: dict[str, Any], ip: str, name: str, version: Any) -> None:
    text = stringify(data)
    version = parse(stringify([version]))[0]
    row = EventRow(
        ip,
        "apprunning",
        f"v1:{name}",
        9,
        broadcasted_at_ms=5,
        received_at_ms=6,
        data_text=text,
        signed=Signed(version, 5, name, name),
    )
    document = over_the_wire(event_document(row) | {"receivedAt": 6})
    assert event_row(document) == row


@given(any_text, json_values)
def test_any_location_survives(name: str, value: Any) -> None:
    value = parse(stringify([value]))[0]
    row = LocationRow(7, name, name, "1.2.3.4", 5, 9, None, value, value)
    assert location_row(over_the_wire(location_document(row, 7)), 7) == row


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, int),
        (-(2**31), int),
        (2**31 - 1, int),
        (2**31, float),
        (1_760_000_000_000, float),
        (0.5, float),
        (1e21, float),
    ],
)
def test_numbers_are_those_of_the_other_driver(value: float, kind: type) -> None:
    assert type(Writer().value(value)) is kind
    assert stringify([from_bson(Writer().value(value))]) == stringify([value])


def test_what_a_server_refuses_never_reaches_it() -> None:
    writer = Writer()
    value = writer.value({"$id": {"$where": "x"}, "a\0b": 1, "s": "$literal"})
    assert value == {"\uff04id": {"\uff04where": "x"}, "ab": 1, "s": "$literal"}
    assert not writer.is_exact
    deep: Any = []
    for _ in range(150):
        deep = [deep]
    writer = Writer()
    bson.encode({"data": writer.value(deep)})
    assert not writer.is_exact
    assert safe_text("a\ud800") == "a\ufffd"


def test_deep_values_survive_beside_the_document() -> None:
    deep = parse("[" * 199 + "]" * 199)
    row = LocationRow(1, "a", "h", "1.2.3.4", 5, 9, None, deep, None)
    assert location_row(over_the_wire(location_document(row, 1)), 1) == row


def test_an_exact_text_of_former_content_is_ignored() -> None:
    row = EventRow("1.1.1.1", "apprunning", "v2", 9, broadcasted_at_ms=5, data_text='{"a":"\\ud800"}')
    document = over_the_wire(event_document(row))
    assert event_row(document).data_text == row.data_text
    # The other node replaces the content and knows nothing of our member.
    document |= {"broadcastedAt": 6, "data": {"a": "b"}}
    assert event_row(document).data_text == '{"a":"b"}'
