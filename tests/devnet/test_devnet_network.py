"""A local network of real processes: it agrees, it loses a killed node, it leaves nothing running.

The claims of the README, with the network's long times scaled down further so that they fit a test.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from trionode.devnet.layout import API_PORT
from trionode.devnet.network import LocalNetwork, local_network
from trionode.devnet.observe import NodeView, agreed, fetch, look
from trionode.errors import StartupError

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

TIME_SCALE = 0.004
RUNNING_EXPIRY_S = 7500 * TIME_SCALE


async def views_until(network: LocalNetwork, condition, within_s: float) -> list[NodeView]:
    """Look until `condition(views)` holds; fails with the last look."""
    views: list[NodeView] = []
    with trio.move_on_after(within_s):
        while True:
            views = await look(network.layout)
            if condition(views):
                return views
            await trio.sleep(0.2)
    logs = "\n".join(node.log.read_text("utf-8")[-2000:] for node in network.layout.nodes)
    pytest.fail(f"not within {within_s:g} s: {views}\n{logs}")


async def asked(ip: str, path: str, within_s: float = 60.0) -> Any:
    """`data` of an answer, which a busy machine may give late."""
    with trio.fail_after(within_s):
        while True:
            try:
                return await trio.to_thread.run_sync(fetch, ip, path)
            except (TimeoutError, ValueError):
                await trio.sleep(0.2)  # also one that asks others itself, and got no answer in time


async def expiries(witness: str, ip: str) -> set[str]:
    """When the apps of a node end at another one."""
    return {row["expireAt"] for row in await asked(witness, "/apps/locations") if row["ip"] == ip}


@pytest.mark.trio
async def test_four_nodes_agree_and_forget_a_killed_one_at_its_expiry(tmp_path: Path) -> None:
    overrides = {"appstate.time_scale": TIME_SCALE}
    async with local_network(tmp_path, 4, offset=40, overrides=overrides) as network:
        await views_until(network, lambda views: agreed(network.layout, views), 240)
        victim = network.layout.nodes[3]
        witness = network.layout.nodes[0]
        os.kill(network.processes[victim.number].pid, signal.SIGKILL)

        def link_is_dropped(views: list[NodeView]) -> bool:
            return all(view.outbound + view.inbound == 2 for view in views if view.place is not victim)

        (known,) = await expiries(witness.ip, victim.ip)
        await views_until(network, link_is_dropped, 120)
        listed = await expiries(witness.ip, victim.ip)
        # On a machine that stood still meanwhile its time may be over.
        is_over = datetime.now(UTC) >= datetime.fromisoformat(known)
        assert len(listed) == 1 or is_over, "a killed node is listed until its expiry, with all its apps"

        def victim_is_gone(views: list[NodeView]) -> bool:
            return all(
                view.locations is not None and all(ip != victim.ip for _, ip in view.locations)
                for view in views
                if view.place is not victim
            )

        await views_until(network, victim_is_gone, RUNNING_EXPIRY_S + 120)

        # The others announce themselves again and again, so they never vanish meanwhile.
        def others_are_there(views: list[NodeView]) -> bool:
            answers = [view.locations for view in views if view.place is not victim and view.answers]
            assert all(len(locations or ()) == 9 for locations in answers), views
            return len(answers) == 3

        await views_until(network, others_are_there, 120)
    assert all(process.returncode is not None for process in network.processes.values())


@pytest.mark.trio
async def test_a_busy_address_is_told(tmp_path: Path) -> None:
    listener = (await trio.open_tcp_listeners(16127, host="127.71.0.1"))[0]
    async with listener:
        with pytest.raises(StartupError, match=r"127\.71\.0\.1:16127") as refusal:
            async with local_network(tmp_path, 2, offset=70):
                pytest.fail("the network must not start")
    assert "offset" in refusal.value.remedy


def test_ctrl_c_stops_every_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trionode", "devnet", "--nodes", "2", "--offset", "85"]
    with subprocess.Popen(
        [*command, "--dir", str(tmp_path / "net")], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        for line in parent.stdout:
            if "agree on" in line:
                break
        pids = [int(path.read_text("ascii")) for path in (tmp_path / "net").glob("node*/pid")]
        assert len(pids) == 2
        parent.send_signal(signal.SIGINT)
        rest = parent.stdout.read()
        assert parent.wait(timeout=120) == 0
    assert "all nodes stopped" in rest
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_commands_of_the_readme_answer(tmp_path: Path) -> None:
    trio.run(_ask_everything, tmp_path)


async def _ask_everything(folder: Path) -> None:
    async with local_network(folder, 3, offset=90) as network:
        await views_until(network, lambda views: agreed(network.layout, views), 240)
        await views_until(network, lambda views: all(v.outbound + v.inbound == 2 for v in views), 120)
        config = str(network.layout.nodes[0].config)

        async def ask(*words: str) -> str:
            done = await trio.run_process(
                [sys.executable, "-m", "trionode", "--config", config, *words], capture_stdout=True
            )
            return done.stdout.decode()

        status = json.loads(await ask("status", "--json"))
        assert status["chain"]["canSend"] is True
        with trio.fail_after(60):
            # One that was too busy to answer pings is back soon.
            while len(json.loads(await ask("peers", "--json"))) != 2:
                pass
        assert "shop" in await ask("apps")
        assert network.layout.nodes[1].ip in await ask("explain", "shop")
        assert "peers:added" in await ask("events")
        first, second, _ = network.layout.nodes
        question = f"/flux/checkfluxavailability?ip={second.ip}&port={API_PORT}"
        answer = await asked(first.ip, question)
        assert answer["message"] == "Asking Flux is available"
