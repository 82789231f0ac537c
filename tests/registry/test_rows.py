"""Rows of the registry and their JSON forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow, TemporaryRow
from trionode.wire.jsjson import parse, stringify

SPEC = '{"version":8,"name":"App","description":"é\\ud800\\"","n":1e-7}'
TEMPORARY = TemporaryRow("h", "fluxappupdate", 1, SPEC, "App", "own\u2028er", 1.5, 'si"g', 1, 2, True)

_MAYBE_HEIGHT = st.one_of(st.none(), st.integers(0, 10**7))


def test_a_new_payment_is_due_at_once() -> None:
    row = HashRow.found("t", 700_000, "h", 5)
    assert (row.sync_attempts, row.next_retry_height, row.retry_from_height) == (0, 700_000, 700_000)
    assert row.due(700_000)
    assert not row.due(699_999)
    assert row.document() == {
        "txid": "t",
        "height": 700_000,
        "hash": "h",
        "value": 5,
        "message": False,
        "syncAttempts": 0,
        "nextRetryHeight": 700_000,
        "retryFromHeight": 700_000,
    }


@given(
    st.builds(
        HashRow,
        st.text(),
        st.integers(0, 10**7),
        st.text(),
        st.integers(0, 2**53),
        message=st.booleans(),
        message_not_found=st.sampled_from([None, True, False]),
        sync_attempts=st.one_of(st.none(), st.integers(0, 99)),
        next_retry_height=_MAYBE_HEIGHT,
        retry_from_height=_MAYBE_HEIGHT,
    )
)
def test_a_payment_survives_its_document(row: HashRow) -> None:
    assert HashRow.of_document(row.document()) == row


@pytest.mark.parametrize(
    ("row", "due"),
    [
        (HashRow("t", 1, "h", 1), True),
        (HashRow("t", 1, "h", 1, message=True), False),
        (HashRow("t", 1, "h", 1, message_not_found=True), False),
        (HashRow("t", 1, "h", 1, message_not_found=False, next_retry_height=50), True),
        (HashRow("t", 1, "h", 1, next_retry_height=51), False),
    ],
)
def test_what_is_due(row: HashRow, due: bool) -> None:
    assert row.due(50) is due


def test_a_permanent_row_prints_its_document_without_touching_the_specification() -> None:
    row = TEMPORARY.permanent("tx", 9, 100)
    assert isinstance(row, PermanentRow)
    text = row.json_text()
    assert f'"appSpecifications":{SPEC},' in text
    document = parse(text)
    assert stringify(document) == text
    assert list(document) == [
        "type",
        "version",
        "appSpecifications",
        "hash",
        "timestamp",
        "signature",
        "txid",
        "height",
        "valueSat",
    ]
    assert document["timestamp"] == 1.5
    assert document["valueSat"] == 100
    assert row.spec() == parse(SPEC)


def test_a_current_specification_prints_flattened() -> None:
    row = CurrentSpec.of(TEMPORARY.permanent("tx", 9, 100))
    assert parse(row.json_text()) == {**parse(SPEC), "hash": "h", "height": 9}
    assert row.json_text().startswith(SPEC[:-1])
    assert CurrentSpec("A", "{}", "h", 1).json_text() == '{"hash":"h","height":1}'


def test_recency_is_height_then_timestamp_then_hash() -> None:
    rows = [
        PermanentRow(hash_, "t", 1, "{}", "A", "o", at_ms, "s", "x", height, 0)
        for height, at_ms, hash_ in [(1, 9, "z"), (2, 1, "a"), (2, 1.5, "a"), (2, 1.5, "b")]
    ]
    assert sorted(rows, key=lambda row: row.recency) == rows


def test_a_broken_specification_is_named() -> None:
    with pytest.raises(TypeError, match="not an object"):
        CurrentSpec("A", "[1]", "h", 1).spec()
