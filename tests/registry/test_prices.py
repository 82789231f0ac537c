"""Monthly prices and the price table beyond the vectors (docs/spec/registry.md §7)."""

from __future__ import annotations

import math
from typing import Any

import pytest
from appspecs import HEIGHT, TIER_VALUES, component, spec, with_component
from hypothesis import given
from hypothesis import strategies as st

from trionode.config.economy import EconomySettings
from trionode.registry.constants import MAINNET
from trionode.registry.prices import (
    PriceRow,
    PriceTable,
    enterprise_port_count,
    price_answer,
    price_for_term,
    price_per_month,
    term_factor,
)
from trionode.registry.reasons import Rejected
from trionode.registry.rows import ChainMessageRow

FLUX = PriceTable.flux()
USD = PriceTable.usd()


def fork(message: str, height: int = 1_700_000, version: str = "p") -> ChainMessageRow:
    return ChainMessageRow("tx", height, message, version)


@pytest.mark.parametrize(
    ("message", "extras"),
    [
        ("p_1_2_3_4", (2, 6, 3)),
        ("p_1_2_3_4_0.5", (0.5, 6, 3)),
        ("p_1_2_3_4_0.5_x_0", (0.5, 6, 3)),
        ("p_1_2_3_4__7_8_9", (2, 7, 8)),
    ],
)
def test_a_price_message_fills_what_it_leaves_out(message: str, extras: tuple[float, ...]) -> None:
    row = PriceRow.of_message(fork(message))
    assert row is not None
    assert (row.cpu, row.ram, row.hdd, row.minimum) == (1, 2, 3, 4)
    assert (row.port, row.scope, row.static_ip) == extras


@pytest.mark.parametrize("message", ["p_1_2_3", "p_1_2_3_", "p", ""])
def test_a_message_without_a_minimum_sets_no_prices(message: str) -> None:
    assert PriceRow.of_message(fork(message)) is None
    assert PriceRow.of_message(fork("p_1_2_3_4", version="q")) is None


def test_at_equal_heights_the_chain_wins_and_the_later_message_more() -> None:
    table = PriceTable.flux(messages=[fork("p_1_1_1_1", 983_000), fork("p_2_2_2_2", 983_000)])
    assert table.at(983_001).cpu == 2
    assert table.at(983_000).cpu == 3


@given(st.lists(st.integers(0, 3_000_000), max_size=8), st.integers(-5, 3_000_000))
def test_the_row_in_force_is_the_last_that_began_before(heights: list[int], height: int) -> None:
    table = PriceTable.flux(messages=[fork(f"p_{n}_1_1_1", at) for n, at in enumerate(heights)])
    earlier = [row for row in table.rows if row.height < height]
    assert table.at(height) == (earlier[-1] if earlier else table.rows[0])


def test_settings_give_the_same_table() -> None:
    assert PriceTable.of_settings(EconomySettings()).rows == FLUX.rows
    assert USD.rows[0].document()["scope"] == 4


def test_a_tiered_flat_app_pays_the_sum_of_its_tiers() -> None:
    assert price_per_month(spec(2, tiered=True, **TIER_VALUES), 2_100_000, FLUX) == 1.54
    assert price_per_month(spec(2, tiered=True, **TIER_VALUES), HEIGHT, USD) == 7.7


def test_a_tiered_component_pays_the_mean() -> None:
    tiered = with_component(6, tiered=True, **TIER_VALUES | {"cpubasic": 1, "cpusuper": 1, "cpubamf": 1})
    mean = with_component(6, cpu=1, ram=3500 / 3, hdd=35 / 3)
    assert price_per_month(tiered, HEIGHT, FLUX) == price_per_month(mean, HEIGHT, FLUX)


def test_flat_enterprise_ports_are_counted_as_numbers() -> None:
    plain = price_per_month(spec(2), HEIGHT, FLUX)
    dear = price_per_month(spec(2, ports=["080", "443"]), HEIGHT, FLUX)
    assert dear == pytest.approx(plain + 0.8)
    assert enterprise_port_count(["x", 80, 8080, 1024], MAINNET) == 2


def test_the_least_price_in_dollars_is_told_as_text_only_when_raised() -> None:
    small = spec(instances=1)
    assert price_per_month(small, HEIGHT, USD) == 0.99
    assert price_answer(small, HEIGHT, USD) == "0.99"
    assert price_answer(small, 1_690_999, USD) == 0.37
    assert price_answer(spec(2), HEIGHT, USD) == 1.11  # 1.1 and a bit, in doubles


def test_flux_prices_of_v4_have_no_floor_but_terms_do() -> None:
    tiny = spec(instances=1, expire=1, compose=[component(cpu=0.1, ram=100, hdd=1, ports=[], domains=[])])
    assert price_for_term(tiny, HEIGHT, FLUX) == 0.01
    assert price_per_month(spec(compose=[]), HEIGHT, FLUX) == 0


def test_a_term_is_measured_in_default_lifetimes() -> None:
    assert term_factor(44_000, 2_019_999, MAINNET) == 2
    assert term_factor(44_000, 2_020_000, MAINNET) == 0.5
    assert term_factor(None, HEIGHT, MAINNET) == 1


def test_without_a_spec_there_is_no_price() -> None:
    with pytest.raises(Rejected):
        price_per_month(None, HEIGHT, FLUX)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "cpu": st.integers(1, 150).map(lambda tenths: tenths / 10),
                "ram": st.integers(1, 590).map(lambda hundreds: hundreds * 100),
                "hdd": st.integers(1, 820),
            }
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 100),
    st.integers(0, 2_500_000),
)
def test_prices_are_whole_cents_and_grow_with_instances(
    parts: list[dict[str, Any]], instances: int, height: int
) -> None:
    app = spec(compose=[component(**part) for part in parts])
    price = price_per_month(app | {"instances": instances}, height, FLUX)
    assert math.isclose(price * 100, round(price * 100), abs_tol=1e-6)
    assert price_per_month(app | {"instances": instances + 1}, height, FLUX) >= price
