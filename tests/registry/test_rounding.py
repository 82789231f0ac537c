"""Rounding against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.registry.rounding import ceil_cents, fixed_2, round_2

MONEY = st.floats(min_value=0, max_value=1e9)


@given(MONEY)
def test_fixed_2_is_half_up_on_the_exact_value(value: float) -> None:
    cents = Fraction(value) * 100
    assert Fraction(fixed_2(value)) * 100 == math.floor(cents + Fraction(1, 2))


@given(MONEY)
def test_fixed_2_of_negative_values_mirrors(value: float) -> None:
    assert fixed_2(-value) == (f"-{fixed_2(value)}" if value else "0.00")


@given(MONEY)
def test_ceil_cents_reaches_the_value_within_a_cent(value: float) -> None:
    rounded = ceil_cents(value)
    assert rounded >= value * (1 - 1e-15)
    assert rounded - value < 0.01 * (1 + 1e-6) + value * 1e-15


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.005, "1.00"),
        (0.125, "0.13"),
        (0.375, "0.38"),
        (8.345, "8.35"),
        (-1.5, "-1.50"),
        (-0.001, "-0.00"),
        (1e20, "100000000000000000000.00"),
        (1e21, "1e+21"),
        (math.inf, "Infinity"),
        (math.nan, "NaN"),
    ],
)
def test_fixed_2_prints_what_javascript_prints(value: float, text: str) -> None:
    assert fixed_2(value) == text


def test_one_cent_too_many_comes_from_the_doubles() -> None:
    assert ceil_cents(0.07 * 100 / 100) == 0.08  # 0.07 * 100 is 7.000000000000001
    assert ceil_cents(0.06) == 0.06


def test_ceil_cents_leaves_what_is_no_amount() -> None:
    assert math.isnan(ceil_cents(math.nan))
    assert ceil_cents(math.inf) == math.inf


def test_round_2_is_the_number_of_the_text() -> None:
    assert round_2(2.675) == 2.67
