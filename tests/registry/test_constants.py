"""Constants by height: both sides of every step (docs/spec/registry.md §1)."""

from __future__ import annotations

import pytest

from trionode.config.chain import ExplorerSettings, RegistrySettings
from trionode.config.economy import EconomySettings, SupportAddress
from trionode.registry.constants import MAINNET, Constants


@pytest.mark.parametrize(
    ("height", "blocks"), [(0, 5000), (1_630_039, 5000), (1_630_040, 100), (1_964_446, 100), (1_964_447, 1)]
)
def test_shortest_life(height: int, blocks: int) -> None:
    assert MAINNET.min_expire(height) == blocks


@pytest.mark.parametrize(
    ("height", "default", "longest"), [(2_019_999, 22_000, 264_000), (2_020_000, 88_000, 1_056_000)]
)
def test_lifetimes_change_with_proof_of_node(height: int, default: int, longest: int) -> None:
    assert MAINNET.default_expire(height) == default
    assert MAINNET.max_expire(height) == longest


def test_lifetimes_were_multiples_once() -> None:
    assert MAINNET.expire_step(1_624_999) == 1000
    assert MAINNET.expire_step(1_625_000) == 1


@pytest.mark.parametrize(
    ("version", "height", "fewest"), [(8, 2_176_518, 3), (8, 2_176_519, 1), (7, 2_176_519, 3)]
)
def test_fewest_instances(version: int, height: int, fewest: int) -> None:
    assert MAINNET.min_instances(version, height) == fewest


def test_ports() -> None:
    assert MAINNET.host_ports(1_419_999) == (31_000, 39_999)
    assert MAINNET.host_ports(1_420_000) == (1, 65_535)
    assert {16100, 16299, 30099, 22, 8384} <= MAINNET.banned_ports
    assert not {16099, 16300, 80} & MAINNET.banned_ports
    assert {0, 1023, 8443, 6667} <= MAINNET.enterprise_ports
    assert 1024 not in MAINNET.enterprise_ports


def test_paid_addresses_grow_with_height() -> None:
    counts = [len(MAINNET.payment_addresses(h)) for h in (1_299_999, 1_300_000, 1_669_999, 1_670_000)]
    assert counts == [1, 2, 2, 3]
    assert len(MAINNET.multisig_addresses(1_299_999)) == 0
    development = Constants(economy=EconomySettings(accept_development=True))
    assert development.payment_addresses(0)[-1] == development.economy.development_address


def test_support_address_is_the_last_entry_reached() -> None:
    rows = (SupportAddress(10, "a"), SupportAddress(20, "b"))
    constants = Constants(economy=EconomySettings(support_addresses=rows))
    assert [constants.support_address(h) for h in (9, 10, 19, 20)] == [None, "a", "a", "b"]


def test_a_network_of_ones_own_may_lower_everything() -> None:
    constants = Constants(
        RegistrySettings(lifetime_blocks=10, new_min_lifetime_blocks=2, new_min_lifetime_height=5),
        explorer=ExplorerSettings(pon_height=100, first_height=1),
    )
    assert constants.default_expire(99) == 10
    assert constants.default_expire(100) == 40
    assert constants.min_expire(5) == 2
    assert (constants.first_height, constants.speed(100), constants.speed(99)) == (1, 4, 1)
