"""The vector files whole, through the same runner as scripts/conformance.py, and the runner itself."""

from __future__ import annotations

import copy
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VECTORS = ROOT / "tests" / "vectors"


@pytest.fixture(scope="module")
def runner() -> Any:
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    module = importlib.import_module("runner")
    module.load_sections()
    return module


@pytest.fixture(scope="module")
def wire() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / "wire.json").read_text(encoding="utf-8"))
    return loaded


def failures(results: dict[str, list[Any]]) -> list[str]:
    return [f"{o.id}: {o.detail}" for found in results.values() for o in found if o.status == "failed"]


def run(runner: Any, tmp_path: Path, document: Any, name: str = "hidden.json") -> dict[str, list[Any]]:
    path = tmp_path / name
    path.write_text(json.dumps(document), encoding="utf-8")
    results: dict[str, list[Any]] = runner.run_file(path)
    return results


@pytest.mark.parametrize("name", ["wire.json", "events.json", "registry.json"])
def test_file_conforms_whole(runner: Any, name: str) -> None:
    results = runner.run_file(VECTORS / name)
    assert failures(results) == []
    assert all(o.status != "skipped" for found in results.values() for o in found)


LIFECYCLE_PARTS = (
    "b_boot",
    "c_networkWith",
    "d_docker",
    "f_containerHealth",
    "g_spawner",
    "h_shutdown",
    "j_masterSlave",
)
"""Sections of lifecycle.json that pass whole."""


@pytest.mark.parametrize("section", LIFECYCLE_PARTS)
def test_lifecycle_section_conforms(runner: Any, section: str) -> None:
    results = runner.run_file(VECTORS / "lifecycle.json", only=frozenset([section]))
    assert results
    assert failures(results) == []


@pytest.mark.parametrize("field", ["state", "dbReady", "published", "calls", "framesSent", "internalEvents"])
def test_a_wrong_expectation_of_an_orchestrator_trace_fails(runner: Any, tmp_path: Path, field: str) -> None:
    document = json.loads((VECTORS / "lifecycle.json").read_text(encoding="utf-8"))
    traces = document["a_orchestrator"]["traces"]
    for trace in traces:
        last = next((line for line in reversed(trace["trace"]) if field in line), None)
        if last is not None:
            last[field] = _changed(last[field])
        else:
            trace["trace"][-1][field] = 1
    results = run(runner, tmp_path, {"a_orchestrator": document["a_orchestrator"], "e_confirmation": []})
    wrong = [o for o in results["a_orchestrator"] if o.status == "failed"]
    # traces that end at a known defect are not followed to their last line
    assert len(wrong) >= len(traces) - 3


PLAN_EXPECTATIONS = (
    ("c_networkWith", "parse", "expected"),
    ("c_networkWith", "wiring", "connects"),
    ("c_networkWith", "gate", "expected"),
    ("d_docker", "create", "createOptions"),
    ("d_docker", "mounts", "hasFlagFn"),
    ("d_docker", "cronCmds", "upgraded"),
    ("f_containerHealth", None, "passes"),
    ("g_spawner", "cases", "returnDelayMs"),
    ("g_spawner", "cases", "calls"),
    ("g_spawner", "cases", "shortCache"),
    ("j_masterSlave", "cycles", "cycles"),
)


@pytest.mark.parametrize(("section", "part", "field"), PLAN_EXPECTATIONS)
def test_a_wrong_expectation_of_a_plan_fails(
    runner: Any, tmp_path: Path, section: str, part: str | None, field: str
) -> None:
    whole = json.loads((VECTORS / "lifecycle.json").read_text(encoding="utf-8"))[section]
    cases = whole if part is None else whole[part]
    for case in cases:
        steps = case[field] if field in ("passes", "cycles") else None
        if steps is None:
            case[field] = _changed(case[field])
        else:
            steps[-1]["calls"] = _changed(steps[-1]["calls"])
    document = {section: whole if part is None else {part: cases}, "e_confirmation": []}
    results = run(runner, tmp_path, document, "lifecycle.json")
    failed = {o.id for found in results.values() for o in found if o.status == "failed"}
    # known defects are held against the advised answer, which is not the file's
    assert len(failed) >= len(cases) - 4


