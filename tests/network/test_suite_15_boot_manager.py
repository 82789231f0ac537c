"""Suite 15: what a node does with its apps after a start, by how long and how it was away.

The container steps run on the apps file: after a reboot its containers stand still until they are started.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from network import Connected, Env, Network, Node
from network.boot import leave_heartbeat
from network.env import NO_DAEMON, NO_DATA

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

APP = "webshop"
SETTLED_WITHIN_S = 50.0


def boot(tmp_path: Path, context: Any, scenario: Any, overrides: Any = NO_DATA, **env: Any) -> None:
    """Run `scenario` on a network of one node that hosts an app and starts in this context.

    Alone it waits for the data of others in vain.
    """
    alone = Env(nodes=1, boot=context, apps={1: (APP,)}, overrides=overrides, **env)
    with Network(tmp_path, alone) as network:
        network.run(scenario)


async def settled(node: Node) -> dict[str, Any]:
    """Wait for the decision to be carried out; the boot context the node found."""
    await node.event("boot:settled", after=0, within_s=SETTLED_WITHIN_S)
    started = await node.event("orchestrator:started", after=0, within_s=5)
    return dict(started.data["bootContext"])


def has_app(node: Node) -> bool:
    return APP in (node.place.folder / "apps.toml").read_text("utf-8")


def test_15_only_the_process_was_restarted(tmp_path: Path) -> None:
    async def scenario(net: Connected) -> None:
        context = await settled(net[1])
        assert context["machineRebooted"] is False
        assert context["firstBoot"] is False
        assert not await net[1].seen("app:removed", after=0)
        assert has_app(net[1])

    boot(tmp_path, "running", scenario)


def test_15_a_clean_reboot_waits_for_the_registry_in_vain(tmp_path: Path) -> None:
    """Alone and without blocks the registry never gets ready: the wait ends, everything is removed."""

    async def scenario(net: Connected) -> None:
        context = await settled(net[1])
        assert context["machineRebooted"] is True
        assert context["cleanShutdown"] is True
        assert context["firstBoot"] is False
        assert 0 <= context["downtimeMs"] < 420_000

    boot(tmp_path, "rebooted", scenario)


def test_15_a_first_boot(tmp_path: Path) -> None:
    async def scenario(net: Connected) -> None:
        context = await settled(net[1])
        assert context["firstBoot"] is True
        assert context["machineRebooted"] is True
        assert context["cleanShutdown"] is False

    boot(tmp_path, "firstBoot", scenario)


def test_15_rebooted_and_the_daemon_does_not_answer(tmp_path: Path) -> None:
    async def scenario(net: Connected) -> None:
        await settled(net[1])
        assert not has_app(net[1]), "without a daemon everything is removed"

    boot(tmp_path, "rebooted", scenario, overrides=NO_DAEMON, rpc_failures=(1,))


def test_15_rebooted_and_not_confirmed(tmp_path: Path) -> None:
    async def scenario(net: Connected) -> None:
        await settled(net[1])
        assert not has_app(net[1])

    boot(tmp_path, "rebooted", scenario, statuses={1: "EXPIRED"})


def test_15_an_unclean_stop_is_told(tmp_path: Path) -> None:
    async def scenario(net: Connected) -> None:
        context = await settled(net[1])
        assert context["cleanShutdown"] is False
        assert context["machineRebooted"] is True

    boot(tmp_path, {"rebooted": True, "clean": False, "downtime_s": 60}, scenario)


def test_19_a_clean_reboot_within_the_grace_keeps_apps_and_after_it_removes_them(tmp_path: Path) -> None:
    """Until seven minutes have passed the network's knowledge decides; then everything goes at once."""

    async def scenario(net: Connected) -> None:
        node, witness = net[1], net[2]
        await net.chain.start_ticker()
        await witness.until(
            f"/apps/location/{APP}", lambda rows: [row["ip"] for row in rows] == [node.ip], 60
        )
        for away_s, kept in ((300, True), (500, False)):
            await node.stop(signal.SIGKILL)
            await leave_heartbeat(node.place, {"rebooted": True, "clean": True, "downtime_s": away_s})
            await node.start()
            context = await settled(node)
            assert context["cleanShutdown"] is True
            assert away_s * 1000 <= context["downtimeMs"] < (away_s + 110) * 1000
            assert has_app(node) is kept
        gone = await node.event("app:removed", after=0, within_s=10, name=APP)
        assert gone
        await witness.until(f"/apps/location/{APP}", lambda rows: not rows, 20)

    env = Env(nodes=3, apps={1: (APP,)}, ticker_s=1.0)
    with Network(tmp_path, env) as network:
        network.run(scenario)
