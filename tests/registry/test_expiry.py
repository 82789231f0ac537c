"""When an app ends, and who still counts it as alive (docs/spec/registry.md §8)."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.config.chain import ExplorerSettings, RegistrySettings
from trionode.registry.constants import Constants
from trionode.registry.expiry import expiration_height, is_current, is_name_held, is_over, is_swept

PON = 2_020_000


@pytest.mark.parametrize(
    ("registered", "expire", "end"),
    [
        (1_000_000, None, 1_022_000),
        (1_000_000, 0, 1_022_000),
        (1_000_000, "5000", 1_022_000),
        (1_000_000, True, 1_022_000),
        (1_000_000, math.nan, 1_022_000),
        (1_000_000, math.inf, 1_022_000),
        (1_000_000, 5000, 1_005_000),
        (1_000_000, 5000.0, 1_005_000),
        (PON - 100, 100, PON),
        (PON - 100, 101, PON + 4),
        (PON - 100, None, PON + 4 * 21_900),
        (PON, None, PON + 88_000),
        (PON, 100, PON + 100),
    ],
)
def test_the_end(registered: int, expire: Any, end: int) -> None:
    assert expiration_height(registered, expire) == end


def test_a_network_of_ones_own_has_its_own_heights() -> None:
    constants = Constants(RegistrySettings(lifetime_blocks=10), None, ExplorerSettings(pon_height=50))
    assert expiration_height(5, None, constants) == 15
    assert expiration_height(45, None, constants) == 50 + 4 * 5
    assert expiration_height(60, None, constants) == 100


@given(st.integers(0, 3_000_000), st.integers(1, 1_056_000), st.integers(1, 1000))
def test_a_longer_life_ends_later(registered: int, expire: int, more: int) -> None:
    end = expiration_height(registered, expire)
    assert end >= registered + expire
    assert expiration_height(registered, expire + more) > end


def test_the_four_conditions_differ_at_the_end_itself() -> None:
    end = 2_100_100
    assert [is_current(end, end - 1), is_current(end, end)] == [True, False]
    assert [is_name_held(end, end), is_name_held(end, end + 1)] == [True, False]
    assert [is_over(end, end), is_over(end, end + 1)] == [False, True]


@pytest.mark.parametrize(("scanned", "spared"), [(1_630_039, 5000), (1_630_040, 100), (2_100_000, 100)])
def test_the_loop_spares_young_apps(scanned: int, spared: int) -> None:
    assert not is_swept(scanned - spared, scanned - 1, scanned)
    assert is_swept(scanned - spared - 1, scanned - 1, scanned)
    assert not is_swept(scanned - spared - 1, scanned, scanned)
