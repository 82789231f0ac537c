"""Settings of prices and payment addresses.

Facts: docs/spec/config.md §3, docs/spec/registry.md (price). All of it must equal the network's.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from trionode.config.section import Blocks, Section, about

Amount = Annotated[float, msgspec.Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """FLUX per month from a height on: cpu per 0.1 core, ram per 100 MB, hdd per GB."""

    height: Annotated[int, msgspec.Meta(ge=-1)]
    cpu: Amount
    ram: Amount
    hdd: Amount
    minimum: Amount
    port: Amount = 2.0
    scope: Amount = 6.0
    static_ip: Amount = 3.0


class UsdPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The price list in US dollars that is used when the stats service does not answer."""

    height: Annotated[int, msgspec.Meta(ge=-1)] = -1
    cpu: Amount = 0.15
    ram: Amount = 0.05
    hdd: Amount = 0.02
    minimum: Amount = 0.01
    port: Amount = 2.0
    scope: Amount = 4.0
    static_ip: Amount = 2.0
    flux_multiplier: Amount = 0.95
    multiplier: Amount = 1.0
    minimum_usd: Amount = 0.99


class SupportAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Flux ID that may extend apps from a height on."""

    height: Blocks
    address: str


_PRICES = (
    Price(height=-1, cpu=3, ram=1, hdd=0.5, minimum=1),
    Price(height=983_000, cpu=0.3, ram=0.1, hdd=0.05, minimum=0.1),
    Price(height=1_004_000, cpu=0.06, ram=0.02, hdd=0.01, minimum=0.01),
    Price(height=1_288_000, cpu=0.15, ram=0.05, hdd=0.02, minimum=0.01),
    Price(height=1_594_832, cpu=0.15, ram=0.05, hdd=0.02, minimum=0.01, port=1.5),
    Price(height=1_597_156, cpu=0.03, ram=0.01, hdd=0.004, minimum=0.01, port=0.4, scope=0.8, static_ip=0.4),
)


class EconomySettings(Section, frozen=True, kw_only=True):
    """Prices and the addresses that are paid."""

    prices: Annotated[
        tuple[Price, ...],
        about(
            "price list by height; messages on the chain add to it",
            min_length=1,
            original="fluxapps.price",
            shared=True,
        ),
    ] = _PRICES
    usd_price: Annotated[
        UsdPrice, about("fallback of the price list of the stats service", original="fluxapps.usdprice")
    ] = UsdPrice()
    flux_usd_rate: Annotated[
        float, about("dollars per FLUX when nobody knows better", gt=0, original="fluxapps.fluxUSDRate")
    ] = 0.6
    payment_address: Annotated[
        str, about("first payment address", min_length=1, original="fluxapps.address", shared=True)
    ] = "t1LUs6quf7TB2zVZmexqPQdnqmrFMGZGjV6"
    multisig_address: Annotated[
        str, about("payment address later", min_length=1, original="fluxapps.addressMultisig", shared=True)
    ] = "t3aGJvdtd8NR6GrnqnRuVEzH6MbrXuJFLUX"
    multisig_address_height: Annotated[
        int, about("first height of multisig_address", ge=0, original="fixed, 1300000", shared=True)
    ] = 1_300_000
    multisig_address_b: Annotated[
        str,
        about("payment address latest", min_length=1, original="fluxapps.addressMultisigB", shared=True),
    ] = "t3NryfAQLGeFs9jEoeqsxmBN2QLRaRKFLUX"
    multisig_address_b_height: Annotated[
        int,
        about(
            "first height of multisig_address_b", ge=0, original="fluxapps.multisigAddressChange", shared=True
        ),
    ] = 1_670_000
    development_address: Annotated[
        str, about("also counts when accept_development is set", original="fluxapps.addressDevelopment")
    ] = "t1Mzja9iJcEYeW5B4m4s1tJG8M42odFZ16A"
    accept_development: Annotated[
        bool, about("accept payments to development_address", original="development")
    ] = False
    support_addresses: Annotated[
        tuple[SupportAddress, ...],
        about("Flux IDs of team support by height", original="fluxapps.teamSupportAddress", shared=True),
    ] = (SupportAddress(1_851_659, "16iJqiVbHptCx87q6XQwNpKdgEZnFtKcyP"),)
    extending_users: Annotated[
        tuple[str, ...],
        about("Flux IDs that may extend anyone's app", original="fluxapps.usersToExtend", shared=True),
    ] = ("1MCBJn6qsy3YRY2YasdYMYdJcdhy1ev8Rd",)
    minimum_on_3_instances_height: Annotated[
        int,
        about(
            "height of this price rule", ge=0, original="fluxapps.applyMinimumPriceOn3Instances", shared=True
        ),
    ] = 1_691_000
    minimum_for_extra_instances_height: Annotated[
        int,
        about(
            "height of this price rule", ge=0, original="fluxapps.applyMinimumForExtraInstances", shared=True
        ),
    ] = 1_890_000
