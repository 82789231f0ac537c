"""The canonical form: order, conversions, refusals with their place (docs/spec/registry.md §4)."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from trionode.config.chain import RegistrySettings
from trionode.registry.constants import Constants
from trionode.registry.formats import TIER_VALUES, format_spec
from trionode.registry.reasons import Reason, Rejected
from trionode.wire.jsjson import parse, stringify

VECTORS = Path(__file__).parent.parent / "vectors" / "registry.json"


def _accepted() -> list[Any]:
    cases = json.loads(VECTORS.read_text(encoding="utf-8"))["spec_format"]
    return [case["input"] for case in cases if case["result"]["ok"]]


ACCEPTED = _accepted()
BY_VERSION: dict[int, Any] = {int(spec["version"]): spec for spec in reversed(ACCEPTED)}


def example(version: int) -> Any:
    return copy.deepcopy(BY_VERSION[version])


def refusal(spec: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        format_spec(spec)
    return caught.value


def shuffled(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return {key: shuffled(item, rng) for key, item in items}
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("spec", ACCEPTED, ids=lambda spec: str(spec["version"]))
@pytest.mark.parametrize("seed", range(3))
def test_canonical_text_does_not_depend_on_the_order_of_keys(spec: Any, seed: int) -> None:
    expected = stringify(format_spec(spec))
    assert stringify(format_spec(shuffled(spec, random.Random(seed)))) == expected
    assert stringify(format_spec(parse(expected))) == expected


def test_the_input_is_neither_changed_nor_shared() -> None:
    spec = example(4)
    before = copy.deepcopy(spec)
    formatted = format_spec(spec)
    formatted["compose"][0]["ports"].append(1)
    formatted["compose"][0]["domains"].append("x")
    assert spec == before


@pytest.mark.parametrize("key", ["name", "description", "owner"])
def test_common_fields_are_needed_by_every_version(key: str) -> None:
    for version in BY_VERSION:
        error = refusal({**example(version), key: ""})
        assert (error.reason, error.rejection.field) == (Reason.MISSING_COMMON, key)


def test_common_fields_become_text() -> None:
    spec = format_spec({**example(4), "name": 5, "description": ["a"], "owner": {"b": 1}})
    assert (spec["name"], spec["description"], spec["owner"]) == ("5", '["a"]', '{"b":1}')


@pytest.mark.parametrize("version", [0, "", None, float("nan"), False])
def test_a_version_is_needed(version: Any) -> None:
    assert refusal({**example(4), "version": version}).reason is Reason.MISSING_VERSION
    assert refusal([]).reason is Reason.MISSING_VERSION
    assert refusal("text").reason is Reason.MISSING_VERSION


def test_null_is_its_own_mistake() -> None:
    assert refusal(None).reason is Reason.SPEC_NULL


def test_refusals_inside_components_name_their_place() -> None:
    spec = example(4)
    spec["compose"].append({**spec["compose"][0], "commands": 7})
    error = refusal(spec)
    assert (error.reason, error.rejection.field) == (Reason.COMMAND_TYPE, "compose[1].commands")
    assert str(error).startswith("compose[1].commands must be a list")


@pytest.mark.parametrize("component", [5, "text", [], True])
def test_components_that_are_no_objects_have_no_lists(component: Any) -> None:
    error = refusal({**example(4), "compose": [component]})
    assert (error.reason, error.rejection.field) == (Reason.PORT_TYPE, "compose[0].ports")


def test_a_null_component_is_refused() -> None:
    assert refusal({**example(4), "compose": [None]}).reason is Reason.SPEC_NOT_OBJECT


@pytest.mark.parametrize(
    ("compose", "reason"),
    [
        (0, Reason.MISSING_COMPOSE),
        ("", Reason.MISSING_COMPOSE),
        ({}, Reason.COMPOSE_NOT_ARRAY),
        ("a=1", Reason.COMPOSE_NOT_ARRAY),
        (9, Reason.COMPOSE_NOT_ARRAY),
    ],
)
def test_compose_must_be_a_list(compose: Any, reason: Reason) -> None:
    assert refusal({**example(8), "compose": compose}).reason is reason


def test_absent_texts_and_numbers_of_components_show_as_javascript_shows_them() -> None:
    spec = example(4)
    component = spec["compose"][0]
    del component["description"], component["cpu"]
    formatted = format_spec(spec)["compose"][0]
    assert "description" not in formatted
    assert '"cpu":null' in stringify(formatted)


def test_container_ports_keep_their_type_from_version_4_on() -> None:
    spec = example(4)
    spec["compose"][0]["containerPorts"] = ["80", 443, None, {"a": [1]}]
    assert format_spec(spec)["compose"][0]["containerPorts"] == ["80", 443, None, {"a": [1]}]
    spec["compose"][0]["ports"] = ["80", None, [7]]
    assert format_spec(spec)["compose"][0]["ports"] == [80, 0, 7]


def test_what_nests_too_deep_to_be_printed_is_refused() -> None:
    spec = example(4)
    component = {**spec["compose"][0], "containerPorts": parse("[" * 197 + "]" * 197)}
    spec["compose"] = stringify([component])
    error = refusal(spec)
    assert (error.reason, error.rejection.field) == (
        Reason.CONTAINER_PORT_TYPE,
        "compose[0].containerPorts",
    )


@pytest.mark.parametrize("version", [2, 3])
def test_flat_port_lists_become_text(version: int) -> None:
    spec = {**example(version), "ports": [33333, "33334"], "containerPorts": "[80,443]"}
    formatted = format_spec(spec)
    assert formatted["ports"] == ["33333", "33334"]
    assert formatted["containerPorts"] == ["80", "443"]


def test_tier_values_are_all_needed_and_only_when_tiered() -> None:
    spec = {**example(1), "tiered": "true", **dict.fromkeys(TIER_VALUES, "2")}
    assert list(format_spec(spec))[-10:] == ["tiered", *TIER_VALUES]
    assert format_spec(spec)["rambamf"] == 2
    for key in TIER_VALUES:
        error = refusal({**spec, key: 0})
        assert (error.reason, error.rejection.field) == (Reason.TIERED_VALUES_MISSING, key)
    assert "cpubasic" not in format_spec({**spec, "tiered": 0})


@pytest.mark.parametrize("tiered", [None, 0, "true", 1])
def test_components_want_a_real_boolean(tiered: Any) -> None:
    spec = example(4)
    spec["compose"][0]["tiered"] = tiered
    assert refusal(spec).reason is Reason.TIERED_TYPE


@pytest.mark.parametrize(
    ("version", "count", "reason"),
    [
        (8, 0, Reason.MISSING_INSTANCES),
        (8, -1, Reason.INSTANCES_MIN),
        (7, 2, Reason.INSTANCES_MIN),
        (3, "2", Reason.INSTANCES_MIN),
        (8, 101, Reason.INSTANCES_MAX),
        (5, "many", Reason.NUMBER_NOT_INTEGER),
        (5, 3.5, Reason.NUMBER_NOT_INTEGER),
    ],
)
def test_instances(version: int, count: Any, reason: Reason) -> None:
    assert refusal({**example(version), "instances": count}).reason is reason


def test_private_fields_stand_at_the_end_of_version_7() -> None:
    spec = example(7)
    spec["compose"][0] |= {"secrets": {"a": 1}, "repoauth": 5}
    component = format_spec(spec)["compose"][0]
    assert list(component)[-3:] == ["tiered", "repoauth", "secrets"]
    assert (component["repoauth"], component["secrets"]) == ("5", '{"a":1}')


@pytest.mark.parametrize(
    ("given", "expected"),
    [(True, True), ("0", False), ("maybe", None), (None, None), (2, None)],
)
def test_datacenter_is_left_out_when_it_says_nothing(given: Any, expected: Any) -> None:
    assert format_spec({**example(8), "datacenter": given}).get("datacenter") is expected


@pytest.mark.parametrize("blob", ["QUJD", "", False, None, 0])
def test_enterprise_keeps_what_is_empty(blob: Any) -> None:
    assert format_spec({**example(8), "enterprise": blob})["enterprise"] == blob


def test_enterprise_becomes_text_when_it_is_something() -> None:
    assert format_spec({**example(8), "enterprise": {"a": 1}})["enterprise"] == '{"a":1}'
    spec = example(8)
    del spec["enterprise"]
    assert "enterprise" not in format_spec(spec)


def test_later_versions_format_like_8_and_odd_ones_like_4() -> None:
    assert list(format_spec({**example(8), "version": 12})["compose"][0]) == list(
        format_spec(example(8))["compose"][0]
    )
    odd = format_spec({**example(4), "version": "2.5"})
    assert "compose" in odd
    assert "instances" not in odd


_JUNK: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 10**17), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=examples(200), deadline=None)
@given(data=st.data(), version=st.sampled_from(sorted(BY_VERSION)))
def test_junk_is_formatted_or_refused_and_nothing_else(data: st.DataObject, version: int) -> None:
    spec = example(version)
    place = spec
    if "compose" in spec and spec["compose"] and data.draw(st.booleans()):
        place = spec["compose"][0] if isinstance(spec["compose"], list) else spec
    for key in data.draw(st.lists(st.sampled_from(sorted(place)), max_size=3)):
        place[key] = data.draw(_JUNK)
    try:
        formatted = format_spec(spec)
    except Rejected:
        return
    stringify(formatted)


def test_a_network_of_ones_own_may_count_instances_otherwise() -> None:
    constants = Constants(RegistrySettings(min_instances=1, max_instances=4))
    assert format_spec({**example(7), "instances": 1}, constants)["instances"] == 1
    with pytest.raises(Rejected):
        format_spec({**example(7), "instances": 5}, constants)
