"""What the network agreed on, by height (docs/spec/registry.md §1).

Every number comes from the settings, so a network of one's own (a devnet, a test) may lower them; the
defaults are those of the main network. Rules take a `Constants` and ask it, they never compare heights
with numbers of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from trionode.config.chain import ExplorerSettings, RegistrySettings
from trionode.config.economy import EconomySettings

ETH_REGISTRATIONS_AFTER_MS = 1_688_947_200_000
"""Registrations with a later timestamp may be signed with an Ethereum key."""

MARKETPLACE_NUMBER = 1_577_836_800_000
"""An app whose name holds a greater number was made by the marketplace; team support may update it."""

OWNER_RACE_BELOW_HEIGHT = 2_000_000
"""Below it an update may be signed by the owner before the latest change."""

DATACENTER_OWNERS = frozenset({"15ULw4JU6wqGESRYU3z3MjFETqLN3sA9Gn"})
"""Owners that may ask for datacenter nodes."""

TEN_COMPONENTS_HEIGHT = 1_300_000
"""From here ten components are allowed, below it five."""

HIGHEST_PORT = 65_535


class Constants:
    """The tables of one network by height. Values are read from the settings it was made of."""

    def __init__(
        self,
        registry: RegistrySettings | None = None,
        economy: EconomySettings | None = None,
        explorer: ExplorerSettings | None = None,
    ) -> None:
        self.registry = registry or RegistrySettings()
        self.economy = economy or EconomySettings()
        self.explorer = explorer or ExplorerSettings()

    # ---- time ----------------------------------------------------------------------------------------

    @property
    def first_height(self) -> int:
        """The first height whose payments count."""
        return self.explorer.first_height

    @property
    def pon_height(self) -> int:
        return self.explorer.pon_height

    def speed(self, height: int) -> int:
        """How many times faster blocks come at `height` than at the beginning: 1, from PON 4."""
        return self.explorer.pon_speedup if height >= self.explorer.pon_height else 1

    # ---- specification versions ----------------------------------------------------------------------

    @cached_property
    def activation(self) -> dict[int, int]:
        """Specification version -> first height it is accepted at."""
        return {row.version: row.height for row in self.registry.spec_heights}

    # ---- lifetimes -----------------------------------------------------------------------------------

    def default_expire(self, registered_height: int) -> int:
        """Blocks an app lives that names no lifetime: 22 000, registered from PON on 88 000."""
        return self.registry.lifetime_blocks * self.speed(registered_height)

    def max_expire(self, height: int) -> int:
        registry = self.registry
        return registry.max_lifetime_pon_blocks if height >= self.pon_height else registry.max_lifetime_blocks

    def min_expire(self, height: int) -> int:
        registry = self.registry
        if height >= registry.cancel_lifetime_height:
            return registry.cancel_lifetime_blocks
        if height >= registry.new_min_lifetime_height:
            return registry.new_min_lifetime_blocks
        return registry.min_lifetime_blocks

    def expire_step(self, height: int) -> int:
        """Lifetimes are multiples of this; 1 where any number goes."""
        registry = self.registry
        return registry.lifetime_step_blocks if height < registry.lifetime_step_until_height else 1

    # ---- instances -----------------------------------------------------------------------------------

    def min_instances(self, version: float, height: int) -> int:
        registry = self.registry
        if version >= 8 and height >= registry.min_instances_v8_height:
            return registry.min_instances_v8
        return registry.min_instances

    @property
    def max_instances(self) -> int:
        return self.registry.max_instances

    # ---- ports ---------------------------------------------------------------------------------------

    def host_ports(self, height: int) -> tuple[int, int]:
        """Lowest and highest host port an app may use."""
        registry = self.registry
        if height < registry.all_ports_height:
            return registry.min_port_legacy, registry.max_port_legacy
        return 1, HIGHEST_PORT

    @cached_property
    def banned_ports(self) -> frozenset[int]:
        return _ports(self.registry.banned_ports)

    @cached_property
    def enterprise_ports(self) -> frozenset[int]:
        """Ports that cost extra."""
        return _ports(self.registry.enterprise_ports)

    # ---- who is paid, who may sign -------------------------------------------------------------------

    def multisig_addresses(self, height: int) -> tuple[str, ...]:
        economy = self.economy
        rows = (
            (economy.multisig_address_height, economy.multisig_address),
            (economy.multisig_address_b_height, economy.multisig_address_b),
        )
        return tuple(address for first, address in rows if height >= first)

    def payment_addresses(self, height: int) -> tuple[str, ...]:
        """Addresses whose payments count at `height`."""
        economy = self.economy
        development = (economy.development_address,) if economy.accept_development else ()
        return (economy.payment_address, *self.multisig_addresses(height), *development)

    def support_address(self, height: int) -> str | None:
        """The team support address in force: the last entry whose height is reached."""
        found = None
        for row in self.economy.support_addresses:
            if height >= row.height:
                found = row.address
        return found

    @property
    def extending_users(self) -> tuple[str, ...]:
        return self.economy.extending_users


def _ports(texts: Iterable[str]) -> frozenset[int]:
    """Ports written singly or as FROM-TO, both ends included."""
    ports: set[int] = set()
    for text in texts:
        first, _, last = text.partition("-")
        ports.update(range(int(first), int(last or first) + 1))
    return frozenset(ports)


MAINNET = Constants()
"""The main network with its default settings."""
