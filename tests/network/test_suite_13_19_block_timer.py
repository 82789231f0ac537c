"""Suites 13 and 19: what never completes is waived after 250 counted blocks, and not one block earlier."""

from __future__ import annotations

from pathlib import Path

import pytest
from network import Connected, Env, Network

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

PHASE = "orchestrator:stateChanged"
WAIVED_AFTER = 250


def test_19_a_pair_that_never_has_two_peers_is_ready_at_the_250th_block(tmp_path: Path) -> None:
    async def scenario(net: Connected) -> None:
        node = net[1]
        await node.in_phase("SYNCING", 30)
        await node.event("messageCapability:changed", after=0, within_s=30, capable=True)
        # The blocks found at the start are counted by now.
        await node.until("/explorer/issynced", lambda synced: synced is True, 30)
        counted = (await node.orchestrator())["blocks"]
        mark = await node.mark()
        height = await net.chain.mine(WAIVED_AFTER - 1 - counted)
        await node.event("block:processed", after=mark, within_s=120, height=height)
        await node.until("/trionode/status", lambda s: s["orchestrator"]["blocks"] == WAIVED_AFTER - 1, 20)
        await node.no_event(PHASE, after=mark, for_s=2, to="READY")
        mark = await node.mark()
        await net.chain.mine()
        entered = await node.enters("READY", after=mark, within_s=20)
        await node.event("spawner:resumed", after=mark, within_s=5)
        await node.no_event("spawner:blocked", after=entered, for_s=1, reason="db_not_ready")

    with Network(tmp_path, Env(nodes=2)) as network:
        network.run(scenario)


def test_13_a_node_without_peers_that_loses_confirmation_is_not_degraded(tmp_path: Path) -> None:
    async def scenario(net: Connected) -> None:
        node = net[1]
        await node.in_phase("SYNCING", 30)
        await node.event("confirmation:changed", after=0, within_s=20, confirmed=True)
        mark = await node.mark()
        await net.chain.unconfirm(node.ip)
        await node.event("confirmation:changed", after=mark, within_s=20, confirmed=False)
        await node.no_event(PHASE, after=mark, for_s=3)
        assert not await node.seen("spawner:paused", after=mark)

    with Network(tmp_path, Env(nodes=1)) as network:
        network.run(scenario)


def test_13_resyncing_without_peers_to_ask_ends_with_the_blocks(tmp_path: Path) -> None:
    """No peer has been up for long enough to be asked; what cannot be got is waived, each time anew."""

    async def scenario(net: Connected) -> None:
        node = net[1]
        await node.until("/trionode/status", lambda s: s["orchestrator"]["dbReady"], 30)
        await net.chain.mine(WAIVED_AFTER)
        await node.in_phase("READY", 60)
        assert not await node.seen("ephemeralSync:requested", after=0)
        # Too few are they only after they were enough.
        await node.event("peers:thresholdReached", after=0, within_s=60)
        mark = await node.mark()
        for other in net.others(node):
            other.cut()
        degraded = await node.enters("DEGRADED", after=mark, within_s=30)
        for other in net.others(node):
            other.mend()
        resyncing = await node.enters("RESYNCING", after=degraded, within_s=60)
        await node.event("hashSync:complete", after=resyncing, within_s=30)
        await node.no_event(PHASE, after=resyncing, for_s=2, to="READY")
        await net.chain.mine(WAIVED_AFTER + 50)
        await node.enters("READY", after=resyncing, within_s=30)

    settings = {"state_sync.min_peer_uptime_s": 100_000.0}
    with Network(tmp_path, Env(nodes=3, overrides=settings)) as network:
        network.run(scenario)
