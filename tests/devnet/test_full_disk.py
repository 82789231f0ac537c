"""A whole node whose disk really is full: it says so, lives on however often its log gives up, and goes on in
the same process when there is room again; a start on the full disk is told and may be repeated.

The disk is a small tmpfs under the data folder of one node of a local network; that needs root and mount.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from trionode.cli import exitcodes
from trionode.devnet.network import LocalNetwork, local_network
from trionode.devnet.observe import agreed, fetch, look

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

NODES, VICTIM = 3, 2
SIZE_MB = 24
CRASH_LIMIT = 2
PATIENCE = 4.0
"""A busy machine is given so many times as long as one with little else to do."""


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own under `folder`; skips where nobody may mount one."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0:
        pytest.skip("a disk of its own can only be mounted by root")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Until nothing at all can be written."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        # A node that runs may give some room back meanwhile.
        while os.statvfs(folder).f_bavail:
            with suppress(OSError):
                while file.write(b"x" * 4096):
                    pass
    return filler


async def until(
    network: LocalNetwork, condition: Callable[[], Awaitable[bool]], within_s: float, what: str
) -> None:
    """Ask until it holds; fails with the ends of the logs."""
    with trio.move_on_after(within_s * PATIENCE):
        while True:
            if await condition():
                return
            await trio.sleep(0.3)
    logs = "\n".join(node.log.read_text("utf-8")[-3000:] for node in network.layout.nodes)
    pytest.fail(f"not within {within_s:g} s: {what}\n{logs}")


async def asked(network: LocalNetwork, path: str) -> dict[str, Any]:
    """What the victim answers; on a busy machine not always in time."""
    place = network.layout.nodes[VICTIM - 1]
    with trio.fail_after(60 * PATIENCE):
        while True:
            try:
                found: dict[str, Any] = await trio.to_thread.run_sync(fetch, place.ip, path)
                return found
            except (OSError, http.client.HTTPException, ValueError):
                await trio.sleep(0.3)


async def status(network: LocalNetwork) -> dict[str, Any]:
    return await asked(network, "/trionode/status")


async def is_away(network: LocalNetwork) -> bool:
    return not (await status(network))["store"]["connected"]


async def all_agree(network: LocalNetwork) -> bool:
    return agreed(network.layout, await look(network.layout))


async def command(network: LocalNetwork, *words: str) -> subprocess.CompletedProcess[str]:
    place = network.layout.nodes[VICTIM - 1]
    line = [sys.executable, "-m", "trionode", "--config", str(place.config), *words]
    return await trio.to_thread.run_sync(
        lambda: subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
    )


@pytest.mark.trio
async def test_a_node_outlives_its_full_disk(tmp_path: Path) -> None:
    overrides = {"store.sqlite_retry_s": 0.5, "supervisor.crash_limit": CRASH_LIMIT}
    async with local_network(tmp_path, NODES, offset=230, overrides=overrides, held_back={VICTIM}) as network:
        place = network.layout.nodes[VICTIM - 1]
        data = place.folder / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        with small_disk(data):
            await network.start(VICTIM)
            process = network.processes[VICTIM]
            await outlives(network, data)
            assert network.processes[VICTIM] is process
            assert process.returncode is None

            filler = fill(data)
            await until(network, lambda: is_away(network), 60, "the node says it again")
            await network.stop(VICTIM)
            assert process.returncode == 0, "a full disk keeps no node from stopping in order"
            filler.unlink()
            await network.start(VICTIM)
            await until(network, lambda: all_agree(network), 90, "agreement after a stop on the full disk")

            await network.stop(VICTIM)
            filler = fill(data)
            for words in (("run", "--check"), ("run",)):
                done = await command(network, *words)
                assert done.returncode == exitcodes.FAILURE, "a service manager starts it again"
                last = done.stderr.splitlines()[-1]
                assert last.startswith("trionode: cannot ")
                assert "free some space" in last
            assert not list(data.glob(".probe-*")), "a probe is left behind"
            filler.unlink()
            await network.start(VICTIM)
            await until(network, lambda: all_agree(network), 90, "agreement after a start with room")
            await network.stop(VICTIM)


async def outlives(network: LocalNetwork, data: Path) -> None:
    """Fill the disk, wait until a crash loop would have ended the node, make room."""
    place = network.layout.nodes[VICTIM - 1]

    async def has_given_up_often() -> bool:
        counters = await asked(network, "/trionode/counters")
        is_often: bool = counters.get("service.put_off.eventlog", 0) > CRASH_LIMIT + 1
        return is_often

    # A small write may find room where there is none for others; then it begins anew.
    async def says_why() -> bool:
        store = (await status(network))["store"]
        return "disk is full" in (store["problem"] or "") and store["lostForS"] > 5

    async def is_shown() -> bool:
        shown = await command(network, "status", "--api", place.api)
        is_told = "cannot be written, for" in shown.stdout and "free some space" in shown.stdout
        return is_told and shown.returncode == exitcodes.OK

    async def is_well() -> bool:
        return not await is_away(network) and await all_agree(network)

    await until(network, lambda: all_agree(network), 90, "agreement")
    filler = fill(data)
    await until(network, lambda: is_away(network), 60, "the node says that its disk is full")
    await until(network, has_given_up_often, 120, "the event log ends more often than a node crashes")
    await until(network, says_why, 60, "the node says why, and since when")
    found = await status(network)
    assert found["registry"] is not None, "what is stored can be read"
    assert not any(service["crashes"] for service in found["services"])
    await until(network, is_shown, 60, "the operator is told")
    filler.unlink()
    await until(network, is_well, 90, "the node goes on by itself")
    assert not any(service["crashes"] for service in (await status(network))["services"])
