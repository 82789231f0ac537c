"""A process that is killed at any step of a commit, or while it opens a database, leaves it whole.

Steps are the commands on their way to the server. At each of them, one after the other, the process is
killed: once before the server sees the command, once after it was carried out.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faultproxy
import pytest
import trio
from faultproxy import Fault, FaultProxy, When
from mongoserver import Databases, TestServer, databases
from nodedata import side

from trionode.config.tree import StoreSettings
from trionode.store.copying import Side
from trionode.store.mongo import journal
from trionode.store.open import open_stores

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

CHILD = Path(__file__).with_name("mongo_crash_child.py")


def child_module() -> Any:
    spec = importlib.util.spec_from_file_location("mongo_crash_child", CHILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


child = child_module()


class Nursery:
    """The process that makes victims."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def victim(self, url: str, prefix: str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{url} {prefix}\n")
        self._process.stdin.flush()
        pid, word = self.heard()
        assert word == "here"
        return pid

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def heard(self) -> tuple[int, str]:
        assert self._process.stdout is not None
        pid, word = self._process.stdout.readline().split()
        return int(pid), word


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    command = [sys.executable, str(CHILD)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()


async def contents(stores: Side) -> dict[str, Any]:
    """All that is stored, as values to compare; row ids belong to the process."""
    registry = stores.registry
    return {
        "log": sorted(repr(row) for row in [row async for row in stores.log.load()]),
        "registry": {
            "scanned": await registry.scanned_height(),
            "blocks": dict(await registry.block_hashes()),
            "hashes": [row async for row in registry.stream_hashes()],
            "permanents": [row async for row in registry.stream_permanents()],
            "current": [row async for row in registry.stream_current()],
        },
    }


async def expected() -> tuple[dict[str, Any], dict[str, Any]]:
    """What must be stored without and with the victim's commits, as the stores in memory have it."""
    memory = side("memory")
    log, registry = child.before()
    await memory.log.commit(log)
    await memory.registry.commit(registry)
    first = await contents(memory)
    log, registry = child.after()
    await memory.log.commit(log)
    await memory.registry.commit(registry)
    return first, await contents(memory)


async def prepare(room: Databases) -> None:
    async with open_stores(
        StoreSettings(url=room.url, mongo_prefix=room.prefix, mongo_call_s=300.0), Path()
    ) as stores:
        log, registry = child.before()
        await stores.events.commit(log)
        await stores.registry.commit(registry)


async def found(room: Databases) -> dict[str, Any]:
    async with open_stores(
        StoreSettings(url=room.url, mongo_prefix=room.prefix, mongo_call_s=300.0), Path()
    ) as stores:
        return await contents(Side("", stores.events, stores.registry))


def left_in_the_journal(room: Databases) -> int:
    with room.server.client() as client:
        return client[room.prefix + journal.DATABASE][journal.COLLECTION].count_documents({})


def kill_at(proxy: FaultProxy, pid: int, step: int, when: When) -> None:
    """From now on count the steps, and kill at that one."""
    proxy.spoil(Fault(cut=when, then=lambda: os.kill(pid, signal.SIGKILL)), nth=step)


def life_of(
    nursery: Nursery, proxy: FaultProxy, room: Databases, step: int, when: When, phase: str
) -> set[str]:
    """One victim, killed at that step of that phase; what it said before it was gone."""
    url = room.server.url_at(proxy.host, proxy.port)
    proxy.judge = None
    pid = nursery.victim(url, room.prefix)
    if phase == "open":
        kill_at(proxy, pid, step, when)
    words: set[str] = set()
    while (word := nursery.heard()[1]) != "gone":
        words.add(word)
        if word == "open":
            proxy.judge = None
            if phase == "commit":
                kill_at(proxy, pid, step, when)
            nursery.go()
    proxy.judge = None
    assert "failed" not in words
    end_transactions(room.server)
    return words


def end_transactions(server: TestServer) -> None:
    """What a server does by itself, after a minute, with a transaction whose client is gone."""
    with server.client() as client:
        client.admin.command("killAllSessions", [])


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_step_of_a_commit(any_mongo_server: TestServer, nursery: Nursery, when: When) -> None:
    server = any_mongo_server
    first, last = trio.run(expected)
    with faultproxy.fault_proxy(server.host, server.port) as proxy:
        for step in range(1, 100):
            with databases(server) as room:
                trio.run(prepare, room)
                words = life_of(nursery, proxy, room, step, when, "commit")
                stored = trio.run(found, room)
                for part in ("log", "registry"):
                    if part in words:
                        assert stored[part] == last[part], f"step {step}: {part} was acknowledged and is lost"
                    else:
                        assert stored[part] in (first[part], last[part]), f"step {step}: half of {part}"
                assert left_in_the_journal(room) == 0
                if "end" in words:
                    break
        assert 4 < step < 99


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_step_of_opening(any_mongo_server: TestServer, nursery: Nursery, when: When) -> None:
    """The next start finds its way, whatever of the indexes and repairs was done."""
    server = any_mongo_server
    _, last = trio.run(expected)
    with faultproxy.fault_proxy(server.host, server.port) as proxy, databases(server) as room:
        for step in range(1, 300):
            # All attempts go on with the same database, which so is opened and killed again and again.
            if "end" in life_of(nursery, proxy, room, step, when, "open"):
                break
        assert step > 4
        stored = trio.run(found, room)
        assert stored["registry"]["permanents"] == last["registry"]["permanents"][1:]
