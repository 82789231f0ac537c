"""The victims of test_mongo_crash.py: each opens both stores, writes, and says what was acknowledged.

It waits for lines on its input, `URL PREFIX`, and does the work of each in a process of its own, forked from
this one: so a victim starts in a moment. An open victim waits for another line before it writes. Each line of
output: the victim's process id, and a word.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

from nodedata import LATER_MS, NOW_MS, message, payment, running, signed

from trionode.appstate.changes import (
    Change,
    DeleteInstalling,
    DeleteLocation,
    PutCopy,
    PutEvent,
    PutInstalling,
    PutLocation,
)
from trionode.appstate.documents import InstallingRow, LocationRow, SignedCopy
from trionode.appstate.facts import fact_of
from trionode.config.tree import StoreSettings
from trionode.registry.changes import (
    AddHashes,
    AddPermanents,
    PutBlockHash,
    PutCurrent,
    RegistryChange,
    ResolveHashes,
    SetScannedHeight,
)
from trionode.registry.rows import CurrentSpec
from trionode.store.mongo import connection, events, localapps, registry
from trionode.store.open import open_stores

LOADED = (connection, events, localapps, registry)
"""What opening imports when a node needs it: loaded here once, not by each victim."""


def place(number: int, name: str = "AppA") -> LocationRow:
    row = running(number)
    return LocationRow(number, name, "h", row.ip, NOW_MS, LATER_MS, None, 1, None)


def before() -> tuple[Sequence[Change], Sequence[RegistryChange]]:
    """What is stored before the victim comes."""
    first = running(1)
    log: list[Change] = [
        PutEvent(first, fact_of(first)),
        PutLocation(place(1)),
        PutLocation(place(2)),
        PutInstalling(InstallingRow("New", first.ip, NOW_MS, LATER_MS)),
    ]
    rows = tuple(map(payment, range(3)))
    registry: list[RegistryChange] = [AddHashes(rows), AddPermanents((message(0),)), SetScannedHeight(1000)]
    return log, registry


def after() -> tuple[Sequence[Change], Sequence[RegistryChange]]:
    """What the victim commits: several collections, in each of them several documents."""
    newer, other = running(1, ("AppA", "AppB"), NOW_MS + 9), running(3)
    text = '{"type":"fluxappinstalling","version":1,"name":"N","ip":"10.0.0.1","broadcastedAt":5}'
    log: list[Change] = [
        PutEvent(newer, fact_of(newer)),
        PutEvent(other, fact_of(other)),
        PutLocation(place(1, "AppB")),
        PutLocation(place(3)),
        DeleteLocation(2, "AppA", running(2).ip),
        DeleteInstalling(newer.ip, "New"),
        PutCopy(SignedCopy("installing", newer.ip, "N", "", 5, LATER_MS, 6, text, signed(1))),
    ]
    numbers = range(1, 6)
    registry: list[RegistryChange] = [
        AddHashes(tuple(map(payment, numbers))),
        AddPermanents(tuple(map(message, numbers))),
        ResolveHashes(tuple(payment(number).hash for number in numbers)),
        PutCurrent(CurrentSpec.of(message(4))),
        PutBlockHash(1002, "aa"),
        SetScannedHeight(1002),
    ]
    return log, registry


def say(word: str) -> None:
    os.write(1, f"{os.getpid()} {word}\n".encode())


async def work(url: str, prefix: str) -> None:
    settings = StoreSettings(url=url, mongo_prefix=prefix, mongo_call_s=300.0, mongo_retry_s=0.0)
    async with open_stores(settings, Path()) as stores:
        say("open")
        while os.read(0, 1) != b"\n":
            pass
        log, registry = after()
        await stores.events.commit(log)
        say("log")
        await stores.registry.commit(registry)
        say("registry")


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            url, prefix = line.split()
            say("here")
            try:
                trio.run(work, url, prefix)
                say("end")
            except BaseException:  # noqa: BLE001 - whatever it is, the parent has to hear of it
                traceback.print_exc()
                say("failed")
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        os.write(1, f"{pid} gone\n".encode())


if __name__ == "__main__":
    main()
