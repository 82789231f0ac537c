"""What our own users are told an app or an update costs: quotes (docs/spec/registry.md §7).

Not part of the consensus: the network only checks what promotion checks (§10). The FLUX quote is what to
pay on the chain, the dollar quote is what the shops of the network ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from trionode.registry.coercion import UNDEFINED, num
from trionode.registry.constants import MAINNET, Constants
from trionode.registry.hardware import RESOURCES
from trionode.registry.prices import (
    PriceTable,
    enterprise_port_count,
    price_for_term,
    price_per_month,
    term_factor,
)
from trionode.registry.reasons import Reason, reject
from trionode.registry.rounding import ceil_cents, fixed_2, round_2
from trionode.wire.jsjson import JsValue, truthy

_EXPIRE_COUNTS_ABOVE = 1_315_000
"""Up to this height every app was charged for the default lifetime."""

UPDATE_TYPES = frozenset({"fluxappupdate", "zelappupdate"})
_FREE_LONGER_BLOCKS = 8
_FREE_UPDATES = ((3600, 11), (1440, 9), (720, 6))
"""(blocks back, this many updates in them are too many for another free one)."""

_HARDWARE_DISCOUNTS = (((3, 6_000, 150), 0.8), ((7, 29_000, 370), 0.9))
"""(below these sums of cores, MB and GB, factor), the first that fits."""
_SYNC_FACTOR = 0.8
"""For apps with a component whose data is synced between one active and several passive instances."""
_SYNC_MARK = "g:"
_TERM_DISCOUNTS = ((9, 0.88), (6, 0.94), (3, 0.97))
"""(from this many default lifetimes on, factor), the first that fits."""
_DISCOUNTED_INSTANCES = 4
_FLUX_FACTOR = 0.95
"""Paying in FLUX instead of dollars is 5 % cheaper."""
_FLUX_DISCOUNT_PERCENT = 5
NO_FLUX_DISCOUNT = "Paying in FLUX brings no discount for this app"


class RegisteredApp(msgspec.Struct, frozen=True):
    """The app as it is registered now: current spec and the height of the message it is from."""

    spec: Mapping[str, JsValue]
    height: int


class PastUpdate(Protocol):
    """An earlier message of the app's name; `rows.PermanentRow` is one."""

    @property
    def type(self) -> str: ...
    @property
    def height(self) -> int: ...


class Quote(msgspec.Struct, frozen=True):
    """Prices in dollars and in FLUX; `flux_discount` is a percentage, or a text where there is none."""

    usd: float
    flux: float
    flux_discount: int | str

    def document(self) -> dict[str, JsValue]:
        return {"usd": self.usd, "flux": self.flux, "fluxDiscount": self.flux_discount}


FREE = Quote(0, 0, 0)


# ---- FLUX --------------------------------------------------------------------------------------------


def flux_quote(
    spec: Mapping[str, JsValue], height: int, table: PriceTable, existing: RegisteredApp | None = None
) -> float:
    """What to pay on the chain for registering or updating at `height`."""
    minimum = table.at(height).minimum
    price = price_for_term(spec, height, table)
    if existing is not None:
        term = _old_term(existing, height, table.constants)
        share = term.unused(_blocks_used(existing.height, height, table.constants))
        if share > 0:
            price -= ceil_cents(price_per_month(existing.spec, height, table) * term.factor) * share
    price *= _hardware_factor(spec)
    if _is_synced(spec):
        price *= _SYNC_FACTOR
    return max(ceil_cents(price), minimum)


def flux_quote_text(
    spec: Mapping[str, JsValue], height: int, table: PriceTable, existing: RegisteredApp | None = None
) -> str:
    """The FLUX quote as it is answered: two decimals."""
    return fixed_2(flux_quote(spec, height, table, existing))


# ---- dollars -----------------------------------------------------------------------------------------


def fiat_quote(
    spec: Mapping[str, JsValue],
    height: int,
    *,
    usd: PriceTable,
    flux: PriceTable,
    flux_usd_rate: float,
    existing: RegisteredApp | None = None,
    updates: Iterable[PastUpdate] = (),
    marketplace: Sequence[tuple[str, float]] = (),
) -> Quote:
    """Dollar and FLUX price at `height`; raises Rejected if the spec's own `priceUSD` is too low.

    `marketplace` lists the apps that are offered ready-made: (beginning of their names, price multiplier).
    """
    if free_update(spec, height, existing, updates, flux.constants) is not None:
        return FREE
    price = _usd_price(spec, height, usd, existing, marketplace)
    on_chain = flux_quote(spec, height, flux, existing)
    in_flux = price / flux_usd_rate * _FLUX_FACTOR
    if on_chain > in_flux:
        return Quote(price, round_2(on_chain), NO_FLUX_DISCOUNT)
    return Quote(price, round_2(in_flux), _FLUX_DISCOUNT_PERCENT)


