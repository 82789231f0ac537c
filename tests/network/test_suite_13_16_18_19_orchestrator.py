"""Suites 13, 16, 18 and 19: phases, spawner gates, compound failures and boundaries on five nodes.

Each test begins with everybody attached and READY, whatever the one before left behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from network import Connected, Env, Network, Node

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

PHASE = "orchestrator:stateChanged"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("net"), Env(nodes=5, ticker_s=1.0)) as network:
        yield network


async def ready(net: Connected) -> Node:
    """Node 1, when it and its peers are READY; no blocks come by themselves any more."""
    await net.chain.start_ticker()
    for node in net.nodes:
        await node.in_phase("READY", 90)
        await node.until(
            "/trionode/status", lambda s: s["peers"]["outbound"] + s["peers"]["inbound"] == 4, 60
        )
    await net.chain.stop_ticker()
    return net[1]


def cut_others(net: Connected, node: Node) -> None:
    for other in net.others(node):
        other.cut()


def mend_all(net: Connected) -> None:
    for node in net.nodes:
        node.mend()


async def seen_phases(node: Node, after: int) -> list[tuple[str, str]]:
    return [(event.data["from"], event.data["to"]) for event in await node.seen(PHASE, after=after)]


@pytest.mark.trio
async def test_13_the_first_change_is_to_syncing_and_then_every_node_gets_ready(net: Connected) -> None:
    await net.chain.start_ticker()
    for node in net.nodes:
        started = await node.event("orchestrator:started", after=0, within_s=20)
        assert started.data["state"] == "INITIALIZING"
        assert started.data["bootContext"]["firstBoot"] is True
        first = await node.event(PHASE, after=0, within_s=20)
        assert (first.data["from"], first.data["to"]) == ("INITIALIZING", "SYNCING")
        assert started.id < first.id
        in_force = await node.enters("READY", after=first, within_s=90)
        await node.event("spawner:resumed", after=first, within_s=5)
        complete = await node.event("hashSync:complete", after=0, within_s=1)
        done = await node.event("ephemeralSync:allComplete", after=0, within_s=1)
        assert max(complete.id, done.id) < in_force.id


@pytest.mark.trio
async def test_13_16_losing_all_peers_degrades_and_getting_them_back_resyncs(net: Connected) -> None:
    node = await ready(net)
    mark = await node.mark()
    cut_others(net, node)
    degraded = await node.enters("DEGRADED", after=mark, within_s=30)
    await node.event("peers:belowThreshold", after=mark, within_s=1)
    await node.event("spawner:paused", after=mark, within_s=5)
    mend_all(net)
    resyncing = await node.enters("RESYNCING", after=degraded, within_s=60)
    assert resyncing.data["from"] == "DEGRADED"
    await net.chain.start_ticker()
    again = await node.enters("READY", after=resyncing, within_s=90)
    await node.event("spawner:resumed", after=degraded, within_s=5)
    assert len(await node.seen("spawner:paused", after=mark)) == 1
    run = await node.event("hashSync:complete", after=degraded, within_s=5, attempt=1)
    assert run.id < again.id, "nothing is READY before the hashes were looked at again"


@pytest.mark.trio
async def test_13_16_losing_confirmation_leaves_ready_and_regaining_it_returns(net: Connected) -> None:
    node = await ready(net)
    mark = await node.mark()
    await net.chain.unconfirm(node.ip)
    lost = await node.event("confirmation:changed", after=mark, within_s=20, confirmed=False)
    left = await node.event(PHASE, after=mark, within_s=20)
    assert (left.data["from"], left.data["to"]) == ("READY", "SYNCING")
    paused = await node.event("spawner:paused", after=mark, within_s=5)
    assert min(left.id, paused.id) > lost.id
    await net.chain.confirm(node.ip)
    await net.chain.start_ticker()
    await node.event("confirmation:changed", after=lost, within_s=20, confirmed=True)
    await node.enters("READY", after=lost, within_s=90)
    await node.event("spawner:resumed", after=paused, within_s=5)
    assert len(await node.seen("spawner:paused", after=mark)) == 1


@pytest.mark.trio
async def test_13_a_syncing_node_without_confirmation_and_peers_is_degraded(net: Connected) -> None:
    node = await ready(net)
    mark = await node.mark()
    await net.chain.unconfirm(node.ip)
    # Whether missing pongs or its daemon would tell it first is a race; with its confirmation its links go.
    syncing = await node.enters("SYNCING", after=mark, within_s=20)
    cut_others(net, node)
    await node.enters("DEGRADED", after=syncing, within_s=30)
    assert len(await node.seen("spawner:paused", after=mark)) == 1


@pytest.mark.trio
async def test_18_peers_and_daemon_lost_together(net: Connected) -> None:
    node = await ready(net)
    mark = await node.mark()
    await net.chain.fail_rpc(node.ip)
    cut_others(net, node)
    degraded = await node.enters("DEGRADED", after=mark, within_s=30)
    assert len(await node.seen("spawner:paused", after=mark)) == 1

    # Its daemon is silent for so long that it counts as unconfirmed: no peers, no block, no READY.
    lost = await node.event("confirmation:changed", after=mark, within_s=35, confirmed=False)
    mend_all(net)
    await net.chain.mine(260)
    await node.no_event(PHASE, after=max(lost.id, degraded.id), for_s=3, to="READY")

    await net.chain.mend_rpc(node.ip)
    await net.chain.start_ticker()
    resyncing = await node.enters("RESYNCING", after=degraded, within_s=60)
    await node.enters("READY", after=resyncing, within_s=90)
    await node.event("spawner:resumed", after=degraded, within_s=5)
    assert len(await node.seen("spawner:paused", after=mark)) == 1


@pytest.mark.trio
async def test_18_a_link_that_comes_and_goes_ends_in_a_sound_phase(net: Connected) -> None:
    node = await ready(net)
    mark = await node.mark()
    for _ in range(2):
        cut_others(net, node)
        # One poll of the daemon long: about as long as it takes to miss the first pongs.
        await node.event("daemon:polled", after=await node.mark(), within_s=10)
        mend_all(net)
    await net.chain.start_ticker()
    await node.until("/trionode/status", lambda s: s["orchestrator"]["phase"] in ("READY", "RESYNCING"), 60)
    await node.in_phase("READY", 90)
    phases = await seen_phases(node, mark)
    assert all(one[1] == two[0] for one, two in pairwise(phases)), phases


@pytest.mark.trio
async def test_19_thresholds_count_total_peers(net: Connected) -> None:
    node = await ready(net)
    reached = await node.event("peers:thresholdReached", after=0, within_s=90)
    assert reached.data["count"] >= 2
    mark = await node.mark()
    *most, last = net.others(node)
    for other in most:
        other.cut()
    await node.until("/trionode/status", lambda s: s["peers"]["outbound"] + s["peers"]["inbound"] == 1, 30)
    await node.no_event("peers:belowThreshold", after=mark, for_s=3)
    last.cut()
    below = await node.event("peers:belowThreshold", after=mark, within_s=20)
    assert below.data["count"] == 0
    mend_all(net)
    await node.event("peers:thresholdReached", after=below, within_s=60)
