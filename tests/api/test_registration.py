"""Registering and updating apps over HTTP (docs/spec/api.md §8.1, registry.md §10)."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hostedapps import HostedApps

from trionode.devnet.registering import specification
from trionode.registry.formats import format_spec
from trionode.registry.messages import read_app_message, signed_text
from trionode.registry.rows import CurrentSpec, TemporaryRow
from trionode.sim.sealing import seal_spec
from trionode.wire.jsjson import stringify

pytestmark = pytest.mark.trio


@pytest.fixture
async def network(node: Any) -> Any:
    """A node with enough peers, which send back what they are sent once they are asked for it."""
    for number in range(1, 9):
        node.peers.table.put(f"127.{number}.0.1", "16127", "outbound")
        node.peers.table.put(f"127.{number}.0.2", "16127", "inbound")
    node.auth = {"zelidauth": await node.sign_in(node.person)}
    node.answering = True
    kept: dict[str, Any] = {}

    def broadcast(data: dict[str, Any]) -> None:
        node.peers.sent.append(data)
        if data["type"] != "fluxapprequest":
            kept[data["hash"]] = read_app_message(data)
        elif node.answering:
            message = kept[data["hash"]]
            node.registry._temporaries[message.hash] = TemporaryRow(
                *(message.hash, message.type, 1, message.spec_text, message.name, "owner"),
                *(message.timestamp_ms, message.signature, node.now_ms, node.now_ms + 1),
            )

    node.peers.broadcast_own = broadcast
    return node


def signed(node: Any, spec: dict[str, Any], kind: str = "fluxappregister", age_ms: int = 0) -> dict[str, Any]:
    timestamp_ms = node.now_ms - age_ms
    return {
        "type": kind,
        "version": 1,
        "appSpecification": spec,
        "timestamp": timestamp_ms,
        "signature": node.person.sign(signed_text(kind, 1, stringify(spec), timestamp_ms)),
    }


async def test_a_registration_is_sent_asked_back_and_answered_with_its_hash(
    autojump_clock: Any, network: Any
) -> None:
    spec = specification("shop", network.person.address)
    answer = await network.post("/apps/appregister", signed(network, spec), **network.auth)
    assert answer["status"] == "success"
    message, request = network.peers.sent
    assert message["appSpecifications"] == spec
    assert request == {"type": "fluxapprequest", "version": 1, "hash": answer["data"]}
    assert message["hash"] == answer["data"]
    assert len(answer["data"]) == 64


async def test_the_specification_is_put_into_its_canonical_form_first(
    autojump_clock: Any, network: Any
) -> None:
    spec = specification("shop", network.person.address)
    shuffled = {**dict(reversed(spec.items())), "unknown": 1}
    body = {**signed(network, spec), "appSpecification": shuffled}
    assert (await network.post("/apps/appregister", body, **network.auth))["status"] == "success"


async def test_nobody_sends_it_back(autojump_clock: Any, network: Any) -> None:
    network.answering = False
    body = signed(network, specification("shop", network.person.address))
    answer = await network.post("/apps/appregister", body, **network.auth)
    assert answer["status"] == "error"
    assert "no peer sent the message back" in answer["data"]["message"]


async def test_users_only(autojump_clock: Any, network: Any) -> None:
    body = signed(network, specification("shop", network.person.address))
    for path in ("/apps/appregister", "/apps/appupdate"):
        assert await network.post(path, body) == network.refusal


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"signature": ""}, "signature is missing"),
        ({"type": "fluxappupdate"}, "Invalid type"),
        ({"version": 2}, "Invalid version"),
        ({"timestamp": "soon"}, "Invalid timestamp"),
        ({"appSpecification": "x"}, "no object"),
        ({"signature": "AAAA"}, "not signed by its owner"),
        ({"signature": 5}, "Invalid signature"),
    ],
)
async def test_refusals_are_sentences(
    autojump_clock: Any, network: Any, change: dict[str, Any], said: str
) -> None:
    body = {**signed(network, specification("shop", network.person.address)), **change}
    answer = await network.post("/apps/appregister", body, **network.auth)
    assert answer["status"] == "error"
    assert said in answer["data"]["message"]
    assert network.peers.sent == []


@pytest.mark.parametrize(("age_ms", "accepted"), [(3_600_000, True), (3_600_001, False), (-300_001, False)])
async def test_old_and_future_messages(
    autojump_clock: Any, network: Any, age_ms: int, accepted: bool
) -> None:
    body = signed(network, specification("shop", network.person.address), age_ms=age_ms)
    answer = await network.post("/apps/appregister", body, **network.auth)
    assert (answer["status"] == "success") is accepted


async def test_somebody_elses_signature(autojump_clock: Any, network: Any) -> None:
    body = signed(network, specification("shop", network.operator.address))
    answer = await network.post("/apps/appregister", body, **network.auth)
    assert answer["data"]["name"] == "SIGNATURE_INVALID"


@pytest.mark.parametrize("what", ["peers", "daemon", "confirmation"])
async def test_a_node_that_is_not_ready(autojump_clock: Any, network: Any, what: str) -> None:
    if what == "peers":
        network.peers.table._rows.clear()
    elif what == "daemon":
        network.chain.synced = False
    else:
        network.chain.can_send = False
    body = signed(network, specification("shop", network.person.address))
    assert (await network.post("/apps/appregister", body, **network.auth))["status"] == "error"
    assert network.peers.sent == []


async def register(network: Any, spec: dict[str, Any]) -> None:
    await network.registry.put_current(CurrentSpec("shop", stringify(spec), "ab" * 32, 2_090_000))


async def test_updates(autojump_clock: Any, network: Any) -> None:
    mine = specification("shop", network.person.address)
    await register(network, mine)
    taken = await network.post("/apps/appregister", signed(network, mine), **network.auth)
    assert taken["data"]["name"] == "NAME_TAKEN"
    larger = specification("shop", network.person.address, instances=5)
    answer = await network.post("/apps/appupdate", signed(network, larger, "fluxappupdate"), **network.auth)
    assert answer["status"] == "success", answer
    await register(network, specification("shop", network.operator.address))
    stolen = await network.post("/apps/appupdate", signed(network, larger, "fluxappupdate"), **network.auth)
    assert stolen["data"]["name"] == "SIGNATURE_NOT_OWNER"


async def test_an_update_of_nothing(autojump_clock: Any, network: Any) -> None:
    body = signed(network, specification("shop", network.person.address), "fluxappupdate")
    answer = await network.post("/apps/appupdate", body, **network.auth)
    assert "no app 'shop' to update" in answer["data"]["message"]


async def test_the_version_changes_only_to_the_latest(autojump_clock: Any, network: Any) -> None:
    mine = specification("shop", network.person.address)
    await register(network, mine)
    part = {**mine["compose"][0], "tiered": False}
    older = format_spec({**mine, "version": 6, "compose": [part]})
    body = signed(network, older, "fluxappupdate")
    answer = await network.post("/apps/appupdate", body, **network.auth)
    assert "not to 6" in answer["data"]["message"]


# ---- encrypted specifications, and images ---------------------------------------------------------------


@pytest.fixture
def secure(network: Any) -> Any:
    """The same node with an engine, which opens what it was told."""
    network.apps = HostedApps(network.clock, network.bus)
    network.context = replace(network.context, containers=network.apps)
    network.build()
    return network


def sealed(node: Any, clear: dict[str, Any]) -> dict[str, Any]:
    node.apps.specs.inside[clear["name"]] = clear["compose"]
    return seal_spec(clear, random.Random(3))


async def test_a_node_that_opens_nothing_takes_no_encrypted_app(autojump_clock: Any, network: Any) -> None:
    spec = seal_spec(specification("shop", network.person.address), random.Random(3))
    for path, body in (
        ("/apps/appregister", signed(network, spec)),
        ("/apps/verifyappregistrationspecifications", spec),
    ):
        answer = await network.post(path, body, **network.auth)
        assert "send this one to an Arcane node" in answer["data"]["message"]
    assert network.peers.sent == []


async def test_a_secure_node_judges_what_is_inside_and_sends_it_closed(
    autojump_clock: Any, secure: Any
) -> None:
    spec = sealed(secure, specification("shop", secure.person.address))
    verified = await secure.post("/apps/verifyappregistrationspecifications", spec)
    assert verified["data"] == spec
    assert (await secure.post("/apps/appregister", signed(secure, spec), **secure.auth))[
        "status"
    ] == "success"
    assert secure.peers.sent[0]["appSpecifications"] == spec
    assert (spec["compose"], spec["contacts"]) == ([], [])


async def test_rules_hold_inside_of_encrypted_apps_too(autojump_clock: Any, secure: Any) -> None:
    clear = specification("shop", secure.person.address)
    spec = sealed(secure, {**clear, "compose": [{**clear["compose"][0], "name": "zelweb"}]})
    answer = await secure.post("/apps/appregister", signed(secure, spec), **secure.auth)
    assert answer["status"] == "error"
    assert answer["data"]["name"] == "COMPONENT_PREFIX_ZEL"
    secure.apps.specs.inside.clear()
    answer = await secure.post("/apps/appregister", signed(secure, spec), **secure.auth)
    assert "POST /apps/getpublickey" in answer["data"]["message"]
    assert secure.peers.sent == []


async def test_updates_of_encrypted_apps_are_compared_in_clear(autojump_clock: Any, secure: Any) -> None:
    clear = specification("shop", secure.person.address)
    await register(secure, sealed(secure, clear))
    larger = sealed(secure, {**clear, "instances": 5})
    answer = await secure.post("/apps/appupdate", signed(secure, larger, "fluxappupdate"), **secure.auth)
    assert answer["status"] == "success", answer


async def test_images_are_looked_up_before_an_app_is_sent(autojump_clock: Any, secure: Any) -> None:
    spec = specification("shop", secure.person.address)
    secure.apps.new_images.refused[spec["compose"][0]["repotag"]] = "there is no such image."
    for path, body in (
        ("/apps/appregister", signed(secure, spec)),
        ("/apps/verifyappregistrationspecifications", spec),
    ):
        answer = await secure.post(path, body, **secure.auth)
        assert answer["data"]["message"] == "there is no such image."
    assert secure.peers.sent == []


async def test_the_key_to_encrypt_with(autojump_clock: Any, network: Any) -> None:
    body = {"owner": network.person.address, "name": "shop"}
    refused = await network.post("/apps/getpublickey", body, **network.auth)
    assert "ask an Arcane node" in refused["data"]["message"]
    network.bench.answers["getpublickey"] = '{"status":"ok","publicKey":"MIIB"}'
    assert (await network.post("/apps/getpublickey", body, **network.auth))["data"] == "MIIB"
    method, (question,), fresh = network.bench.calls[-1]
    asked = {"fluxID": body["owner"], "appName": "shop", "blockHeight": network.chain.height}
    assert (method, msgspec.json.decode(question), fresh) == ("getpublickey", asked, True)
    assert await network.post("/apps/getpublickey", body) == network.refusal
    for incomplete in ({"name": "shop"}, {**body, "owner": 5}):
        answer = await network.post("/apps/getpublickey", incomplete, **network.auth)
        assert "are needed" in answer["data"]["message"]
