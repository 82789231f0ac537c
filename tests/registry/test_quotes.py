"""Quotes and free updates beyond the vectors (docs/spec/registry.md §7)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from appspecs import component, spec

from trionode.registry.prices import PriceTable
from trionode.registry.quotes import (
    FREE,
    NO_FLUX_DISCOUNT,
    Quote,
    RegisteredApp,
    fiat_quote,
    flux_quote,
    flux_quote_text,
    free_update,
)
from trionode.registry.reasons import Reason, Rejected

FLUX = PriceTable.flux()
USD = PriceTable.usd()
SINCE = 2_100_000
NOW = 2_144_000
BIG = {"cpu": 5, "ram": 20_000, "hdd": 300}


class Update(msgspec.Struct, frozen=True):
    type: str
    height: int


def big(**changes: Any) -> dict[str, Any]:
    return spec(8, **{"compose": [component(8, **BIG)], "expire": 88_000} | changes)


def quote(app: dict[str, Any], height: int = NOW, **more: Any) -> Quote:
    more = {"usd": USD, "flux": FLUX, "flux_usd_rate": 0.6} | more
    return fiat_quote(app, height, **more)


EXISTING = RegisteredApp(big(), SINCE)


def test_a_new_app_pays_its_term_less_its_size_discount() -> None:
    assert flux_quote_text(big(), NOW, FLUX) == "4.24"  # 3 x 1.57, then x 0.9
    assert flux_quote_text(big(compose=[component(8, **BIG | {"cpu": 7})]), NOW, FLUX) == "5.31"


def test_an_update_is_credited_what_is_left() -> None:
    bigger = big(compose=[component(8, **BIG | {"cpu": 10})])
    half = flux_quote(bigger, NOW, FLUX, EXISTING)
    assert half == pytest.approx(flux_quote(bigger, NOW, FLUX) - 4.71 / 2, abs=0.02)
    assert flux_quote(bigger, SINCE + 88_000, FLUX, EXISTING) == flux_quote(bigger, SINCE + 88_000, FLUX)


def test_synced_data_lowers_the_price() -> None:
    synced = big(compose=[component(8, **BIG, containerData="g:/data")])
    assert quote(synced).usd < quote(big()).usd
    assert flux_quote_text(synced, NOW, FLUX) == "3.40"


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({}, True),
        ({"description": "other", "contacts": [], "geolocation": []}, True),
        ({"compose": [component(8, **BIG, repotag="other:2", ports=[1024])]}, True),
        ({"compose": [component(8, **BIG | {"cpu": 4.9})]}, True),
        ({"compose": [component(8, **BIG | {"ram": 20_100})]}, False),
        ({"compose": [component(8, **BIG | {"hdd": 301})]}, False),
        ({"compose": [component(8, **BIG, ports=[80])]}, False),
        ({"compose": [component(8, **BIG, name="db")]}, False),
        ({"compose": [component(8), component(8, name="db")]}, False),
        ({"instances": 2}, False),
        ({"staticip": True}, False),
        ({"nodes": ["n"], "enterprise": "x"}, False),
        ({"expire": 44_008}, True),
        ({"expire": 44_009}, False),
        ({"expire": 1}, True),
        ({"expire": None}, False),
    ],
)
def test_what_is_free(changes: dict[str, Any], free: bool) -> None:
    app = big(**{"expire": 44_000} | changes)
    assert free_update(app, NOW, EXISTING) == (44_000 if free else None)
    assert (quote(app, existing=EXISTING) == FREE) is free


@pytest.mark.parametrize(
    ("ages", "free"),
    [
        ([1] * 5, True),
        ([1] * 6, False),
        ([719] * 6, False),
        ([720] * 6, True),
        ([1439] * 9, False),
        ([1440] * 9, True),
        ([3599] * 11, False),
        ([3600] * 11, True),
    ],
)
def test_too_many_updates_lately_cost(ages: list[int], free: bool) -> None:
    updates = [Update("fluxappupdate", NOW - age) for age in ages]
    app = big(expire=44_000)
    assert (free_update(app, NOW, EXISTING, updates) is not None) is free
    registrations = [Update("fluxappregister", NOW - age) for age in ages]
    assert free_update(app, NOW, EXISTING, registrations) is not None


def test_a_new_app_and_one_without_lifetime_are_never_free() -> None:
    assert free_update(big(), NOW, None) is None
    assert free_update(big(), NOW, RegisteredApp(spec(5), SINCE)) is None


def test_a_term_that_crosses_the_fork_ends_later() -> None:
    old = RegisteredApp(big(expire=264_000), 1_900_000)
    assert free_update(big(), 2_030_000, old) == 566_000


def test_long_terms_are_cheaper() -> None:
    month = quote(big()).usd
    for months, factor in ((3, 0.97), (6, 0.94), (9, 0.88), (12, 0.88)):
        assert quote(big(expire=88_000 * months)).usd == pytest.approx(month * months * factor, abs=0.02)


def test_many_instances_get_no_size_discount() -> None:
    assert quote(big(instances=5)).usd == 39.2


def test_the_marketplace_multiplies() -> None:
    plain = quote(big()).usd
    offers = [("Other", 5.0), ("SpecApp", 2.0)]
    assert quote(big(), marketplace=offers).usd == pytest.approx(2 * plain, abs=0.01)
    assert quote(big(), marketplace=[("SpecApp", 0.5)]).usd == plain


def test_an_offered_price_must_reach_ours() -> None:
    assert quote(big(priceUSD=50)).usd == 50
    with pytest.raises(Rejected) as caught:
        quote(big(priceUSD=21.16))
    assert caught.value.reason is Reason.PRICE_USD_TOO_LOW
    assert "21.17" in str(caught.value)


def test_where_the_chain_is_dearer_there_is_no_discount() -> None:
    found = quote(big(), flux_usd_rate=100)
    assert found.flux == 4.24
    assert found.flux_discount == NO_FLUX_DISCOUNT
    assert quote(big()).document() == {"usd": 21.17, "flux": 33.52, "fluxDiscount": 5}


def test_flat_and_tiered_apps_have_quotes() -> None:
    assert quote(spec(2)).usd == 0.99
    tiered = component(6, tiered=True, **{f"{r}{t}": BIG[r] for r in BIG for t in ("basic", "super", "bamf")})
    assert flux_quote_text(spec(6, compose=[tiered], expire=88_000), NOW, FLUX) == "4.24"
