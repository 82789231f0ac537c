"""kill -9 at any moment loses nothing that was acknowledged, and leaves a whole file.

Five rounds in CI, fifty in the nightly form (TRIONODE_NIGHTLY=1). All rounds of a run go on with the
same file, so that recovered files are killed again.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from trionode.appstate.documents import EventRow, LocationRow
from trionode.appstate.state import AppState
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings
from trionode.store.sqlite import open_sqlite
from trionode.wire.jsjson import parse

NIGHTLY = os.environ.get("TRIONODE_NIGHTLY") == "1"
ROUNDS = 50 if NIGHTLY else 5
CHILD = Path(__file__).with_name("crash_child.py")


def killed_child(path: Path, rng: random.Random) -> list[tuple[str, int, tuple[str, ...]]]:
    """Run the child, kill it at a random moment, and return all it had acknowledged."""
    command = [sys.executable, str(CHILD), str(path), str(rng.randrange(1 << 30))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines: list[str] = []
        if rng.random() < 0.15:
            # Also while the file is made or recovered, before anything is acknowledged.
            time.sleep(0.2 + rng.random() * 0.4)
        else:
            lines += [child.stdout.readline() for _ in range(rng.choice((1, 10, 100, 1000, 3000)))]
            time.sleep(rng.random() * 0.02)
        assert child.poll() is None, "the child ended by itself"
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    whole = [line.rstrip("\n").split(",") for line in lines if line.endswith("\n")]
    return [(ip, int(at_ms), tuple(names)) for ip, at_ms, *names in whole]


async def stored(path: Path) -> tuple[dict[str, EventRow], dict[str, list[LocationRow]]]:
    events: dict[str, EventRow] = {}
    rows: dict[str, list[LocationRow]] = {}
    async with open_sqlite(path) as store:
        found = [row async for row in store.load()]
    for row in found:
        if isinstance(row, EventRow):
            events[row.ip] = row
        elif isinstance(row, LocationRow):
            rows.setdefault(row.ip, []).append(row)
    state = AppState.from_rows(Windows.from_settings(AppStateSettings()), found, 0)
    assert state.counts()["location_rows"] == sum(len(some) for some in rows.values())
    return events, rows


@pytest.mark.process
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [20_251_122])
def test_kill_9_loses_nothing_acknowledged(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "log.sqlite"
    promised: dict[str, tuple[int, tuple[str, ...]]] = {}
    acknowledged = 0
    for number in range(ROUNDS):
        for ip, at_ms, names in killed_child(path, rng):
            acknowledged += 1
            if at_ms > promised.get(ip, (0, ()))[0]:
                promised[ip] = (at_ms, names)
        events, rows = trio.run(stored, path)
        for ip, (at_ms, names) in promised.items():
            event = events.get(ip)
            assert event is not None, f"round {number}: the event of {ip} is lost"
            assert event.at_ms >= at_ms, f"round {number}: {ip} went back to {event.at_ms} from {at_ms}"
            if event.at_ms == at_ms:
                listed = tuple(app["name"] for app in parse(str(event.data_text))["apps"])
                assert listed == names
        for ip, event in events.items():
            # A commit holds a message whole: its event and all of its rows.
            listed = {app["name"] for app in parse(str(event.data_text))["apps"]}
            current = {row.name for row in rows[ip] if row.broadcasted_at_ms == event.at_ms}
            assert current == listed, f"round {number}: half a message of {ip}"
        with sqlite3.connect(path) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        raw.close()
    assert acknowledged > 100
