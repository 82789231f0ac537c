"""kill -9 in the middle of bulk inserts: nothing acknowledged is lost, nothing is there twice or by halves.

Five rounds in CI, fifty in the nightly form (TRIONODE_NIGHTLY=1). All rounds of a run go on with the same
file, so that recovered files are killed again.
"""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from trionode.store.registry_sqlite import open_sqlite_registry

NIGHTLY = os.environ.get("TRIONODE_NIGHTLY") == "1"
ROUNDS = 50 if NIGHTLY else 5
CHILD = Path(__file__).with_name("registry_crash_child.py")
LARGEST = 200_000
"""The file starts anew beyond this many rows, so that checking it stays quick."""


def child_module() -> Any:
    spec = importlib.util.spec_from_file_location("registry_crash_child", CHILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def killed_child(path: Path, rng: random.Random) -> tuple[int, int]:
    """Run the child and kill it at a random moment; the last block it acknowledged, and how many commits."""
    command = [sys.executable, str(CHILD), str(path), str(rng.randrange(1 << 30))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines: list[str] = []
        if rng.random() < 0.15:
            # Also while the file is made or recovered, before anything is acknowledged.
            time.sleep(0.2 + rng.random() * 0.4)
        else:
            lines += [child.stdout.readline() for _ in range(rng.choice((1, 3, 10, 30)))]
            time.sleep(rng.random() * 0.05)
        assert child.poll() is None, "the child ended by itself"
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    whole = [int(line) for line in lines if line.endswith("\n")]
    return max(whole, default=0), len(whole)


async def check(path: Path, promised: int, rows: Any) -> int:
    """Hold the file against what the child must have written; the scanned height."""
    async with open_sqlite_registry(path) as store:
        scanned = await store.scanned_height()
        assert scanned >= promised, f"blocks up to {promised} were acknowledged, {scanned} is stored"
        number = 0
        async for payment in store.stream_hashes():
            number += 1
            assert payment == msgspec.structs.replace(
                rows.payment(number), message=True, message_not_found=False
            )
        assert number == scanned, "payments and scanned height are of one commit"
        number = 0
        async for message in store.stream_permanents():
            number += 1
            assert message == rows.message(number)
        assert number == scanned, "messages and scanned height are of one commit"
        blocks = await store.block_hashes()
        assert max(blocks, default=0) == scanned
    return scanned


@pytest.mark.process
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [20_251_123])
def test_kill_9_in_the_middle_of_bulk_inserts(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    rows = child_module()
    path, promised, commits = tmp_path / "0.sqlite", 0, 0
    for number in range(ROUNDS):
        last, made = killed_child(path, rng)
        commits += made
        promised = max(promised, last)
        scanned = trio.run(check, path, promised, rows)
        with sqlite3.connect(path) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        raw.close()
        if scanned > LARGEST:
            path, promised = tmp_path / f"{number + 1}.sqlite", 0
    assert commits >= ROUNDS
