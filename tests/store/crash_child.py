"""The victim of test_crash.py: takes messages in as fast as it can and prints what was acknowledged.

Usage: crash_child.py FILE SEED. Each line: ip, broadcastedAt, the names of the apps, joined with commas.
Printed after `ingest` returned, so whatever is on the pipe was promised to be durable.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import trio

from trionode.config.tree import AppStateSettings
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import SystemClock
from trionode.runtime.counters import Counters
from trionode.store.eventlog import EventLog
from trionode.store.sqlite import open_sqlite
from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import stringify

FEEDERS = 16
ADDRESSES = 200


async def feed(log: EventLog, rng: random.Random, clock: SystemClock, first: int) -> None:
    """Messages of the addresses of this feeder, each newer than the one before."""
    last_ms = 0
    while True:
        for number in range(first, ADDRESSES, FEEDERS):
            last_ms = max(clock.now_ms(), last_ms + 1)
            names = sorted(rng.sample("ABCDEFGH", rng.randint(1, 5)))
            data: dict[str, Any] = {
                "type": "fluxapprunning",
                "version": 2,
                "apps": [{"name": name, "hash": "h" * 64} for name in names],
                "ip": f"1.1.1.{number}",
                "broadcastedAt": last_ms,
            }
            decision = await log.ingest(Envelope(1, last_ms, "pk", "s", data, stringify(data)))
            if decision.accepted:
                sys.stdout.write(f"{data['ip']},{last_ms},{','.join(names)}\n")
                sys.stdout.flush()


async def main(path: Path, seed: int) -> None:
    rng, clock = random.Random(seed), SystemClock()
    async with open_sqlite(path) as store:
        log = EventLog(AppStateSettings(), store, clock, EventBus(), Counters())
        async with trio.open_nursery() as nursery:
            await nursery.start(log.run)
            for first in range(FEEDERS):
                nursery.start_soon(feed, log, rng, clock, first)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
