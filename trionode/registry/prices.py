"""What an app costs per month, in FLUX or US dollars (docs/spec/registry.md §7).

Everything is IEEE doubles in the order of operations of the specification; the same sum in another order
can differ in its last bit, and `ceil_cents` makes a cent of that.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from trionode.config.economy import EconomySettings, Price, UsdPrice
from trionode.registry.coercion import UNDEFINED, num
from trionode.registry.constants import MAINNET, Constants
from trionode.registry.hardware import TIERS
from trionode.registry.reasons import Reason, reject
from trionode.registry.rounding import ceil_cents, fixed_2
from trionode.wire.jsjson import JsValue, truthy
from trionode.wire.jsnumber import to_number

PRICE_MESSAGE_VERSION = "p"
_DEFAULT_PORT, _DEFAULT_SCOPE, _DEFAULT_STATIC_IP = 2.0, 6.0, 3.0
_UNIT_INSTANCES = 3
"""The sum of the parts of a v4+ app is for three instances; a third of it is the price of one."""
_CHEAP, _CHEAP_EXTRA = 0.5, 0.5
"""Below this price of one instance, every further instance costs the second amount."""


class PriceMessage(Protocol):
    """A soft fork row of the chain; `rows.ChainMessageRow` is one."""

    @property
    def height(self) -> int: ...
    @property
    def message(self) -> str: ...
    @property
    def version(self) -> str: ...


class PriceRow(msgspec.Struct, frozen=True):
    """Prices from above `height` on: cpu per 0.1 core, ram per 100 MB, hdd per GB, the rest per app."""

    height: int
    cpu: float
    ram: float
    hdd: float
    minimum: float
    port: float = _DEFAULT_PORT
    scope: float = _DEFAULT_SCOPE
    static_ip: float = _DEFAULT_STATIC_IP

    @classmethod
    def of_setting(cls, price: Price | UsdPrice) -> PriceRow:
        return cls(
            price.height,
            price.cpu,
            price.ram,
            price.hdd,
            price.minimum,
            price.port,
            price.scope,
            price.static_ip,
        )

    @classmethod
    def of_message(cls, row: PriceMessage) -> PriceRow | None:
        """The row of `p_cpu_ram_hdd_min[_port[_scope[_staticip]]]`; None if it sets no prices."""
        if row.version != PRICE_MESSAGE_VERSION:
            return None
        parts = row.message.split("_")
        if len(parts) < 5 or not parts[4]:
            return None
        cpu, ram, hdd, minimum = (float(to_number(part)) for part in parts[1:5])
        # absent, zero and unreadable alike take the default
        defaults = (_DEFAULT_PORT, _DEFAULT_SCOPE, _DEFAULT_STATIC_IP)
        texts = [*parts[5:8], "", "", ""]
        port, scope, static_ip = (
            number if truthy(number := float(to_number(text))) else default
            for text, default in zip(texts, defaults, strict=False)
        )
        return cls(row.height, cpu, ram, hdd, minimum, port, scope, static_ip)

    def document(self) -> dict[str, JsValue]:
        """The row as the API prints it."""
        return {
            "height": self.height,
            "cpu": self.cpu,
            "ram": self.ram,
            "hdd": self.hdd,
            "minPrice": self.minimum,
            "port": self.port,
            "scope": self.scope,
            "staticip": self.static_ip,
        }


class PriceTable(msgspec.Struct, frozen=True):
    """Price rows by height. `minimum_usd` is the least an app costs, only in price lists in dollars."""

    rows: tuple[PriceRow, ...]
    constants: Constants = MAINNET
    minimum_usd: float | None = None

    @classmethod
    def flux(cls, constants: Constants = MAINNET, messages: Iterable[PriceMessage] = ()) -> PriceTable:
        """FLUX prices: the configured rows and those that soft forks set on the chain."""
        rows = tuple(PriceRow.of_setting(price) for price in constants.economy.prices)
        return cls(rows, constants).with_messages(messages)

    @classmethod
    def of_settings(cls, economy: EconomySettings, messages: Iterable[PriceMessage] = ()) -> PriceTable:
        """The FLUX prices of a network that is otherwise as usual."""
        return cls.flux(Constants(economy=economy), messages)

    @classmethod
    def usd(cls, constants: Constants = MAINNET, price: UsdPrice | None = None) -> PriceTable:
        """Dollar prices: one row, of the stats service (`price`) or else the configured one."""
        price = price or constants.economy.usd_price
        return cls((PriceRow.of_setting(price),), constants, price.minimum_usd)

    def with_messages(self, messages: Iterable[PriceMessage]) -> PriceTable:
        """The table with the rows of soft forks added; at equal heights later ones come later."""
        added = [row for row in map(PriceRow.of_message, messages) if row is not None]
        rows = sorted((*self.rows, *added), key=lambda row: row.height)
        return msgspec.structs.replace(self, rows=tuple(rows))

    def at(self, height: int) -> PriceRow:
        """The row in force: the last that began *before* `height`, or the first of all."""
        return self.rows[max(bisect_left(self.rows, height, key=lambda row: row.height) - 1, 0)]

    def least_at(self, height: int) -> float | None:
        """The least price in dollars, where the table has one and it is in force."""
        begins = self.constants.economy.minimum_on_3_instances_height
        return self.minimum_usd if height >= begins else None


def price_per_month(spec: Mapping[str, JsValue] | None, height: int, table: PriceTable) -> float:
    """The price of a month (the lifetime given by default) with the prices at `height`.

    Raises Rejected where there is no specification.
    """
    if spec is None:
        reject(Reason.SPEC_NULL, "appSpecifications")
    if spec["version"] <= 3:
        return _flat_price(spec, height, table)
    amount = _composed_price(spec, height, table)
    least = table.least_at(height)
    return amount if least is None else max(amount, least)


def price_answer(spec: Mapping[str, JsValue] | None, height: int, table: PriceTable) -> float | str:
    """The same as other programs are told it: a v4+ app raised to the least price in dollars is a text."""
    least = table.least_at(height)
    if (
        spec is not None
        and least is not None
        and spec["version"] > 3
        and _composed_price(spec, height, table) < least
    ):
        return fixed_2(least)
    return price_per_month(spec, height, table)


def price_for_term(spec: Mapping[str, JsValue], height: int, table: PriceTable) -> float:
    """The scaled price: the month's price for the lifetime that the spec asks for, at least the minimum."""
    month = price_per_month(spec, height, table)
    scaled = ceil_cents(month * term_factor(spec.get("expire"), height, table.constants))
    return max(scaled, table.at(height).minimum)


