"""Real processes that go down with their machine, and come back: what the others are told, what is kept.

A file stands in for the sign that the machine goes down, another for its boot id. The times are those of
the real network.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from trionode.devnet.layout import NodePlace
from trionode.devnet.network import LocalNetwork, local_network
from trionode.devnet.observe import agreed, fetch, look

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

GRACE_MS = 420_000
ENDS_WITHIN_S = 40.0
"""Without a deadline it would be as long as whatever hangs does, here: for ever."""
NODES = 4
PATIENCE = 4.0
"""A busy machine is given so many times as long as one with little else to do."""


class Machines:
    """The files that stand in for the machines, and the settings that name them."""

    def __init__(self, folder: Path) -> None:
        self.going_down = folder / "going-down"
        self.boot_id = folder / "boot-id"
        self.boot_id.write_text("first\n", "ascii")
        self.overrides = {
            "appstate.time_scale": 1.0,
            "appstate.announce_interval_s": 3600.0,
            "system.shutdown_marker_files": [str(self.going_down)],
            "system.shutdown_commands": False,
            "system.boot_id_file": str(self.boot_id),
            "system.heartbeat_interval_s": 0.5,
            # A stop that is cut short exits with an error; a busy machine takes its time for one in order.
            "node.shutdown_grace_s": 12.0,
        }


async def ask(place: NodePlace, path: str) -> Any:
    with trio.fail_after(15 * PATIENCE):
        while True:
            try:
                return await trio.to_thread.run_sync(fetch, place.ip, path)
            except TimeoutError:
                continue  # a busy machine answers late


async def rows_of(network: LocalNetwork, victim: NodePlace) -> dict[int, set[tuple[str, str]]]:
    """What every other node lists of one: apps and when they expire."""
    found = {}
    for place in network.layout.nodes:
        if place is not victim:
            rows = await ask(place, "/apps/locations")
            found[place.number] = {(r["name"], r["expireAt"]) for r in rows if r["ip"] == victim.ip}
    return found


async def until(
    network: LocalNetwork, condition: Callable[[], Awaitable[bool]], within_s: float, what: str
) -> None:
    """Look again and again, as processes have no other way to tell."""
    with trio.move_on_after(within_s * PATIENCE):
        while True:
            if await condition():
                return
            await trio.sleep(0.2)
    logs = "\n".join(node.log.read_text("utf-8")[-2000:] for node in network.layout.nodes)
    pytest.fail(f"not within {within_s:g} s: {what}\n{logs}")


async def until_agreed(network: LocalNetwork) -> None:
    """All list the same apps, and the same moments at which they end: no announcement is on its way."""

    async def all_agree() -> bool:
        if not agreed(network.layout, await look(network.layout)):
            return False
        lists = [await ask(place, "/apps/locations") for place in network.layout.nodes]
        return len({frozenset((r["name"], r["ip"], r["expireAt"]) for r in rows) for rows in lists}) == 1

    await until(network, all_agree, 60, "all nodes agree")


async def boot_of(place: NodePlace, within_s: float = 30) -> dict[str, Any]:
    """The settled boot decision as the API tells it."""
    boot: dict[str, Any] = {}
    with trio.move_on_after(within_s * PATIENCE):
        while not boot.get("settled"):
            await trio.sleep(0.2)
            try:
                boot = (await ask(place, "/trionode/status"))["boot"]
            except OSError:
                continue
        return boot
    pytest.fail(f"not settled within {within_s:g} s: {boot}\n{place.log.read_text('utf-8')[-3000:]}")


def heartbeat(place: NodePlace) -> str:
    with sqlite3.connect(place.folder / "data" / "events.sqlite") as database:
        (text,) = database.execute("select value from meta where key = 'heartbeat'").fetchone()
    database.close()
    return str(text)


@pytest.mark.trio
async def test_a_machine_goes_down_and_comes_back(tmp_path: Path) -> None:
    machines = Machines(tmp_path)
    async with local_network(tmp_path, NODES, offset=240, overrides=machines.overrides) as network:
        await until_agreed(network)
        victim = network.layout.nodes[3]
        before = await rows_of(network, victim)
        assert all(len(rows) == len(victim.apps) for rows in before.values())

        machines.going_down.touch()
        began_s = trio.current_time()
        await network.stop(victim.number)
        took_s = trio.current_time() - began_s
        machines.going_down.unlink()
        assert network.processes[victim.number].returncode == 0, victim.log.read_text("utf-8")[-3000:]
        assert took_s < ENDS_WITHIN_S, "a wide bound: the deadline is 12 s, and then the process ends"
        assert '"shutdownReason":"sigterm"' in heartbeat(victim)

        async def heard() -> bool:
            now = await rows_of(network, victim)
            return all(now[number] != before[number] for number in now)

        await until(network, heard, 10, "everybody heard the goodbye")
        after = await rows_of(network, victim)
        views = set(map(frozenset, after.values()))
        assert len(views) == 1, "everybody heard the same"
        assert {name for name, _ in next(iter(views))} == set(victim.apps)
        ends = {at for _, at in next(iter(views))}
        assert len(ends) == 1, "all its rows end at one moment"
        assert ends.isdisjoint(at for rows in before.values() for _, at in rows)

        machines.boot_id.write_text("second\n", "ascii")
        await network.start(victim.number)
        boot = await boot_of(victim)
        assert boot["context"]["machineRebooted"]
        assert boot["context"]["cleanShutdown"]
        assert 0 < boot["context"]["downtimeMs"] < GRACE_MS
        assert boot["action"] == "reconcile"

        async def announced_anew() -> bool:
            now = await rows_of(network, victim)
            return not any(ends & {at for _, at in rows} for rows in now.values())

        await until(network, announced_anew, 60, "the apps are announced anew")
        assert all(len(rows) == len(victim.apps) for rows in (await rows_of(network, victim)).values())


@pytest.mark.trio
async def test_a_process_that_is_killed_or_restarted_says_nothing(tmp_path: Path) -> None:
    machines = Machines(tmp_path)
    async with local_network(tmp_path, NODES, offset=246, overrides=machines.overrides) as network:
        await until_agreed(network)
        killed, stopped = network.layout.nodes[2:]
        before = await rows_of(network, killed), await rows_of(network, stopped)
        os.kill(network.processes[killed.number].pid, signal.SIGKILL)
        await network.processes[killed.number].wait()
        await network.stop(stopped.number)
        assert network.processes[stopped.number].returncode == 0
        assert "shutdownReason" not in heartbeat(stopped)
        witness = network.layout.nodes[0]
        rows = await ask(witness, "/apps/locations")
        for place, known in zip((killed, stopped), before, strict=True):
            listed = {(row["name"], row["expireAt"]) for row in rows if row["ip"] == place.ip}
            assert listed == known[witness.number], "apps are listed until their own time is over"
            await network.start(place.number)
            boot = await boot_of(place)
            assert (boot["context"]["machineRebooted"], boot["action"]) == (False, "none")
            assert 0 <= boot["context"]["downtimeMs"] < GRACE_MS


@pytest.mark.trio
async def test_a_peer_that_hangs_and_a_store_that_blocks_cannot_hold_up_the_end(tmp_path: Path) -> None:
    """One peer is frozen and somebody else holds the database; the deadline is 12 s."""
    machines = Machines(tmp_path)
    async with local_network(tmp_path, NODES, offset=236, overrides=machines.overrides) as network:
        await until_agreed(network)
        frozen, victim = network.layout.nodes[2:]
        before = await rows_of(network, victim)
        network.processes[frozen.number].send_signal(signal.SIGSTOP)
        database = sqlite3.connect(
            victim.folder / "data" / "events.sqlite", isolation_level=None, timeout=60.0
        )
        try:
            database.execute("BEGIN IMMEDIATE")
            machines.going_down.touch()
            began_s = trio.current_time()
            await network.stop(victim.number)
            took_s = trio.current_time() - began_s
        finally:
            database.close()
            network.processes[frozen.number].send_signal(signal.SIGCONT)
        assert took_s < ENDS_WITHIN_S, "the deadline, a second to end hard, and what a busy machine adds"

        async def heard() -> bool:
            now = await rows_of(network, victim)
            return all(now[place.number] != before[place.number] for place in network.layout.nodes[:2])

        await until(network, heard, 10, "the peers that read heard the goodbye")
