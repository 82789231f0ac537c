"""Own suite: nodes ask one another whether they are reached; one whose ports are shut is told so.

Node 7 serves neither home page nor the port after next, which is what its neighbours look for.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from network import Connected, Env, Network

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

SHUT = 7


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    env = Env(
        nodes=7,
        ticker_s=1.0,
        overrides={"monitors.availability_interval_s": 1.0},
        node_overrides={SHUT: {"api.side_ports": False}},
    )
    with Network(tmp_path_factory.mktemp("net"), env) as network:
        yield network


@pytest.mark.trio
async def test_a_node_whose_ports_are_shut_is_told_so(net: Connected) -> None:
    await net[SHUT].event("dos:changed", after=0, within_s=60, where=lambda data: data["dosState"] >= 12)
    snapshot = await net[SHUT].data("/flux/dosstate")
    assert snapshot["dosState"] >= 12
    assert snapshot["dosMessage"] == "Other nodes cannot reach this one"
    # perhaps it is elsewhere: its benchmark was asked for the public address
    assert await net.chain.journal("getpublicip", net[SHUT].ip)
    refused = await net[SHUT].ask("GET", "/id/loginphrase")
    assert refused["data"]["name"] == "CONNERROR"


@pytest.mark.trio
async def test_the_others_are_in_order(net: Connected) -> None:
    for number in range(1, SHUT):
        await net[number].until("/flux/dosstate", lambda found: found["dosState"] == 0, within_s=30)
