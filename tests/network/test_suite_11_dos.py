"""Suite 11: the penalty counter: who sets it, who sees it, and when it shuts people out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from network import Connected, Env, Network, Node
from network.env import OWNER, TEAM, USER

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("net"), Env(nodes=1)) as network:
        yield network


async def set_penalty(node: Node, state: float, message: str | None = None) -> None:
    """As the team does it; its event is waited for."""
    mark = await node.mark()
    body = {"dosState": state, "dosMessage": message}
    answer = await node.ask("POST", "/flux/dosstate", body, session=await node.sign_in(TEAM))
    assert answer["status"] == "success", answer
    await node.event("dos:changed", after=mark, within_s=10, **body)


@pytest.mark.trio
@pytest.mark.parametrize(("state", "message"), [(0, None), (10, None), (99, "a text"), (12.5, None)])
async def test_11_what_was_set_is_seen(net: Connected, state: float, message: str | None) -> None:
    await set_penalty(net[1], state, message)
    assert await net[1].data("/flux/dosstate") == {"dosState": state, "dosMessage": message}
    await set_penalty(net[1], 0)


@pytest.mark.trio
async def test_11_signing_in_is_refused_above_ten_or_with_a_message(net: Connected) -> None:
    node = net[1]
    await set_penalty(node, 10)
    assert (await node.ask("GET", "/id/loginphrase"))["status"] == "success"
    await set_penalty(node, 11)
    refused = await node.ask("GET", "/id/loginphrase")
    assert (refused["status"], refused["data"]["name"]) == ("error", "CONNERROR")
    await set_penalty(node, 100)
    refused = await node.ask("GET", "/id/loginphrase")
    assert (refused["status"], refused["data"]["code"]) == ("error", 100)
    await set_penalty(node, 0, "told off")
    refused = await node.ask("GET", "/id/loginphrase")
    assert (refused["status"], refused["data"]["message"]) == ("error", "told off")
    await set_penalty(node, 0)
    assert (await node.ask("GET", "/id/loginphrase"))["status"] == "success"


@pytest.mark.trio
async def test_11_nobody_but_the_team_sets_it(net: Connected) -> None:
    node = net[1]
    for person in (node.admin, OWNER, USER):
        session = await node.sign_in(person)
        refused = await node.ask("POST", "/flux/dosstate", {"dosState": 50}, session=session)
        assert (refused["status"], refused["data"]["code"]) == ("error", 401)
    assert (await node.data("/flux/dosstate"))["dosState"] == 0
