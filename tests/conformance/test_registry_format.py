"""The runners of formats, hashes and signatures notice wrong expectations and unknown fields."""

from __future__ import annotations

import copy
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent / "vectors" / "registry.json"

EXPECTATIONS = {
    "json_text": "sha256_utf8",
    "spec_format": "result",
    "message_hash": "verifyAppHash",
    "verify_signature": "verifySignature",
    "register_signature": "result",
    "update_signature": "result",
    "expire_only": "out",
}
OTHERS = ("constants", "keys", "coercion")


@pytest.fixture(scope="module")
def runner() -> Any:
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    module = importlib.import_module("runner")
    module.load_sections()
    return module


@pytest.fixture
def sections() -> dict[str, Any]:
    document = json.loads(VECTORS.read_text(encoding="utf-8"))
    return {name: document[name] for name in (*EXPECTATIONS, *OTHERS)}


def run(runner: Any, tmp_path: Path, document: Any) -> dict[str, list[Any]]:
    path = tmp_path / "hidden.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    results: dict[str, list[Any]] = runner.run_file(path)
    return results


def changed(value: Any) -> Any:
    if isinstance(value, dict):
        return {"ok": not value["ok"], "code": "NAME_TAKEN"}
    return not value if isinstance(value, bool) else "0" + str(value)[1:]


def test_the_sections_pass_whole(runner: Any, tmp_path: Path, sections: dict[str, Any]) -> None:
    results = run(runner, tmp_path, sections)
    assert results.keys() == sections.keys()
    assert [o.id for found in results.values() for o in found if o.status != "passed"] == []
    for name, cases in sections.items():
        if isinstance(cases, list):
            assert len(results[name]) == len(cases)


@pytest.mark.parametrize(("section", "field"), EXPECTATIONS.items())
def test_wrong_expectations_fail_one_by_one(
    runner: Any, tmp_path: Path, sections: dict[str, Any], section: str, field: str
) -> None:
    cases = copy.deepcopy(sections[section])
    for case in cases:
        case[field] = changed(case[field])
    outcomes = run(runner, tmp_path, {section: cases})[section]
    assert [outcome.status for outcome in outcomes] == ["failed"] * len(cases)


@pytest.mark.parametrize("section", EXPECTATIONS)
def test_unknown_fields_fail(runner: Any, tmp_path: Path, sections: dict[str, Any], section: str) -> None:
    cases = copy.deepcopy(sections[section])
    cases[0]["novelty"] = 1
    (outcome, *_) = run(runner, tmp_path, {section: cases})[section]
    assert outcome.status == "failed"
    assert "unknown case shape" in outcome.detail


def test_constants_keys_and_conversions_are_compared(
    runner: Any, tmp_path: Path, sections: dict[str, Any]
) -> None:
    document = copy.deepcopy({name: sections[name] for name in OTHERS})
    document["constants"]["fluxapps"] |= {"blocksLasting": 1, "novelty": 2}
    document["constants"]["known_invalid_messages"].pop()
    document["keys"]["owner"]["eth_address"] = "0x00"
    document["coercion"]["ensureNumber"][0]["out"] = 7
    document["coercion"]["isDecimalLimit"][0]["out"] = False
    document["coercion"]["novelty"] = []
    results = run(runner, tmp_path, document)
    failed = [o.id for found in results.values() for o in found if o.status == "failed"]
    assert failed == [
        "constants blocksLasting",
        "constants novelty",
        "constants known_invalid_messages",
        "keys owner",
        "coercion ensureNumber[0] 1",
        "coercion isDecimalLimit[0]",
        "coercion novelty",
    ]
