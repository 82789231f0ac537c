"""The content hash, against vectors' rules and an independent JavaScript rendering (docs/spec/wire.md §8)."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trionode.errors import WireError
from trionode.wire import jsjson, objecthash
from trionode.wire.objecthash import object_hash, serialise


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
relaxed = settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])

# The rules of §8 told to a real JavaScript engine, which has the real prototypes and constructors.
IN_JAVASCRIPT = r"""(text) => {
  const met = [];
  let out = '';
  const native = (f) => typeof f === 'function' && /\[native code\]/.test(String(f));
  const string = (s) => { out += 'string:' + s.length + ':' + s; };
  const composite = (o) => {
    const number = met.indexOf(o);
    if (number >= 0) return string('[CIRCULAR:' + number + ']');
    met.push(o);
    if (Array.isArray(o)) { out += 'array:' + o.length + ':'; o.forEach(any); return; }
    const keys = Object.keys(o).sort();
    if (!native(o)) keys.unshift('prototype', '__proto__', 'constructor');
    out += 'object:' + keys.length + ':';
    for (const key of keys) { string(key); out += ':'; any(o[key]); out += ','; }
  };
  const any = (v) => {
    if (v === null) out += 'Null';
    else if (v === undefined) out += 'Undefined';
    else if (typeof v === 'string') string(v);
    else if (typeof v === 'number') out += 'number:' + v.toString();
    else if (typeof v === 'boolean') out += 'bool:' + v;
    else if (typeof v === 'function') {
      out += 'fn:'; string('[native]'); string('function-name:' + v.name); composite(v);
    } else composite(v);
  };
  any(JSON.parse(text));
  return [out, require('crypto').createHash('sha1').update(out, 'utf8').digest('hex')];
}"""


@pytest.fixture(scope="module")
def javascript() -> Iterator[Any]:
    with child.node_child(IN_JAVASCRIPT) as node:
        yield node


def check(node: Any, value: Any) -> None:
    text = json.dumps(value)
    parsed = jsjson.parse(text)
    preimage, digest = node.call(text)
    assert serialise(parsed) == preimage
    assert object_hash(parsed) == digest


@pytest.mark.process
@relaxed
@given(value=js.objects)
@example(value={"constructor": {"x": 1}, "a": {"constructor": [1]}})
@example(value={"__proto__": {"a": {}}, "b": {}})
@example(value={"a": [[], {"prototype": []}], "prototype": {"constructor": 1}})
@example(value={"\ufb00": 1, "\U0001d4b3": 2, "\ud800": 3})
def test_objects_hash_as_in_javascript(javascript: Any, value: dict[str, Any]) -> None:
    check(javascript, value)


@pytest.mark.process
@relaxed
@given(value=js.values)
@example(value=[{}, {}, {"constructor": {}}])
@example(value=[[{"a": 1}], {"a": 1}])
def test_any_root_hashes_as_in_javascript(javascript: Any, value: Any) -> None:
    check(javascript, value)


odd_keys = st.sampled_from(["constructor", "prototype", "__proto__", "a", "b", "0"])
odd_objects = st.recursive(
    st.sampled_from([1, "x", None]),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd_keys, inner, max_size=4)),
    max_leaves=12,
)


@pytest.mark.process
@relaxed
@given(value=odd_objects)
def test_pseudo_keys_hash_as_in_javascript(javascript: Any, value: Any) -> None:
    check(javascript, value)


@given(value=st.dictionaries(st.sampled_from("abcdef"), js.scalars))
def test_fast_and_exact_path_agree(value: dict[str, Any]) -> None:
    assert serialise(value) == objecthash._Exact().text(value)


def test_key_order_does_not_matter() -> None:
    assert object_hash({"b": {"d": 1, "c": 2}, "a": 3}) == object_hash({"a": 3, "b": {"c": 2, "d": 1}})


def test_lone_surrogate_is_hashed_as_replacement_character() -> None:
    text = serialise({"k": "\ud800"})
    assert "string:1:\ud800" in text
    replaced = text.replace("\ud800", "\ufffd").encode()
    assert object_hash({"k": "\ud800"}) == hashlib.sha1(replaced).hexdigest()


def test_values_that_are_not_json_are_refused() -> None:
    with pytest.raises(WireError, match="bytes"):
        object_hash({"a": b"x"})


def test_depth_of_parsed_values_can_be_hashed() -> None:
    deepest = jsjson.parse('{"a":' * jsjson.MAX_DEPTH + "1" + "}" * jsjson.MAX_DEPTH)
    assert len(object_hash(deepest)) == 40


def test_hand_made_deep_values_are_refused_without_a_crash() -> None:
    value: dict[str, Any] = {}
    for _ in range(100_000):
        value = {"a": value}
    with pytest.raises(WireError, match="deep"):
        object_hash(value)
    with pytest.raises(WireError, match="deep"):
        jsjson.stringify(value)
    while value:  # take it apart by hand: the interpreter frees nested dicts recursively
        value = value["a"]
