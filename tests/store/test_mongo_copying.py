"""`trionode store copy` between SQLite and MongoDB and back: equal, cut off by kill -9, and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import faultproxy
import pytest
import trio
from faultproxy import Fault
from mongoserver import Databases
from nodedata import fill

from trionode.cli import exitcodes
from trionode.cli.main import call
from trionode.config.tree import StoreSettings
from trionode.store.copying import Side
from trionode.store.copymark import MARKER
from trionode.store.open import open_stores

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file with a node's data: more than a page of payments and messages."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIONODE_CONFIG", raising=False)
    (tmp_path / "a").mkdir()
    url = f"sqlite:{tmp_path / 'a' / 'events.sqlite'}"

    async def work() -> None:
        async with open_stores(StoreSettings(url=url), tmp_path) as stores:
            await fill(
                Side("", stores.events, stores.registry, stores.local), nodes=60, payments=1300, messages=1200
            )

    trio.run(work)
    return url


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code = call(["--set", "store.mongo_call_s=300", "store", *arguments, "--json"])
    told = capsys.readouterr()
    assert code == exitcodes.OK, told
    found: dict[str, Any] = json.loads(told.out)
    return found


def test_there_and_back(
    source: str, mongo: Databases, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = said(capsys, "copy", source, mongo.url, "--to-prefix", mongo.prefix)
    assert there["equal"]
    counted = {kind["kind"]: kind["source"] for kind in there["kinds"]}
    assert (counted["events"], counted["locations"], counted["permanents"]) == (61, 60, 1200)
    assert call(["store", "check", mongo.url, "--prefix", mongo.prefix]) == exitcodes.OK
    capsys.readouterr()
    back = f"sqlite:{tmp_path / 'b' / 'events.sqlite'}"
    again = said(capsys, "copy", mongo.url, back, "--from-prefix", mongo.prefix)
    assert again["equal"]
    sums = [[kind["target_sum"] for kind in one["kinds"]] for one in (there, again)]
    assert sums[0] == sums[1], "after both ways everything is as it was"


def test_killed_in_the_middle_and_started_again(
    source: str, mongo: Databases, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed at several moments, each time a few commits further on."""
    deaths = 0
    with faultproxy.fault_proxy(mongo.server.host, mongo.server.port) as proxy:
        url = mongo.server.url_at(proxy.host, proxy.port)
        command = [
            sys.executable,
            "-m",
            "trionode",
            "--set",
            "store.mongo_call_s=300",
            "store",
            "copy",
            source,
            url,
            "--to-prefix",
            mongo.prefix,
        ]
        for _ in range(4):
            pids: SimpleQueue[int] = SimpleQueue()
            kill = Fault(cut="after", then=lambda pids=pids: os.kill(pids.get(), signal.SIGKILL))  # type: ignore[misc]
            proxy.spoil(kill, name="insert", nth=2 if deaths == 0 else 1)
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            pids.put(child.pid)
            if child.wait(600) == exitcodes.OK:
                break
            deaths += 1
            assert child.returncode == -signal.SIGKILL
            with mongo.server.client() as client:
                client.admin.command("killAllSessions", [])
        assert deaths > 1
        inserted = proxy.count("insert")
    found = said(capsys, "copy", source, mongo.url, "--to-prefix", mongo.prefix) if child.returncode else None
    assert found is None or found["equal"]
    assert inserted > 1

    async def marker() -> str | None:
        async with open_stores(
            StoreSettings(url=mongo.url, mongo_prefix=mongo.prefix, mongo_call_s=300.0), tmp_path
        ) as stores:
            return await stores.events.get_meta(MARKER)

    assert trio.run(marker) == "finished"
