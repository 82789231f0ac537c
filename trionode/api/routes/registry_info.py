"""What a registration may say and what it costs (docs/spec/api.md §7, registry.md §6, §7).

No outside service is asked: prices in dollars follow the configured list and rate (docs/differences.md).
"""

from __future__ import annotations

from typing import Any

import msgspec

from trionode.api.answers import Answer, data
from trionode.api.call import Call
from trionode.api.registering import checked_registration, checked_update, formatted, refused
from trionode.api.registrycall import find_current, prices, require_synced, store_of
from trionode.api.route import INTEGER, NUMBER, Field, Route, object_of, schema
from trionode.config.fields import all_fields
from trionode.config.tree import Settings
from trionode.config.withouteffect import ANSWERS
from trionode.registry.constants import HIGHEST_PORT
from trionode.registry.messages import UPDATE_TYPES
from trionode.registry.prices import PriceTable
from trionode.registry.quotes import RegisteredApp, fiat_quote

OBJECT = schema("object")
ORIGINAL = "fluxapps."
MS_PER_S = 1000


async def registration_information(call: Call) -> Answer:
    """The settings of apps under the names that other programs know (docs/config.md)."""
    return data(information(call.context.settings, await prices(call)))


def information(settings: Settings, table: PriceTable) -> dict[str, Any]:
    """Every setting that has a name of the original below `fluxapps`, in the original's unit.

    Names that are no settings here are told as the network knows them.
    """
    made: dict[str, Any] = dict(ANSWERS)
    for field in all_fields().values():
        path = field.original.removeprefix(ORIGINAL)
        if path == field.original or " " in path:
            continue
        value = msgspec.to_builtins(getattr(getattr(settings, field.section), field.name))
        if path.endswith("Ms") and field.name.endswith("_s"):
            value = _in_ms(value)
        *folders, name = path.split(".")
        place = made
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = value
    registry, economy = settings.registry, settings.economy
    made["price"] = [row.document() for row in table.rows]
    made["usdprice"] = {
        **table.usd(table.constants).rows[0].document(),
        "minUSDPrice": economy.usd_price.minimum_usd,
        "fluxmultiplier": economy.usd_price.flux_multiplier,
        "multiplier": economy.usd_price.multiplier,
    }
    made["appSpecsEnforcementHeights"] = {str(row.version): row.height for row in registry.spec_heights}
    return made


def _in_ms(seconds: Any) -> Any:
    return (
        [_in_ms(one) for one in seconds] if isinstance(seconds, tuple | list) else round(seconds * MS_PER_S)
    )


async def deployment_information(call: Call) -> Answer:
    """What a program that registers apps must know; price and address follow the height."""
    constants = call.context.registry.constants
    registry = constants.registry
    table = await prices(call)
    height = call.context.chain.height
    return data(
        {
            "price": [row.document() for row in table.rows],
            "appSpecsEnforcementHeights": {str(row.version): row.height for row in registry.spec_heights},
            "address": payment_address(call),
            "portMin": 1,
            "portMax": HIGHEST_PORT,
            "enterprisePorts": [_port(text) for text in registry.enterprise_ports],
            "bannedPorts": [_port(text) for text in registry.banned_ports],
            "maxImageSize": registry.max_image_bytes,
            "minimumInstances": registry.min_instances,
            "maximumInstances": registry.max_instances,
            "blocksLasting": registry.lifetime_blocks,
            "minBlocksAllowance": registry.min_lifetime_blocks,
            "maxBlocksAllowance": constants.max_expire(height),
            "blocksAllowanceInterval": registry.lifetime_step_blocks,
        }
    )


def payment_address(call: Call) -> str:
    """Where a registration is to be paid to now: the newest of the addresses that count."""
    constants = call.context.registry.constants
    newest = constants.multisig_addresses(call.context.chain.height)
    return newest[-1] if newest else constants.economy.payment_address


def _port(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


async def latest_version(call: Call) -> Answer:
    return data(call.context.registry.constants.registry.latest_spec_version)


async def usd_prices(call: Call) -> Answer:
    return data(information(call.context.settings, await prices(call))["usdprice"])


async def calculate_price(call: Call) -> Answer:
    """What registering or updating would cost now, in dollars and in FLUX."""
    require_synced(call)
    spec = formatted(call.body)
    offered = call.body.get("priceUSD")
    if offered:
        spec = {**spec, "priceUSD": offered}
    context = call.context
    constants = context.registry.constants
    found = await find_current(call, str(spec["name"]))
    rows = await store_of(call).permanents_of(found.name) if found is not None else ()
    with refused():
        quote = fiat_quote(
            spec,
            context.chain.height,
            usd=PriceTable.usd(constants),
            flux=await prices(call),
            flux_usd_rate=constants.economy.flux_usd_rate,
            existing=None if found is None else RegisteredApp(found.spec(), found.height),
            updates=[row for row in rows if row.type in UPDATE_TYPES],
        )
    return data(quote.document())


async def verify_registration(call: Call) -> Answer:
    """The specification as it is to be signed, or the first rule it breaks."""
    require_synced(call)
    return data(await checked_registration(call, call.body))


async def verify_update(call: Call) -> Answer:
    require_synced(call)
    return data((await checked_update(call, call.body)).spec)


_SPEC = (
    Field("version", "number", "Format of the specification; its other members follow from it"),
    Field("name", "string"),
)
_GROUP = "registry"
_PRICE = ("/apps/calculatefiatandfluxprice", "/apps/calculateprice")

ROUTES = (
    Route(
        "/apps/registrationinformation",
        registration_information,
        "Settings of apps by the names other programs know",
        _GROUP,
        cache_s=30,
        result=OBJECT,
    ),
    Route(
        "/apps/deploymentinformation",
        deployment_information,
        "Prices, payment address and limits now",
        _GROUP,
        cache_s=30,
        result=OBJECT,
    ),
    Route(
        "/apps/latestspecificationversion",
        latest_version,
        "Newest format of specifications",
        _GROUP,
        cache_s=300,
        result=INTEGER,
    ),
    Route(
        "/apps/getappspecsusdprice",
        usd_prices,
        "Prices in dollars",
        _GROUP,
        cache_s=1800,
        result=OBJECT,
    ),
    Route(
        _PRICE[0],
        calculate_price,
        "Price of a specification now",
        _GROUP,
        method="POST",
        body=_SPEC,
        result=object_of(usd=NUMBER, flux=NUMBER, fluxDiscount={}),
        aliases=_PRICE[1:],
    ),
    Route(
        "/apps/verifyappregistrationspecifications",
        verify_registration,
        "The specification as it is to be signed",
        _GROUP,
        method="POST",
        body=_SPEC,
        result=OBJECT,
    ),
    Route(
        "/apps/verifyappupdatespecifications",
        verify_update,
        "The updated specification as it is to be signed",
        _GROUP,
        method="POST",
        body=_SPEC,
        result=OBJECT,
    ),
)