def _usd_price(
    spec: Mapping[str, JsValue],
    height: int,
    table: PriceTable,
    existing: RegisteredApp | None,
    marketplace: Sequence[tuple[str, float]],
) -> float:
    constants = table.constants
    settings = constants.economy.usd_price
    least = table.minimum_usd or settings.minimum_usd
    factor = term_factor(spec.get("expire"), height, constants)
    price = round_2(price_per_month(spec, height, table) * factor)
    if existing is not None:
        term = _old_term(existing, height, constants, stretch=True)
        share = term.unused(_blocks_used(existing.height, height, constants))
        if share > 0:
            price -= round_2(price_per_month(existing.spec, height, table) * term.factor) * share
    if spec["version"] <= 3 or num(spec.get("instances", UNDEFINED)) < _DISCOUNTED_INSTANCES:
        price *= _hardware_factor(spec)
    if _is_synced(spec):
        price *= _SYNC_FACTOR
    price = round_2(price * _marketplace_factor(spec, marketplace) * settings.multiplier)
    offered = spec.get("priceUSD")
    if truthy(offered):
        if num(offered) < price:
            reject(Reason.PRICE_USD_TOO_LOW, "priceUSD", offered, price)
        price = round_2(num(offered))
    else:
        price = max(price, least)
    for lifetimes, discount in _TERM_DISCOUNTS:
        if factor >= lifetimes:
            price *= discount
            break
    return max(round_2(price), least)


# ---- free updates ------------------------------------------------------------------------------------


def free_update(
    spec: Mapping[str, JsValue],
    height: int,
    existing: RegisteredApp | None,
    updates: Iterable[PastUpdate] = (),
    constants: Constants = MAINNET,
) -> int | None:
    """The lifetime that the update gets for nothing, so that the app ends when it did; None if it costs.

    An update is free when it neither prolongs nor enlarges the app and there were not too many lately.
    """
    expire = spec.get("expire")
    if existing is None or not truthy(expire) or not truthy(existing.spec.get("expire")):
        return None
    old_end = _end(existing.height, int(num(existing.spec["expire"])), constants)
    if height + num(expire) - old_end > _FREE_LONGER_BLOCKS:
        return None
    if not _is_no_larger(spec, existing.spec, constants) or _too_many(updates, height):
        return None
    return old_end - height


def _end(height: int, expire: int, constants: Constants) -> int:
    """Height at which a lifetime ends; what lies behind PON takes four times as many blocks."""
    end = height + expire
    pon = constants.pon_height
    if height < pon < end:
        end = pon + (end - pon) * constants.speed(pon)
    return end


def _is_no_larger(new: Mapping[str, JsValue], old: Mapping[str, JsValue], constants: Constants) -> bool:
    if any(new.get(key) != old.get(key) for key in ("staticip", "instances")):
        return False
    if len(new.get("nodes") or ()) != len(old.get("nodes") or ()):
        return False
    before = {component["name"]: component for component in old.get("compose") or ()}
    components = new.get("compose") or ()
    if len(components) != len(before):
        return False
    for component in components:
        same = before.get(component["name"])
        if same is None or any(num(component[key]) > num(same[key]) for key in RESOURCES):
            return False
        if enterprise_port_count(component["ports"], constants) > enterprise_port_count(
            same["ports"], constants
        ):
            return False
    return True


def _too_many(updates: Iterable[PastUpdate], height: int) -> bool:
    ages = [height - update.height for update in updates if update.type in UPDATE_TYPES]
    return any(sum(age < blocks for age in ages) >= most for blocks, most in _FREE_UPDATES)


# ---- terms -------------------------------------------------------------------------------------------


class _Term(msgspec.Struct, frozen=True):
    """A paid lifetime: its blocks, and how many default lifetimes that is."""

    blocks: float
    factor: float

    def unused(self, used: float) -> float:
        return (self.blocks - used) / self.blocks


def _old_term(app: RegisteredApp, height: int, constants: Constants, *, stretch: bool = False) -> _Term:
    """The lifetime of the app as it is; `stretch`: what lies behind PON counts fourfold."""
    default = constants.default_expire(app.height)
    expire = app.spec.get("expire") if height > _EXPIRE_COUNTS_ABOVE else None
    blocks = num(expire) if truthy(expire) else default
    if stretch:
        blocks = _end(app.height, int(blocks), constants) - app.height
    return _Term(blocks, blocks / default)


def _blocks_used(since: int, height: int, constants: Constants) -> int:
    """Blocks since the app's registration; those behind PON count fourfold for an app from before it."""
    pon = constants.pon_height
    if since < pon <= height:
        return pon - since + constants.speed(pon) * (height - pon)
    return height - since


# ---- discounts ---------------------------------------------------------------------------------------


def _hardware_factor(spec: Mapping[str, JsValue]) -> float:
    parts = [spec] if spec["version"] <= 3 else spec.get("compose") or []
    sums = [sum(_largest(part, resource) for part in parts) for resource in RESOURCES]
    for below, factor in _HARDWARE_DISCOUNTS:
        if all(total < most for total, most in zip(sums, below, strict=True)):
            return factor
    return 1.0


def _largest(part: Mapping[str, JsValue], resource: str) -> float:
    """The value of the best tier where there are tiers."""
    best = part.get(f"{resource}bamf") if truthy(part.get("tiered", False)) else None
    return num(best if truthy(best) else part.get(resource, UNDEFINED))


def _is_synced(spec: Mapping[str, JsValue]) -> bool:
    parts = [spec] if spec["version"] <= 3 else spec.get("compose") or []
    return any(_SYNC_MARK in str(part.get("containerData", "")) for part in parts)


def _marketplace_factor(spec: Mapping[str, JsValue], marketplace: Sequence[tuple[str, float]]) -> float:
    name = str(spec.get("name", ""))
    return next((factor for start, factor in marketplace if factor > 1 and name.startswith(start)), 1.0)
