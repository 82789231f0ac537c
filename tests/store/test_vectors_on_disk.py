"""Every write scenario of events.json leaves the same documents in SQLite as in memory."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trionode.appstate.changes import Change
from trionode.store.sqlite import open_sqlite

ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = ROOT / "tests" / "conformance"
DOCUMENT = json.loads((ROOT / "tests" / "vectors" / "events.json").read_text(encoding="utf-8"))


@pytest.mark.trio
async def test_sqlite_holds_what_memory_holds(tmp_path: Path) -> None:
    if str(CONFORMANCE) not in sys.path:
        sys.path.insert(0, str(CONFORMANCE))
    worlds: Any = importlib.import_module("events_world")
    for scenario in DOCUMENT["write_scenarios"]:
        commits: list[Sequence[Change]] = []
        world = worlds.World(DOCUMENT["T0_ms"])
        in_memory = world.commit

        def commit(changes: Sequence[Change], keep: Any = commits, then: Any = in_memory) -> None:
            keep.append(changes)
            then(changes)

        world.commit = commit
        world.run(scenario["ops"])
        expected = sorted(world.store.rows(), key=repr)
        singly, together = tmp_path / f"{scenario['id']}.1", tmp_path / f"{scenario['id']}.2"
        async with open_sqlite(singly) as store:
            for changes in commits:
                await store.commit(changes)
            assert sorted([row async for row in store.load()], key=repr) == expected, scenario["id"]
        async with open_sqlite(together) as store:
            await store.commit([change for changes in commits for change in changes])
            assert sorted([row async for row in store.load()], key=repr) == expected, scenario["id"]
