"""A virtual chain, a store in memory and explorers on it, on the mock clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from trionode.chain.blockhooks import BlockHooks
from trionode.chain.explorer import Explorer
from trionode.chain.poll import ChainInfo
from trionode.chain.scan import PaymentRules, minimum_prices, scan_block
from trionode.config.tree import ChainSettings, ExplorerSettings, Settings
from trionode.registry.rows import ChainMessageRow, HashRow
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.sim.chain import VirtualChain
from trionode.sim.chainpayments import SeededPayments
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.store.registry_port import RegistryStore

ME = "198.18.1.0"
SETTINGS = Settings(
    chain=ChainSettings(poll_interval_s=1.0), explorer=ExplorerSettings(restore_blocks=0, sync_retry_s=20.0)
)
TIP = 2_100_000


def make_chain(*, tip: int = TIP, apps: int = 0, first: int | None = None, seed: int = 1) -> VirtualChain:
    """A chain whose `apps` payments lie between `first` (the first app height) and the tip."""
    seeded = None
    if apps:
        options = {} if first is None else {"first_height": first}
        seeded = SeededPayments(seed, apps, last_height=tip + 400, **options)
    return VirtualChain(height=tip, seeded=seeded)


class Recorder:
    """Hooks that remember what they were told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.changed = 0

    def hooks(self) -> BlockHooks:
        async def messages(rows: Sequence[ChainMessageRow]) -> None:
            self.calls.append(("messages", len(rows)))

        async def rewind(height: int) -> None:
            self.calls.append(("rewind", height))

        async def expire(height: int) -> None:
            self.calls.append(("expire", height))

        async def reconstruct(height: int) -> int:
            self.calls.append(("reconstruct", height))
            return self.changed

        async def hashes(rows: Sequence[HashRow]) -> None:
            self.calls.append(("hashes", [row.hash for row in rows]))

        async def block(height: int) -> None:
            self.calls.append(("block", height))

        return BlockHooks(
            on_chain_messages=messages,
            on_rewind=rewind,
            on_expire=expire,
            on_reconstruct=reconstruct,
            on_hashes=hashes,
            on_block=block,
        )


class World:
    """One chain and the node's things that outlive a restart of the explorer."""

    def __init__(
        self,
        chain: VirtualChain,
        *,
        store: RegistryStore | None = None,
        settings: Settings = SETTINGS,
        index: bool = False,
    ) -> None:
        self.chain = chain
        self.store: Any = store if store is not None else MemoryRegistryStore()
        self.settings = settings
        self.bus = EventBus(ring=100_000)
        self.counters = Counters()
        self.recorder = Recorder()
        self.has_index = index
        self.headers: int | None = None
        """Headers known at the start; None: as a real node supposes."""
        self.explorer = self.new_explorer()

    def new_explorer(self) -> Explorer:
        rpc = self.chain.rpc_for(ME)
        self.facts = ChainInfo(self.settings.chain, rpc, self.bus, self.counters)
        if self.headers is not None:
            self.facts.headers = self.headers
        self.explorer = Explorer(
            self.settings,
            rpc,
            self.store,
            self.facts,
            self.bus,
            self.counters,
            hooks=self.recorder.hooks(),
            has_address_index=self.has_index,
        )
        return self.explorer

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Explorer]:
        """A fresh explorer at work, as after a start of the node."""
        explorer = self.new_explorer()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.facts.run)
            await nursery.start(explorer.run)
            yield explorer
            nursery.cancel_scope.cancel()

    async def at_tip(self, limit_s: float = 3600) -> None:
        """Wait until the explorer has read and stored the chain's tip."""
        with trio.fail_after(limit_s):
            while True:
                height = self.chain.height
                known = (await self.store.block_hashes()).get(height)
                if self.explorer.is_synced and known == self.chain.blocks.hash_at(height):
                    return
                await trio.sleep(0.5)

    async def rows(self) -> list[HashRow]:
        return list(await self.store.hashes())

    def events(self, name: str) -> list[Any]:
        return [event.data for event in self.bus.replay() if event.name == name]


async def truth(chain: VirtualChain, first: int) -> list[HashRow]:
    """The rows of the blocks from `first` to the tip as the chain is now, read with nothing in between."""
    rules = PaymentRules.from_settings(SETTINGS.economy, SETTINGS.explorer)
    build = minimum_prices(SETTINGS.economy)
    messages: list[ChainMessageRow] = []
    rows: dict[str, HashRow] = {}
    for height in range(first, chain.height + 1):
        found = scan_block(chain.blocks.block(height)["tx"], height, rules, build(messages))
        messages += found.chain_messages
        for row in found.rows:
            rows.setdefault(row.hash, row)
    return sorted(rows.values(), key=lambda row: row.height)
