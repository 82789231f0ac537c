"""Loose conversions against the spec's examples and against Node.js (docs/spec/registry.md §4)."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trionode.registry.coercion import UNDEFINED, container, decimals_within, flag, is_integer, num, text
from trionode.wire.jsjson import parse, stringify
from trionode.wire.jsnumber import number_text


def _of_wire(name: str) -> Any:
    path = Path(__file__).parent.parent / "wire" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"wire_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


js = _of_wire("jsvalues")
child = _of_wire("node_child")
relaxed = settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
without_own_conversions = js.values.filter(lambda value: "toString" not in stringify(value))


@pytest.fixture(scope="module")
def to_number() -> Iterator[Any]:
    with child.node_child("(text) => String(Number(JSON.parse(text)))") as node:
        yield node


@pytest.fixture(scope="module")
def to_text() -> Iterator[Any]:
    body = "const v = JSON.parse(text); return typeof v === 'string' ? v : JSON.stringify(v);"
    with child.node_child(f"(text) => {{ {body} }}") as node:
        yield node


@pytest.fixture(scope="module")
def integer() -> Iterator[Any]:
    with child.node_child("(text) => Number.isInteger(JSON.parse(text))") as node:
        yield node


@pytest.mark.process
@relaxed
@given(value=without_own_conversions)
def test_numbers_agree_with_javascript(to_number: Any, value: Any) -> None:
    value = parse(stringify(value))
    assert number_text(num(value)) == to_number.call(stringify(value))


@pytest.mark.process
@relaxed
@given(token=st.one_of(js.number_texts(), js.any_text))
def test_numbers_in_text_agree_with_javascript(to_number: Any, token: str) -> None:
    assert number_text(num(token)) == to_number.call(stringify(token))
    assert number_text(num([token])) == to_number.call(stringify([token]))


@pytest.mark.process
@relaxed
@given(value=js.values)
def test_texts_agree_with_javascript(to_text: Any, value: Any) -> None:
    value = parse(stringify(value))
    assert text(value) == to_text.call(stringify(value))


@pytest.mark.process
@relaxed
@given(value=js.values)
def test_integers_agree_with_javascript(integer: Any, value: Any) -> None:
    value = parse(stringify(value))
    assert is_integer(value) is integer.call(stringify(value))


@pytest.mark.parametrize("value", [{}, {"a": 1}, [1, 2], [{}], "x", "1,5", "1_000", UNDEFINED])
def test_what_is_no_number_is_nan(value: Any) -> None:
    assert math.isnan(num(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [([], 0), ([[]], 0), ([None], 0), ([[7]], 7), (["0x1F"], 31), ("-0", 0), (1.0, 1), (False, 0)],
)
def test_odd_numbers(value: Any, expected: float) -> None:
    assert num(value) == expected
    assert type(num(value)) is type(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.0, True), (0.0, False), (2, None), ("TRUE", None), ("", None), ([1], None), (UNDEFINED, None)],
)
def test_flags(value: Any, expected: bool | None) -> None:
    assert flag(value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"a":1}', {"a": 1}),
        ("a[]=1&a[]=2", {"a": ["1", "2"]}),
        ("null", {}),
        ('"text"', {}),
        (0, {}),
        (True, {}),
        (UNDEFINED, {}),
    ],
)
def test_containers(value: Any, expected: Any) -> None:
    assert container(value) == expected


@pytest.mark.parametrize(
    ("value", "limit", "expected"),
    [(0.12345678, 8, True), (1.5e-10, 4, False), (1.5e-10, 5, True), ("80.", 0, True), (True, 0, True)],
)
def test_decimals(value: Any, limit: int, expected: bool) -> None:
    assert decimals_within(value, limit) is expected


def test_no_value_has_no_text() -> None:
    assert text(UNDEFINED) is UNDEFINED
    assert not UNDEFINED
    assert repr(UNDEFINED) == "nothing"
