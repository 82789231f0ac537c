"""Suite 01: who may sign in, and what the levels of access allow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from network import Connected, Env, Network
from network.env import OWNER, TEAM, USER, admin_of

from trionode.wire.keys import NodeKey

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

PEOPLE = {"admin": admin_of(1), "app owner": OWNER, "team": TEAM, "user": USER}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("net"), Env(nodes=1)) as network:
        yield network


@pytest.mark.trio
@pytest.mark.parametrize("role", PEOPLE)
async def test_01_everybody_with_a_key_may_sign_in(net: Connected, role: str) -> None:
    person = PEOPLE[role]
    phrase = await net[1].data("/id/loginphrase")
    session = {"zelid": person.address, "loginPhrase": phrase, "signature": person.sign(phrase)}
    answer = await net[1].ask("POST", "/id/verifylogin", session)
    assert answer["status"] == "success"
    assert answer["data"]["zelid"] == person.address


@pytest.mark.trio
@pytest.mark.parametrize(
    ("signer", "phrase"),
    [(USER, None), (OWNER, "17000000000001234567890123456789012345678901234567"), (OWNER, "hello" * 10)],
    ids=["another key", "an old phrase", "an unknown text"],
)
async def test_01_a_wrong_signature_or_phrase_is_refused(
    net: Connected, signer: NodeKey, phrase: str | None
) -> None:
    phrase = phrase or await net[1].data("/id/loginphrase")
    session = {"zelid": OWNER.address, "loginPhrase": phrase, "signature": signer.sign(phrase)}
    answer = await net[1].ask("POST", "/id/verifylogin", session)
    assert answer["status"] == "error"
    assert answer["data"]["message"]


@pytest.mark.trio
async def test_01_only_the_team_sets_the_penalty(net: Connected) -> None:
    node = net[1]
    body = {"dosState": 7, "dosMessage": None}
    for role in ("admin", "app owner", "user"):
        session = await node.sign_in(PEOPLE[role])
        refused = await node.ask("POST", "/flux/dosstate", body, session=session)
        assert (refused["status"], refused["data"]["code"]) == ("error", 401)
    assert (await node.data("/flux/dosstate"))["dosState"] == 0
    team = await node.sign_in(TEAM)
    assert (await node.ask("POST", "/flux/dosstate", body, session=team))["status"] == "success"
    assert await node.data("/flux/dosstate?fresh=1") == body
    await node.ask("POST", "/flux/dosstate", {"dosState": 0, "dosMessage": None}, session=team)


@pytest.mark.trio
async def test_01_the_open_phrases_are_for_the_admin(net: Connected) -> None:
    path = "/id/activeloginphrases"
    admin = await net[1].ask("GET", path, session=await net[1].sign_in(net[1].admin))
    assert admin["status"] == "success"
    assert isinstance(admin["data"], list)
    user = await net[1].ask("GET", path, session=await net[1].sign_in(USER))
    assert user["status"] == "error"
