"""The section runners of events.json notice wrong expectations (tests that can fail)."""

from __future__ import annotations

import copy
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = ROOT / "tests" / "conformance"
DOCUMENT = json.loads((ROOT / "tests" / "vectors" / "events.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def runner() -> Any:
    if str(CONFORMANCE) not in sys.path:
        sys.path.insert(0, str(CONFORMANCE))
    module = importlib.import_module("runner")
    module.load_sections()
    return module


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _places(member, (*path, key))
    elif isinstance(value, list):
        for number, member in enumerate(value):
            yield from _places(member, (*path, number))
    else:
        yield path


def _changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if value is None:
        return 1
    return value + "x" if isinstance(value, str) else value + 1


def _with_change(scenario: Any, part: str, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(scenario)
    place = changed[part]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = _changed(place[path[-1]])
    return changed


def _outcome(runner: Any, section: str, scenario: Any) -> Any:
    context = runner.Context("events", DOCUMENT, runner.load_deviations())
    (outcome,) = runner.SECTIONS["events", section]([scenario], context)
    return outcome


@pytest.mark.parametrize(
    "scenario", [s for s in DOCUMENT["write_scenarios"] if s["kind"] != "bug"], ids=lambda s: s["id"]
)
def test_any_other_expectation_of_a_write_scenario_fails(runner: Any, scenario: Any) -> None:
    for part in ("results", "state", "view"):
        for path in _places(scenario[part]):
            outcome = _outcome(runner, "write_scenarios", _with_change(scenario, part, path))
            assert outcome.status == "failed", (part, path)


@pytest.mark.parametrize("scenario", DOCUMENT["view_scenarios"], ids=lambda s: s["id"])
def test_any_other_expectation_of_a_view_scenario_fails(runner: Any, scenario: Any) -> None:
    for number, check in enumerate(scenario["checks"]):
        for part in ("expect", "rows"):
            for path in _places(check[part]):
                changed = _with_change(scenario, "checks", (number, part, *path))
                assert _outcome(runner, "view_scenarios", changed).status == "failed", (part, path)


@pytest.mark.parametrize(
    ("section", "scenario"),
    [
        ("view_scenarios", {**DOCUMENT["view_scenarios"][1], "new": 1}),
        ("write_scenarios", {**DOCUMENT["write_scenarios"][0], "new": 1}),
        (
            "write_scenarios",
            {**DOCUMENT["write_scenarios"][0], "ops": [{**DOCUMENT["write_scenarios"][0]["ops"][0], "x": 1}]},
        ),
        ("write_scenarios", {**DOCUMENT["write_scenarios"][0], "ops": [{"op": "new", "at": 0}]}),
    ],
)
def test_unknown_shapes_fail(runner: Any, section: str, scenario: Any) -> None:
    assert _outcome(runner, section, scenario).status == "failed"
