"""Dates of the API equal JavaScript's toISOString over its whole range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.api.dates import MAX_DATE_MS, Dates, iso


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_760_000_000_000, "2025-10-09T08:53:20.000Z"),
        (1_760_000_000_123.9, "2025-10-09T08:53:20.123Z"),
        (951_782_400_001, "2000-02-29T00:00:00.001Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, "+010000-01-01T00:00:00.000Z"),
        (MAX_DATE_MS, "+275760-09-13T00:00:00.000Z"),
        (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
        (-62_167_219_200_001, "-000001-12-31T23:59:59.999Z"),
        (-MAX_DATE_MS, "-271821-04-20T00:00:00.000Z"),
        (MAX_DATE_MS + 1, None),
        (-MAX_DATE_MS - 1, None),
        (float("inf"), None),
        (float("nan"), None),
        (None, None),
    ],
)
def test_known_dates(time_ms: float | None, text: str | None) -> None:
    assert iso(time_ms) == text


@given(st.lists(st.integers(-MAX_DATE_MS, MAX_DATE_MS)))
def test_a_shared_writer_writes_the_same(times: list[int]) -> None:
    date = Dates()
    assert [date(time_ms) for time_ms in times] == [iso(time_ms) for time_ms in times]


@given(st.integers(-MAX_DATE_MS, MAX_DATE_MS - 1))
def test_order_of_four_digit_years_is_kept(time_ms: int) -> None:
    here, later = iso(time_ms), iso(time_ms + 1)
    assert here is not None
    assert later is not None
    assert here != later
    if here[0] not in "+-" and later[0] not in "+-":
        assert here < later
