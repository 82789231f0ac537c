"""A suite of our own: a machine goes down, says goodbye, and comes up again within and after the grace."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import datetime

import pytest
from network import Connected, Env, Network, Node

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

APP = "webshop"
GRACE_MS = 420_000
RUNNING_MS = 7_500_000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    # An announcement that is on its way while a machine says goodbye may arrive after it, and wins.
    rarely = {"appstate.announce_interval_s": 60.0}
    env = Env(nodes=4, apps={1: (APP,)}, overrides=rarely, ticker_s=1.0)
    with Network(tmp_path_factory.mktemp("net"), env) as network:
        yield network


async def expiries(node: Node) -> list[float]:
    """When the rows of the app end at a node, in ms since their broadcast."""
    rows = await node.data(f"/apps/location/{APP}")
    return [(moment(row["expireAt"]) - moment(row["broadcastedAt"])) * 1000 for row in rows]


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def hosted_everywhere(net: Connected) -> None:
    for node in net.nodes:
        await node.until(f"/apps/location/{APP}", lambda rows: len(rows) == 1, 60)


@pytest.mark.trio
async def test_a_machine_that_goes_down_says_goodbye_and_returns(net: Connected) -> None:
    host = net[1]
    await net.chain.start_ticker()
    await hosted_everywhere(net)
    others = net.others(host)
    marks = {node.number: await node.mark() for node in others}
    before = {node.number: await expiries(node) for node in others}
    assert all(found == [RUNNING_MS] for found in before.values()), before

    assert await host.shut_down() == 0
    for node in others:
        await node.event("network:sigterm", after=marks[node.number], within_s=20, ip=host.ip)
        rows = await node.data(f"/apps/location/{APP}")
        assert len(rows) == 1, "it is listed until the grace is over"
        left_ms = (moment(rows[0]["expireAt"]) - moment(rows[0]["broadcastedAt"])) * 1000
        assert left_ms < GRACE_MS + 60_000, rows

    await host.boot("another-boot")
    context = (await host.event("orchestrator:started", after=0, within_s=20)).data["bootContext"]
    assert (context["cleanShutdown"], context["machineRebooted"]) == (True, True)
    await host.event("boot:settled", after=0, within_s=50)
    await host.event("app:running", after=0, within_s=60)
    for node in others:
        await node.until(
            f"/apps/location/{APP}",
            lambda rows: (
                [moment(r["expireAt"]) - moment(r["broadcastedAt"]) for r in rows] == [RUNNING_MS / 1000]
            ),
            30,
        )


@pytest.mark.trio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_a_process_that_only_restarts_says_nothing(net: Connected, number: signal.Signals) -> None:
    host = net[1]
    await net.chain.start_ticker()
    await hosted_everywhere(net)
    witness = net[2]
    mark = await witness.mark()
    await host.restart(number)
    context = (await host.event("orchestrator:started", after=0, within_s=20)).data["bootContext"]
    assert context["machineRebooted"] is False
    await host.event("boot:settled", after=0, within_s=50)
    await host.event("app:running", after=0, within_s=60)
    assert not await witness.seen("network:sigterm", "network:appremoved", after=mark)
    assert len(await witness.data(f"/apps/location/{APP}")) == 1