def term_factor(expire: JsValue, height: int, constants: Constants) -> float:
    """How many default lifetimes `expire` is; 1 if it is absent."""
    return num(expire) / constants.default_expire(height) if truthy(expire) else 1.0


def enterprise_port_count(ports: JsValue, constants: Constants) -> int:
    """How many of the ports cost extra."""
    return sum(num(port) in constants.enterprise_ports for port in ports or ())


def _base(cpu: float, ram: float, hdd: float, price: PriceRow) -> float:
    return cpu * price.cpu * 10 + (ram * price.ram) / 100 + hdd * price.hdd


def _plain(part: Mapping[str, JsValue], resource: str) -> float:
    return num(part.get(resource, UNDEFINED))


def _tier_sum(part: Mapping[str, JsValue], resource: str) -> float:
    basic, better, best = (_plain(part, resource + tier) for tier in TIERS)
    return basic + better + best


def _flat_price(spec: Mapping[str, JsValue], height: int, table: PriceTable) -> float:
    """v1-3: one container; a tiered app pays the sum of its three tiers."""
    price, constants = table.at(height), table.constants
    tiered = truthy(spec.get("tiered", False))
    of = _tier_sum if tiered else _plain
    total = _base(of(spec, "cpu"), of(spec, "ram"), of(spec, "hdd"), price)
    if truthy(spec.get("port")):
        if num(spec["port"]) in constants.enterprise_ports:
            total += price.port
    elif spec.get("ports"):
        total += enterprise_port_count(spec["ports"], constants) * price.port
    least = table.least_at(height)
    if tiered and least is not None:
        total = max(total, least)
    return max(ceil_cents(total), price.minimum)


def _composed_price(spec: Mapping[str, JsValue], height: int, table: PriceTable) -> float:
    """v4+ without the least price in dollars: components add up, then instances multiply."""
    price = table.at(height)
    cpu = ram = hdd = 0.0
    enterprise_ports = 0
    for component in spec.get("compose") or ():
        if truthy(component.get("tiered", False)):
            cpu += _tier_sum(component, "cpu") / len(TIERS)
            ram += _tier_sum(component, "ram") / len(TIERS)
            hdd += _tier_sum(component, "hdd") / len(TIERS)
        else:
            cpu += _plain(component, "cpu")
            ram += _plain(component, "ram")
            hdd += _plain(component, "hdd")
        enterprise_ports += enterprise_port_count(component.get("ports"), table.constants)
    total = _base(cpu, ram, hdd, price)
    if spec.get("nodes") or truthy(spec.get("enterprise", "")):
        total += price.scope
    if truthy(spec.get("staticip", False)):
        total += price.static_ip
    total += enterprise_ports * price.port
    amount = ceil_cents(total / _UNIT_INSTANCES)
    extra = _plain(spec, "instances") - 1
    if extra > 0 and height >= table.constants.economy.minimum_for_extra_instances_height:
        if amount < _CHEAP and extra > 2:
            return amount + extra * _CHEAP_EXTRA
        return (_ceil(amount * extra * 100) + _ceil(amount * 100)) / 100
    return amount


def _ceil(value: float) -> float:
    return float(math.ceil(value)) if math.isfinite(value) else value
