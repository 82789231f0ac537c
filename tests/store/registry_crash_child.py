"""The victim of test_registry_crash.py: inserts in bulk as fast as it can and prints what was acknowledged.

Usage: registry_crash_child.py FILE SEED. Message `n` was paid in block `n`. A batch goes on where the file
ends, begins with some of what is stored already, as a stream that is asked again does, and moves the scanned
height to its last block in the same commit. Each line: the last block of a batch whose commit returned.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import trio

from trionode.registry.changes import AddHashes, AddPermanents, PutBlockHash, ResolveHashes, SetScannedHeight
from trionode.registry.rows import HashRow, PermanentRow
from trionode.store.registry_sqlite import open_sqlite_registry


def payment(number: int) -> HashRow:
    return HashRow.found(f"tx{number}", number, f"{number:064x}", 100 + number)


def message(number: int) -> PermanentRow:
    name = f"App{number % 50}"
    text = f'{{"name":"{name}","description":"{"x" * (number % 1500)}"}}'
    paid = payment(number)
    return PermanentRow(
        paid.hash, "fluxappupdate", 1, text, name, "owner", number, "sig", paid.txid, number, paid.value_sat
    )


async def main(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with open_sqlite_registry(path) as store:
        last = await store.scanned_height()
        while True:
            first = max(1, last - rng.randrange(50))
            last += rng.choice((1, 20, 500, 2000))
            numbers = range(first, last + 1)
            await store.commit(
                [
                    AddHashes(tuple(map(payment, numbers))),
                    AddPermanents(tuple(map(message, numbers))),
                    ResolveHashes(tuple(payment(number).hash for number in numbers)),
                    PutBlockHash(last, f"block {last}"),
                    SetScannedHeight(last),
                ]
            )
            sys.stdout.write(f"{last}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
