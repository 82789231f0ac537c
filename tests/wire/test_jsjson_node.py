"""parse and stringify against the real JSON of Node.js (docs/spec/wire.md §8)."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import HealthCheck, example, given, settings

from trionode.errors import WireError
from trionode.wire import jsjson
from trionode.wire.jsnumber import number_text, to_number

pytestmark = pytest.mark.process


def _neighbour(name: str) -> Any:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"wire_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


js = _neighbour("jsvalues")
child = _neighbour("node_child")
relaxed = settings(
    max_examples=examples(200),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def reserialise() -> Iterator[Any]:
    with child.node_child("(text) => JSON.stringify(JSON.parse(text))") as node:
        yield node


@pytest.fixture(scope="module")
def print_number() -> Iterator[Any]:
    with child.node_child("(text) => String(Number(text))") as node:
        yield node


def ours(text: str) -> str | None:
    try:
        return jsjson.stringify(jsjson.parse(text))
    except WireError:
        return None


def theirs(node: Any, text: str) -> str | None:
    try:
        answer: str = node.call(text)
    except child.JavaScriptError:
        return None
    return answer


@relaxed
@given(text=js.json_texts())
@example(text='{"b":1,"a":{"2":1,"1":2,"b":3,"2":4},"1":0,"b":2}')
@example(text='{"x":"\\ud83d\\ude80\\ud800\\udc00\\ud800","1\\u0031":1}')
@example(text='{"4294967294":1,"4294967295":2,"0":3,"00":4,"4294967296":5}')
@example(text="[1e400,-1e400,-0,0.0,-0.0,1E+2,9007199254740993,1e-7]")
@example(text='{"__proto__":1,"constructor":{"a":1},"__proto__":2}')
@example(text="9007199254740993")
@example(text='{"\\u0031":1,"0":2}')
@example(text='{"a":[12345678901234567890.0, 1000000000000000128]}')
def test_valid_texts_print_as_in_javascript(reserialise: Any, text: str) -> None:
    assert ours(text) == theirs(reserialise, text)


@relaxed
@given(text=js.damaged_texts())
@example(text="01")
@example(text="[1,]")
@example(text="\ufeff1")
@example(text='"\t"')
@example(text="'a'")
@example(text="")
@example(text="NaN")
@example(text="-Infinity")
@example(text="[1.]")
@example(text='{"a":1}}')
@example(text="\u00a01")
@example(text='{"a":.5}')
@example(text='{"a":+5}')
@example(text='"\\u00g0"')
@example(text='{"a" 1}')
@example(text="{,}")
@example(text="[\x0c1]")
@example(text="-")
@example(text='["\ud800","\\ud800\udc00"]')
def test_damaged_texts_are_refused_as_in_javascript(reserialise: Any, text: str) -> None:
    assert ours(text) == theirs(reserialise, text)


OUTLINE = """(text) => {
  const seen = [];
  const visit = (v) => {
    if (v === null || typeof v !== 'object') {
      seen.push(typeof v === 'number' ? String(v) : typeof v);
      return;
    }
    seen.push(Array.isArray(v) ? v.length : Object.keys(v));
    Object.values(v).forEach(visit);
  };
  visit(JSON.parse(text));
  return seen;
}"""


def outline(value: Any) -> list[Any]:
    """Member names in order, and numbers as text: what `stringify` might repair is seen here."""
    if isinstance(value, list):
        return [len(value), *(part for item in value for part in outline(item))]
    if isinstance(value, dict):
        return [list(value), *(part for item in value.values() for part in outline(item))]
    if isinstance(value, bool):
        return ["boolean"]
    if isinstance(value, int | float):
        assert isinstance(value, float) != (float(value).is_integer() and abs(value) <= 2**53)
        return [number_text(value)]
    return ["string" if isinstance(value, str) else "object"]


@pytest.fixture(scope="module")
def outline_child() -> Iterator[Any]:
    with child.node_child(OUTLINE) as node:
        yield node


@relaxed
@given(text=js.json_texts())
@example(text='{"b":1,"1":2,"0":3}')
@example(text='{"a":[12345678901234567,1.0,1e2,-0]}')
@example(text='{"a": -9007199254740993}')
@example(text='{"b":1,"\\u0031":2}')
def test_parsed_values_are_in_property_order_with_normal_numbers(outline_child: Any, text: str) -> None:
    try:
        expected = outline_child.call(text)
    except child.JavaScriptError:
        with pytest.raises(WireError):
            jsjson.parse(text)
        return
    # null is an "object" in JavaScript
    assert outline(jsjson.parse(text)) == ["object" if part is None else part for part in expected]


@relaxed
@given(value=js.values)
def test_values_print_as_in_javascript(reserialise: Any, value: Any) -> None:
    """stringify of values that never were parsed, e.g. data built by our own code."""
    assert jsjson.stringify(value) == reserialise.call(json.dumps(value))


@relaxed
@given(value=js.numbers)
def test_numbers_print_as_in_javascript(print_number: Any, value: float) -> None:
    assert number_text(value) == print_number.call(repr(value))


@relaxed
@given(text=js.number_texts())
@pytest.mark.parametrize("frame", ["{}", " {}\n", "\ufeff{}", "0x{}", "{}f", "{} {}"])
def test_number_of_text(print_number: Any, frame: str, text: str) -> None:
    text = frame.format(text, text)
    assert number_text(to_number(text)) == print_number.call(text)


ODD = "0x1f 0XfF 0b101 0o17 0x -0x1 Infinity -Infinity infinity inf nan 1_000 1e3 1e .5 5. . +5 +-5 ٣ 1n 1,5"


@pytest.mark.parametrize("text", ["", " ", "1\u2028", "\u180e1", "\u200b1", *ODD.split()])
def test_number_of_odd_text(print_number: Any, text: str) -> None:
    assert number_text(to_number(text)) == print_number.call(text)
