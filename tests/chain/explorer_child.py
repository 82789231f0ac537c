"""A child process that reads the stub's chain into SQLite: python explorer_child.py PORT FILE INDEX.

It prints a line per commit worth telling and is made to be killed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from trionode.chain.explorer import Explorer
from trionode.chain.poll import ChainInfo
from trionode.chain.rpc import HttpRpc
from trionode.config.tree import ChainSettings, ExplorerSettings, Settings
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.store.registry_sqlite import open_sqlite_registry

SETTINGS = Settings(
    chain=ChainSettings(poll_interval_s=0.2), explorer=ExplorerSettings(restore_blocks=0, tip_interval_s=0.2)
)


async def main(port: int, path: Path, *, index: bool, first: int) -> None:
    bus, counters = EventBus(), Counters()
    with HttpRpc("127.0.0.1", port, "u", "p", timeout_s=10) as rpc, bus.subscribe(buffer=4096) as news:
        async with open_sqlite_registry(path) as store, trio.open_nursery() as nursery:
            if not await store.scanned_height():
                await store.set_scanned_height(first)
            facts = ChainInfo(SETTINGS.chain, rpc, bus, counters)
            explorer = Explorer(SETTINGS, rpc, store, facts, bus, counters, has_address_index=index)
            nursery.start_soon(facts.run)
            await nursery.start(explorer.run)
            async for event in news:
                if event.name in ("block:processed", "explorer:synced", "explorer:hashes"):
                    print(event.name, event.data["height"], flush=True)


if __name__ == "__main__":
    trio.run(
        lambda: main(int(sys.argv[1]), Path(sys.argv[2]), index=sys.argv[3] == "1", first=int(sys.argv[4]))
    )
