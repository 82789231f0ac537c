"""Sign-in, sessions and levels (api.md §2)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import coincurve
import pytest

from trionode.api.auth import parse_credentials
from trionode.wire.ethereum import address_of_key, personal_digest

pytestmark = pytest.mark.trio

WALLET = coincurve.PrivateKey(bytes(31) + b"\x07")
WALLET_ADDRESS = address_of_key(WALLET.public_key.format(compressed=False))


def ethereum_signature(text: str) -> str:
    raw = WALLET.sign_recoverable(personal_digest(text), hasher=None)
    return "0x" + (raw[:64] + bytes([raw[64] + 27])).hex()


async def login(node: Any, **body: str) -> Any:
    return await node.post("/id/verifylogin", body)


async def test_phrase_has_its_form(node: Any) -> None:
    phrase = await node.data("/id/loginphrase")
    assert phrase[:13] == str(node.now_ms)
    assert 55 <= len(phrase) <= 65
    assert set(phrase) <= set("0123456789abcdefghijklmnopqrstuvwxyz")
    assert await node.data("/zelid/loginphrase") != phrase


async def test_login_answers_every_member_and_consumes_the_phrase(node: Any) -> None:
    phrase = await node.data("/id/loginphrase")
    node.clock.now += 60_000
    signature = node.person.sign(phrase)
    answer = await login(node, zelid=node.person.address, loginPhrase=phrase, signature=signature)
    assert answer == {
        "status": "success",
        "data": {
            "message": "Successfully logged in",
            "zelid": node.person.address,
            "loginPhrase": phrase,
            "signature": signature,
            "privilage": "user",
            "createdAt": "2025-10-09T08:53:20.123Z",
            "expireAt": "2025-10-23T08:53:20.123Z",
        },
    }
    assert list(answer["data"]) == [
        "message",
        "zelid",
        "loginPhrase",
        "signature",
        "privilage",
        "createdAt",
        "expireAt",
    ]
    again = await login(node, zelid=node.person.address, loginPhrase=phrase, signature=signature)
    assert again["status"] == "error"


async def test_the_other_names_of_the_members_work(node: Any) -> None:
    phrase = await node.data("/id/emergencyphrase")
    answer = await login(
        node, address=node.person.address, message=phrase, signature=node.person.sign(phrase)
    )
    assert answer["status"] == "success"


async def test_privileges(node: Any) -> None:
    for key, privilege in ((node.operator, "admin"), (node.team, "fluxteam"), (node.person, "user")):
        phrase = await node.data("/id/loginphrase")
        body = {"zelid": key.address, "loginPhrase": phrase, "signature": key.sign(phrase)}
        assert (await login(node, **body))["data"]["privilage"] == privilege
        assert await node.post("/id/checkprivilege", body) == {
            "status": "success",
            "data": {"message": privilege},
        }


async def test_ethereum_login_in_any_letter_case(node: Any) -> None:
    phrase = await node.data("/id/loginphrase")
    shouting = "0x" + WALLET_ADDRESS[2:].upper()
    body = {"zelid": shouting, "loginPhrase": phrase, "signature": ethereum_signature(phrase)}
    assert (await login(node, **body))["data"]["zelid"] == shouting
    header = urlencode(body)
    assert len(await node.data("/id/loggedsessions", zelidauth=header)) == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"zelid": ""}, "No ZelID is specified"),
        ({"zelid": "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy"}, "ZelID is not valid"),
        ({"zelid": "1O0Il98t1WpEZ73CNmQviecrnyiWrnqRh"}, "ZelID is not valid"),
        ({"zelid": "0x123"}, "ZelID is not valid"),
        ({"loginPhrase": ""}, "No message is specified"),
        ({"loginPhrase": "1760000000123short"}, "Signed message is not valid"),
        ({"loginPhrase": "x" * 58}, "Signed message is not valid"),
        ({"signature": ""}, "No signature is specified"),
        ({"signature": "AAAA"}, "Invalid signature"),
    ],
)
async def test_bad_logins(node: Any, change: dict[str, str], text: str) -> None:
    phrase = await node.data("/id/loginphrase")
    body = {"zelid": node.person.address, "loginPhrase": phrase, "signature": node.person.sign(phrase)}
    assert await login(node, **{**body, **change}) == {"status": "error", "data": {"message": text}}
    assert (await login(node, **body))["status"] == "success", "a failed try must not use up the phrase"


async def test_old_future_and_foreign_phrases_are_refused(node: Any) -> None:
    phrase = await node.data("/id/loginphrase")
    signature = node.person.sign(phrase)
    body = {"zelid": node.person.address, "loginPhrase": phrase, "signature": signature}
    node.clock.now += 900_001
    assert "no longer valid" in (await login(node, **body))["data"]["message"]
    node.clock.now -= 900_002
    assert "no longer valid" in (await login(node, **body))["data"]["message"]
    foreign = f"{node.now_ms}" + "a" * 45
    node.clock.now = node.now_ms
    body = {"zelid": node.person.address, "loginPhrase": foreign, "signature": node.person.sign(foreign)}
    assert "no longer valid" in (await login(node, **body))["data"]["message"]


async def test_another_keys_signature_is_refused(node: Any) -> None:
    phrase = await node.data("/id/loginphrase")
    answer = await login(
        node, zelid=node.person.address, loginPhrase=phrase, signature=node.operator.sign(phrase)
    )
    assert answer == {"status": "error", "data": {"message": "Invalid signature"}}


async def test_sign_in_is_refused_in_a_penalty_state(node: Any) -> None:
    node.dos.set(10, None)
    assert (await node.get("/id/loginphrase"))["status"] == "success"
    node.dos.set(11, None)
    assert await node.get("/id/loginphrase") == {
        "status": "error",
        "data": {"code": 11, "name": "CONNERROR", "message": "Unknown error"},
    }
    node.dos.set(0, "Flux IP detection failed", name="DOS")
    assert (await node.get("/id/loginphrase"))["data"] == {
        "code": 0,
        "name": "DOS",
        "message": "Flux IP detection failed",
    }
    assert (await node.get("/id/emergencyphrase"))["status"] == "success"


async def test_levels_refuse_with_http_200(node: Any) -> None:
    assert await node.get("/id/loggedsessions") == node.refusal
    assert await node.get("/id/activeloginphrases") == node.refusal
    person = await node.sign_in(node.person)
    assert await node.get("/id/activeloginphrases", zelidauth=person) == node.refusal
    team = await node.sign_in(node.team)
    assert await node.get("/id/activeloginphrases", zelidauth=team) == node.refusal
    admin = await node.sign_in(node.operator)
    await node.data("/id/loginphrase")
    phrases = await node.data("/id/activeloginphrases", zelidauth=admin)
    assert len(phrases) == 1
    assert list(phrases[0]) == ["loginPhrase", "createdAt", "expireAt"]


async def test_an_admin_level_needs_a_session_of_this_node(node: Any) -> None:
    phrase = f"{node.now_ms}" + "b" * 45
    header = urlencode(
        {"zelid": node.operator.address, "loginPhrase": phrase, "signature": node.operator.sign(phrase)}
    )
    assert await node.get("/id/activeloginphrases", zelidauth=header) == node.refusal
    assert await node.data("/id/loggedsessions", zelidauth=header) == []


async def test_a_user_without_session_may_use_a_phrase_of_16_hours(node: Any) -> None:
    phrase = f"{node.now_ms}" + "c" * 45
    header = urlencode(
        {"zelid": node.person.address, "loginPhrase": phrase, "signature": node.person.sign(phrase)}
    )
    node.clock.now += 16 * 3_600_000
    assert await node.data("/id/loggedsessions", zelidauth=header) == []
    node.clock.now += 1
    assert await node.get("/id/loggedsessions", zelidauth=header) == node.refusal
    node.clock.now = node.now_ms - 1
    assert await node.get("/id/loggedsessions", zelidauth=header) == node.refusal


async def test_every_request_checks_the_signature_again(node: Any) -> None:
    header = await node.sign_in(node.person)
    good = parse_credentials(header)
    assert good is not None
    forged = urlencode(
        {
            "zelid": good.flux_id,
            "loginPhrase": good.login_phrase,
            "signature": node.team.sign(good.login_phrase),
        }
    )
    assert await node.get("/id/loggedsessions", zelidauth=forged) == node.refusal


async def test_header_forms(node: Any) -> None:
    header = await node.sign_in(node.person)
    found = parse_credentials(header)
    assert found is not None
    as_json = json.dumps(
        {"zelid": found.flux_id, "loginPhrase": found.login_phrase, "signature": found.signature}
    )
    assert parse_credentials(as_json) == found
    assert len(await node.data("/id/loggedsessions", zelidauth=as_json)) == 1
    for bad in ("", "zelid=1", "{", "[]", '{"zelid": 1, "loginPhrase": "x", "signature": "y"}', "a" * 5000):
        assert parse_credentials(bad) is None


async def test_sessions_are_listed_and_ended(node: Any) -> None:
    first = await node.sign_in(node.person)
    second = await node.sign_in(node.person)
    other = await node.sign_in(node.team)
    admin = await node.sign_in(node.operator)
    assert len(await node.data("/id/loggedsessions", zelidauth=first)) == 2
    assert len(await node.data("/id/loggedusers", zelidauth=admin)) == 4
    assert await node.get("/id/logoutcurrentsession", zelidauth=first) == {
        "status": "success",
        "data": {"message": "Successfully logged out"},
    }
    assert len(await node.data("/id/loggedsessions", zelidauth=second)) == 1
    phrase = parse_credentials(second)
    assert phrase is not None
    answer = await node.post(
        "/id/logoutspecificsession", {"loginPhrase": phrase.login_phrase}, zelidauth=second
    )
    assert answer["status"] == "success"
    assert await node.data("/id/loggedsessions", zelidauth=second) == []
    third = await node.sign_in(node.person)
    await node.data("/id/logoutallsessions", zelidauth=third)
    assert len(await node.data("/id/loggedusers", zelidauth=admin)) == 2
    assert await node.get("/id/logoutallusers", zelidauth=other) == node.refusal
    await node.data("/id/logoutallusers", zelidauth=admin)
    assert await node.get("/id/loggedusers", zelidauth=admin) == node.refusal


async def test_a_caller_cannot_end_anothers_session(node: Any) -> None:
    victim = parse_credentials(await node.sign_in(node.operator))
    assert victim is not None
    person = await node.sign_in(node.person)
    answer = await node.post(
        "/id/logoutspecificsession", {"loginPhrase": victim.login_phrase}, zelidauth=person
    )
    assert answer["status"] == "error"


async def test_sessions_end_after_14_days(node: Any) -> None:
    admin = await node.sign_in(node.operator)
    node.clock.now += 14 * 86_400_000 - 1
    assert len(await node.data("/id/loggedusers", zelidauth=admin)) == 1
    node.clock.now += 1
    assert await node.get("/id/loggedusers", zelidauth=admin) == node.refusal


async def test_checkprivilege_of_nobody(node: Any) -> None:
    assert await node.post("/id/checkprivilege", {}) == {"status": "error", "data": {"message": "none"}}


async def test_providesign_keeps_the_signature_unverified(node: Any) -> None:
    text = f"{node.now_ms}" + "d" * 45
    answer = await node.post(
        "/id/providesign", {"zelid": node.person.address, "message": text, "signature": "anything"}
    )
    assert answer["data"] == {
        "identifier": node.person.address + "d" * 13,
        "signature": "anything",
    }


async def test_without_operator_and_team_ids_nobody_has_their_rights(node: Any) -> None:
    node.configure("node", operator_id="")
    node.configure("api", team_id="", support_id="")
    header = await node.sign_in(node.operator)
    assert await node.get("/id/loggedusers", zelidauth=header) == node.refusal
    assert await node.get("/flux/startdiscovery", zelidauth=header) == node.refusal
