"""What several routes ask of the registry for one call (docs/spec/registry.md §2, §7)."""

from __future__ import annotations

from trionode.api.answers import ApiFailure
from trionode.api.call import Call
from trionode.registry.prices import PRICE_MESSAGE_VERSION, PriceTable
from trionode.registry.rows import CurrentSpec
from trionode.store.registry_port import RegistryStore


def store_of(call: Call) -> RegistryStore:
    """The registry's store."""
    return call.context.registry.store


async def find_current(call: Call, name: str) -> CurrentSpec | None:
    """The specification in force, the name in any letter case."""
    parts = call.context.registry
    return parts.apps.current.find(name) if parts.apps is not None else await parts.store.current(name)


def require_synced(call: Call) -> None:
    """Raises ApiFailure while the chain daemon is behind."""
    if not call.context.chain.synced:
        raise ApiFailure("Daemon not yet synced.")


async def prices(call: Call) -> PriceTable:
    """The price table in force: configured rows and those of the chain."""
    messages = await store_of(call).chain_messages(PRICE_MESSAGE_VERSION)
    return PriceTable.flux(call.context.registry.constants, messages)
