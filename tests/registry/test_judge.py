"""Judging messages offline: what a person is told about each step."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from trionode.registry.judge import Judgement, judge_document, judge_message
from trionode.registry.messages import app_message, message_document, signed_text
from trionode.registry.reasons import Reason
from trionode.wire.jsjson import parse, stringify
from trionode.wire.keys import NodeKey

OWNER, OTHER = (NodeKey.generate(random.Random(n), compressed=True) for n in range(2))
HEIGHT = 2_200_000
TIME_MS = 1_750_000_000_000
SPEC: dict[str, Any] = {
    "version": 8,
    "name": "judged",
    "description": "an app",
    "owner": OWNER.address,
    "compose": [
        {
            "name": "web",
            "description": "a component",
            "repotag": "nginx:1.25",
            "ports": [33333],
            "domains": [""],
            "environmentParameters": [],
            "commands": [],
            "containerPorts": [80],
            "containerData": "/data",
            "cpu": 0.5,
            "ram": 500,
            "hdd": 5,
            "repoauth": "",
        }
    ],
    "instances": 3,
    "contacts": [],
    "geolocation": [],
    "expire": 22000,
    "nodes": [],
    "staticip": False,
    "enterprise": "",
}


def signed(kind: str = "fluxappregister", key: NodeKey = OWNER, **changes: Any) -> dict[str, Any]:
    spec = {**copy.deepcopy(SPEC), **changes}
    signature = key.sign(signed_text(kind, 1, stringify(spec), TIME_MS))
    return message_document(app_message(kind, 1, spec, TIME_MS, signature))


def steps(judgement: Judgement) -> dict[str, str]:
    return {verdict.step: verdict.outcome for verdict in judgement.verdicts}


def test_a_good_registration_passes_every_step() -> None:
    judgement = judge_message(signed(), height=HEIGHT)
    assert steps(judgement) == dict.fromkeys(("shape", "format", "hash", "signature", "rules"), "passed")
    assert judgement.accepted
    assert judgement.name == "judged"
    assert "Bitcoin signature of the owner" in judgement.verdicts[3].said
    parse(stringify(judgement.as_document()))


def test_without_a_height_the_rules_stay_unknown() -> None:
    judgement = judge_message(signed())
    assert steps(judgement)["rules"] == "unknown"
    assert judgement.accepted


def test_every_step_tells_its_own_mistake() -> None:
    document = {**signed(key=OTHER, expire=2_000_000), "hash": "0" * 64}
    judgement = judge_message(document, height=HEIGHT)
    failed = {verdict.rejection.code for verdict in judgement.verdicts if verdict.rejection}
    assert failed == {Reason.HASH_MISMATCH, Reason.SIGNATURE_INVALID, Reason.EXPIRE_MAX}
    assert not judgement.accepted
    told = judgement.as_document()["verdicts"][2]
    assert told["rejection"]["code"] == "HASH_MISMATCH"
    assert "0" * 64 in told["said"]


@pytest.mark.parametrize(
    "document",
    [None, 5, "x", {}, {"type": "fluxappregister"}, {"appSpecifications": {"name": "n"}, "hash": 1}],
)
def test_what_is_no_message_ends_at_its_shape(document: Any) -> None:
    judgement = judge_message(document)
    assert steps(judgement) == {"shape": "failed"}
    assert judgement.verdicts[0].rejection


def test_without_a_form_only_the_hash_can_be_judged() -> None:
    judgement = judge_message(signed(staticip="maybe"), height=HEIGHT)
    assert steps(judgement) == {"shape": "passed", "format": "failed", "hash": "passed"}


def test_unknown_types_and_foreign_forms_are_told() -> None:
    spec = {**signed()["appSpecifications"], "foo": 1}
    document = message_document(app_message("novelty", 1, spec, TIME_MS, "x"))
    judgement = judge_message(document, height=HEIGHT)
    assert steps(judgement)["shape"] == "unknown"
    assert judgement.verdicts[1].said.endswith("not in its canonical form.")


def test_encrypted_specifications_keep_their_secret() -> None:
    judgement = judge_message(signed(enterprise="QUJD", compose=[]), height=HEIGHT)
    assert steps(judgement)["rules"] == "unknown"
    assert judgement.accepted


@pytest.mark.parametrize(("key", "said"), [(OWNER, "signed by"), (OTHER, "not signed by")])
def test_an_update_alone_is_unknown(key: NodeKey, said: str) -> None:
    judgement = judge_message(signed("fluxappupdate", key), height=HEIGHT)
    assert steps(judgement)["signature"] == "unknown"
    assert judgement.verdicts[3].said.startswith(said)


def test_an_update_is_held_against_what_it_replaces() -> None:
    good = judge_message(signed("fluxappupdate"), height=HEIGHT, previous=SPEC)
    assert steps(good)["update"] == steps(good)["signature"] == "passed"
    stolen = judge_message(signed("fluxappupdate", OTHER, owner=OTHER.address), height=HEIGHT, previous=SPEC)
    assert steps(stolen)["signature"] == "failed"


def row(document: dict[str, Any], height: int) -> dict[str, Any]:
    return {**document, "txid": "t", "height": height, "valueSat": 1}


def test_a_file_of_rows_is_its_own_history() -> None:
    handed_over = signed("fluxappupdate", owner=OTHER.address)
    after = signed("fluxappupdate", OTHER, owner=OTHER.address, description="later")
    rows = [row(after, HEIGHT + 2), row(signed(), HEIGHT), row(handed_over, HEIGHT + 1)]
    judged = judge_document({"status": "success", "data": rows})
    assert [judgement.height for judgement in judged] == [HEIGHT, HEIGHT + 1, HEIGHT + 2]
    assert all(judgement.accepted for judgement in judged)
    same_block = [row(signed(), HEIGHT), row(signed("fluxappupdate"), HEIGHT)]
    assert steps(judge_document(same_block)[1])["signature"] == "unknown"


def test_an_envelope_and_a_bare_message_are_read_alike() -> None:
    envelope = {"version": 1, "timestamp": 1, "pubKey": "k", "signature": "s", "data": signed()}
    assert judge_document(envelope, height=HEIGHT) == judge_document(signed(), height=HEIGHT)
    assert judge_document([], height=HEIGHT) == []


def test_what_failed_is_no_predecessor() -> None:
    judged = judge_document([{**signed(), "hash": "0"}, signed("fluxappupdate")], height=HEIGHT)
    assert steps(judged[1])["signature"] == "unknown"