def test_every_wire_section_is_run_case_by_case(runner: Any, wire: dict[str, Any]) -> None:
    results = runner.run_file(VECTORS / "wire.json")
    assert results.keys() == wire.keys() - {"meta"}
    for section, cases in wire.items():
        if isinstance(cases, list) and section != "verify_pool_differences_from_verify_message":
            assert len(results[section]) == len(cases), section


def test_file_is_known_by_its_sections_not_by_its_name(
    runner: Any, wire: dict[str, Any], tmp_path: Path
) -> None:
    part = {name: wire[name] for name in ("keys", "envelopes", "sync_requests")}
    results = run(runner, tmp_path, part, "other.json")
    assert failures(results) == []
    assert sum(len(found) for found in results.values()) == 3 + len(wire["envelopes"]) + len(
        wire["sync_requests"]
    )


def _changed(value: Any) -> Any:
    """The same kind of value, but another one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        head = "1" if value[:1] != "1" else "2"
        return head + value[1:]
    if isinstance(value, list):
        return [*value, "extra"]
    if isinstance(value, dict):
        return {**value, "extra": 1}
    return "something"


EXPECTATIONS = {
    "magic_hash": "hash",
    "sign_rfc6979_no_extra_entropy": "signature",
    "verify_message": "js_valid",
    "object_hash": "sha1",
    "json_reserialise": "js",
    "envelopes": "data_object_hash",
    "frames_basic": "js_decoded",
    "sync_requests": "hex",
    "sync_request_decode_edge": "js_decoded",
    "binary_dispatch": "js_topology_after",
    "text_frames": "js_dispatched",
    "sync_responses": "type",
    "inbound_cap": "highest_inbound_count_reachable",
    "discovery": "js_dialled",
}


@pytest.mark.parametrize(("section", "field"), EXPECTATIONS.items())
def test_a_wrong_expectation_fails(
    runner: Any, wire: dict[str, Any], tmp_path: Path, section: str, field: str
) -> None:
    document = copy.deepcopy(wire)
    changed = [case for case in document[section] if field in case]
    for case in changed:
        case[field] = _changed(case[field])
    results = run(runner, tmp_path, document)
    failed = [o for o in results[section] if o.status == "failed"]
    # cases whose expectation is null and whose frame has no bearing on it stay green
    assert len(failed) >= max(1, len(changed) // 2)


@pytest.mark.parametrize("section", sorted(EXPECTATIONS))
def test_an_unknown_field_fails(runner: Any, wire: dict[str, Any], tmp_path: Path, section: str) -> None:
    document = copy.deepcopy(wire)
    document[section][0]["js_something_new"] = 1
    results = run(runner, tmp_path, document)
    assert results[section][0].status == "failed"
    assert "unknown case shape" in results[section][0].detail


def test_an_unknown_section_fails(runner: Any, wire: dict[str, Any], tmp_path: Path) -> None:
    part = {name: wire[name] for name in ("keys", "envelopes")}
    results = run(runner, tmp_path, {**part, "novelty": [{"a": 1}]})
    assert [o.detail for o in results["novelty"]] == ["unknown section of a wire file"]


@pytest.mark.parametrize("name", ["registry.json", "lifecycle.json"])
def test_files_of_later_parts_fail_section_by_section(runner: Any, name: str) -> None:
    results = runner.run_file(VECTORS / name)
    kind = name.removesuffix(".json")
    known = {section.partition(".")[0] for found, section in runner.SECTIONS if found == kind}
    told = {section: o.detail for section, found in results.items() for o in found if section not in known}
    assert set(told.values()) <= {f"unknown section of a {kind} file"}
    assert told or known


def test_forms_the_known_cases_do_not_use(runner: Any, tmp_path: Path, wire: dict[str, Any]) -> None:
    exchange = "10" + "00020000" + "cb0071050000" + "cb0071053eff"
    topology = {"outbound": ["203.0.113.5:16127"], "inbound": [], "total_count": 1}
    handshake = copy.deepcopy(wire["ws_handshake"])
    handshake["outbound_request"]["headers"]["X-Flux-Clock-Offset"] = "-12"
    document = {
        "keys": wire["keys"],
        "ws_handshake": handshake,
        "text_frames": [{"raw": "T1|null", "js_dispatched": "TypeError"}],
        "binary_dispatch": [
            {
                "hex": exchange,
                "sender_has_peerExchange": True,
                "js_handler_calls": [],
                "js_topology_after": topology,
            }
        ],
    }
    assert failures(run(runner, tmp_path, document)) == []


def test_a_view_case_may_generate_its_list(runner: Any, tmp_path: Path) -> None:
    apps = {"$generate": "3 entries {name: 'a0'..'a2', hash: 'h-'+name}"}
    event = {
        "type": "apprunning",
        "ip": "203.0.113.1:16127",
        "dedupKey": "v2",
        "broadcastedAt": -5,
        "expireAt": 10,
        "data": {"broadcastedAt": -5, "apps": apps},
    }
    checks = [
        {"now": 0, "query": {}, "expect": {"count": 3}},
        {"now": 0, "query": {"appname": "A1"}, "expect": ["a1@203.0.113.1:16127"]},
    ]
    scenario = {"id": "V90", "title": "", "kind": "norm", "events": [event], "checks": checks}
    document = {"T0_ms": 1_760_000_000_000, "view_scenarios": [scenario]}
    assert failures(run(runner, tmp_path, document)) == []
    checks[0]["expect"] = {"count": 4}
    assert failures(run(runner, tmp_path, document))


@pytest.mark.parametrize("document", [[], {}, {"meta": {}}, 5, {"spec_format": [{"input": 1}]}])
def test_files_without_known_sections_fail(runner: Any, tmp_path: Path, document: Any) -> None:
    assert failures(run(runner, tmp_path, document))


def test_empty_and_misshapen_sections_fail(runner: Any, tmp_path: Path, wire: dict[str, Any]) -> None:
    for section in [*EXPECTATIONS, "text_send", "rate_limit", "ws_handshake", "node_list_sort", "keys"]:
        for shape in ([], {}, None, 3, [3]):
            results = run(runner, tmp_path, {"keys": wire["keys"], section: shape})
            assert any(o.status == "failed" for o in results[section]), (section, shape)


def test_deviations_need_label_and_reason(runner: Any) -> None:
    known = {"W1": runner.Deviation("W1", "because")}
    context = runner.Context("events", {}, known)
    assert runner.deviates("W1", "bug", context).status == "deviates"
    assert runner.deviates("W1", "quirk", context).status == "failed"
    assert runner.deviates("W2", "bug", context).status == "failed"


@pytest.mark.process
def test_script_prints_json_and_exit_status(tmp_path: Path, wire: dict[str, Any]) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "conformance.py")]
    good = subprocess.run(
        [*script, str(VECTORS / "wire.json"), "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert good.returncode == 0, good.stdout[-2000:] + good.stderr[-2000:]
    told = json.loads(good.stdout)
    assert told["totals"]["failed"] == 0
    wire["magic_hash"][0]["hash"] = "00"
    bad_file = tmp_path / "bad.json"
    bad_file.write_text(json.dumps(wire), encoding="utf-8")
    bad = subprocess.run([*script, str(bad_file)], capture_output=True, text=True, check=False, timeout=250)
    assert bad.returncode == 1
    assert "failed: magic_hash[0]" in bad.stdout
