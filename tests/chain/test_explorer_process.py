"""kill -9 of a real process in the middle of reading: nothing is lost, nothing comes twice."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
from explorerworld import TIP, make_chain, truth

from trionode.sim.chain import Mode, VirtualChain
from trionode.sim.stub_server import StubPorts, run_stub
from trionode.store.registry_sqlite import open_sqlite_registry

CHILD = Path(__file__).with_name("explorer_child.py")
FIRST = TIP - 6000


async def read_until(port: int, path: Path, *, index: bool, line: str, count: int = 1) -> None:
    """Run a child until it has printed `count` lines that start with `line`, then kill it at once."""
    command = [sys.executable, str(CHILD), str(port), str(path), str(int(index)), str(FIRST)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        seen = b""
        with trio.fail_after(190):
            async for chunk in process.stdout:
                seen += chunk
                if sum(one.startswith(line.encode()) for one in seen.split(b"\n")[:-1]) >= count:
                    break
            else:
                raise AssertionError(f"the child ended: {seen!r}")
    finally:
        process.kill()
        await process.wait()
        await process.stdout.aclose()


@pytest.mark.trio
@pytest.mark.process
@pytest.mark.parametrize("index", [False, True])
async def test_killed_and_started_again(tmp_path: Path, index: bool) -> None:
    chain: VirtualChain = make_chain(apps=9000, first=FIRST + 1)
    path = tmp_path / "registry.sqlite"
    async with trio.open_nursery() as nursery:
        ports = await nursery.start(partial(run_stub, chain, StubPorts("127.0.0.1", 0, 0, 0)))
        chain.behave("all", Mode.SLOW, 2)
        for count in (1, 3):
            await read_until(ports.daemon, path, index=index, line="explorer:hashes", count=count)
            async with open_sqlite_registry(path) as store:
                height = await store.scanned_height()
                rows = await store.hashes()
                complete = [row for row in await truth(chain, FIRST + 1) if row.height <= height]
                assert [row for row in rows if row.height <= height] == complete
                assert height > FIRST
        chain.clear_journal()
        chain.reorg(40)
        await read_until(ports.daemon, path, index=index, line="explorer:synced")
        async with open_sqlite_registry(path) as store:
            assert await store.hashes() == await truth(chain, FIRST + 1)
            assert await store.scanned_height() == chain.height
        nursery.cancel_scope.cancel()
