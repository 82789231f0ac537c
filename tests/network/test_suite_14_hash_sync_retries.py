"""Suite 14: hash sync runs that fail are tried again, then waived; a missing message is looked for again."""

from __future__ import annotations

from pathlib import Path

import pytest
from network import Connected, Env, Network, Node
from network.env import TEAM

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

UNKNOWN = "ab" * 32
PHASE = "orchestrator:stateChanged"


async def fail_next(node: Node, count: int) -> None:
    """The next runs of the hash sync begin with a read that fails."""
    session = await node.sign_in(TEAM)
    answer = await node.ask("POST", "/trionode/failhashlookups", {"count": count}, session=session)
    assert answer["status"] == "success", answer


async def at_rest(net: Connected, node: Node) -> None:
    """No more blocks; the node has read the last one, and no run of the hash sync is under way."""
    await net.chain.stop_ticker()
    height = await net.chain.height()
    await node.until("/explorer/scannedheight", lambda s: s["generalScannedHeight"] >= height, 30)
    await node.until("/trionode/registry", lambda found: not found["sync"]["running"], 30)


async def linked(node: Node, peers: int) -> None:
    await node.until(
        "/trionode/status", lambda s: s["peers"]["outbound"] + s["peers"]["inbound"] >= peers, 60
    )


async def lose_peers_and_find_them_again(net: Connected, node: Node) -> tuple[int, int]:
    """Degrade and recover; the ids of the two changes."""
    mark = await node.mark()
    for other in net.others(node):
        other.cut()
    degraded = await node.enters("DEGRADED", after=mark, within_s=30)
    for other in net.others(node):
        other.mend()
    return degraded.id, (await node.enters("RESYNCING", after=degraded, within_s=60)).id


def test_14_one_failed_run_is_followed_by_one_that_succeeds(tmp_path: Path) -> None:
    async def scenario(net: Connected) -> None:
        node = net[1]
        # Unconfirmed, the node may not speak, so the first run waits until the failure is arranged.
        await fail_next(node, 1)
        await net.chain.confirm(node.ip)
        failed = await node.event("hashSync:failed", after=0, within_s=20)
        assert failed.data["attempt"] == 1
        assert failed.data["willRetry"] is True
        assert failed.data["error"]
        complete = await node.event("hashSync:complete", after=0, within_s=20)
        assert complete.data["attempt"] == 2
        assert complete.id > failed.id
        await net.chain.start_ticker()
        await node.enters("READY", after=0, within_s=90)

    with Network(tmp_path, Env(nodes=3, statuses={1: "EXPIRED"}, ticker_s=1.0)) as network:
        network.run(scenario)


def test_14_after_the_last_try_the_blocks_decide_and_recovery_counts_anew(tmp_path: Path) -> None:
    async def scenario(net: Connected) -> None:
        node = net[1]
        await fail_next(node, 2)
        await net.chain.confirm(node.ip)
        failed = await node.event("hashSync:failed", after=0, within_s=50, attempt=2)
        assert failed.data["willRetry"] is False
        await linked(node, 2)
        await node.no_event(PHASE, after=failed, for_s=2, to="READY")
        mark = await node.mark()
        await net.chain.mine(260)
        await node.enters("READY", after=mark, within_s=120)

        _, resyncing = await lose_peers_and_find_them_again(net, node)
        complete = await node.event("hashSync:complete", after=resyncing, within_s=60)
        assert complete.data["attempt"] == 1
        await net.chain.start_ticker()
        await node.in_phase("READY", 90)
        # A run for the blocks would meet the failure first.
        await at_rest(net, node)
        await fail_next(node, 1)
        _, resyncing = await lose_peers_and_find_them_again(net, node)
        failed = await node.event("hashSync:failed", after=resyncing, within_s=60)
        assert (failed.data["attempt"], failed.data["willRetry"]) == (1, True)
        complete = await node.event("hashSync:complete", after=resyncing, within_s=60)
        assert complete.data["attempt"] == 2

    with Network(tmp_path, Env(nodes=3, statuses={1: "EXPIRED"}, ticker_s=1.0)) as network:
        network.run(scenario)


def test_14_a_message_nobody_has_is_looked_for_again_but_not_without_peers(tmp_path: Path) -> None:
    async def scenario(net: Connected) -> None:
        node = net[1]
        await net.chain.start_ticker()
        await node.enters("READY", after=0, within_s=90)
        await at_rest(net, node)
        mark = await node.mark()
        await net.chain.queue_app(UNKNOWN)
        await net.chain.mine()
        await node.until(
            "/trionode/missinghashes", lambda s: [row["hash"] for row in s["rows"]] == [UNKNOWN], 30
        )
        await net.chain.mine(12)
        run = await node.event("hashSync:run", after=mark, within_s=30)
        assert (run.data["startedWith"], run.data["missing"]) == (1, 1)
        await at_rest(net, node)

        mark = await node.mark()
        for other in net.others(node):
            other.cut()
        degraded = await node.enters("DEGRADED", after=mark, within_s=30)
        await net.chain.mine(60)
        await node.no_event("hashSync:run", after=degraded, for_s=4)

    with Network(tmp_path, Env(nodes=3, ticker_s=1.0)) as network:
        network.run(scenario)
