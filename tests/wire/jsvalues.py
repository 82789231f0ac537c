"""Hypothesis strategies: values and texts that try the corners of JavaScript's JSON."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

any_text = st.text(st.characters(exclude_categories=()), max_size=12)
"""Every code point, lone surrogates included."""

_CORNER_NUMBERS: list[int | float] = [0, -0.0, 1, -1, 1.5, 100, 1e2, 12345.67, 0.1, 0.30000000000000004, 4.35]
_CORNER_NUMBERS += [2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, -(2**53) - 1, 2**63, 2**64 - 1, 10**20, 10**21]
_CORNER_NUMBERS += [10**22, 1e21, 1e-6, 1e-7, 9.999999e-7, 1.7976931348623157e308, 5e-324, 1e16, 1e15 + 0.5]
_CORNER_NUMBERS += [123456789012345680000, 1 / 3, 2.2250738585072014e-308]
corner_numbers = st.sampled_from(_CORNER_NUMBERS)
numbers = st.one_of(
    corner_numbers,
    st.integers(-(2**70), 2**70),
    st.integers(-100, 100),
    st.floats(allow_nan=False, allow_infinity=False),
)
_CORNER_KEYS = [
    "0",
    "1",
    "9",
    "10",
    "01",
    "00",
    "-1",
    "1.0",
    "4294967294",
    "4294967295",
    "4294967296",
    "99999999999",
    "1e1",
    "٣",
    "type",
    "data",
    "ip",
]
_CORNER_KEYS += ["__proto__", "constructor", "prototype", "toString", "length", "", " 1"]
keys = st.one_of(
    st.sampled_from(_CORNER_KEYS),
    st.integers(0, 2**34).map(str),
    any_text,
)
scalars = st.one_of(
    st.none(), st.booleans(), numbers, any_text, st.sampled_from(["1", "\u2028", "\x7f", "/", "\\"])
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(keys, inner, max_size=5)),
    max_leaves=20,
)
objects = st.dictionaries(keys, values, max_size=6)


@st.composite
def number_texts(draw: st.DrawFn) -> str:
    """Number tokens as anybody may write them: exponents, long digits, wrong zeros."""
    sign = draw(st.sampled_from(["", "-", "-", "+"] if draw(st.booleans()) else ["", "-"]))
    whole = draw(
        st.one_of(
            st.sampled_from(["0", "00", "1", "9007199254740993", "123"]),
            st.from_regex(r"[0-9]{1,25}", fullmatch=True),
        )
    )
    fraction = draw(st.sampled_from(["", ".0", ".5", ".", ".000", ".10"]))
    exponent = draw(st.sampled_from(["", "e0", "E5", "e+21", "e-7", "e400", "e-400", "e", "e+"]))
    return sign + whole + fraction + exponent


spaces = st.text(st.sampled_from(" \t\r\n"), max_size=2)
odd_spaces = st.sampled_from(["\u00a0", "\ufeff", "\v", "\f", "\u2028", "//", "/**/", "\x00"])


def _escaped(text: str, how: int) -> str:
    """A string token with more escapes than needed."""
    if how == 0:
        return json.dumps(text)
    if how == 1:
        return json.dumps(text, ensure_ascii=False)
    units = text.encode("utf-16-be", "surrogatepass")
    digits = "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2))
    return f'"{digits}"'


@st.composite
def json_texts(draw: st.DrawFn, depth: int = 3) -> str:
    """Valid JSON text in any spelling: spaces, escapes, duplicate keys, odd numbers."""
    left, right = draw(spaces), draw(spaces)
    kind = draw(st.integers(0, 5 if depth else 3))
    if kind == 0:
        body = draw(st.sampled_from(["null", "true", "false"]))
    elif kind == 1:
        body = draw(number_texts())
    elif kind in (2, 3):
        body = _escaped(draw(any_text), draw(st.integers(0, 2)))
    elif kind == 4:
        body = "[" + ",".join(draw(st.lists(json_texts(depth=depth - 1), max_size=4))) + "]"
    else:
        members = draw(st.lists(st.tuples(keys, st.integers(0, 2), json_texts(depth=depth - 1)), max_size=4))
        body = "{" + ",".join(f"{_escaped(key, how)}{left}:{text}" for key, how, text in members) + "}"
    return left + body + right


@st.composite
def damaged_texts(draw: st.DrawFn) -> str:
    """Nearly JSON: a valid text with a piece removed, doubled or replaced."""
    text = draw(json_texts())
    at = draw(st.integers(0, len(text)))
    piece = draw(
        st.one_of(odd_spaces, st.sampled_from([*'{}[]":,\\0-.eEtnf\x01\x1f\x7f', "\\x", "\\u12", "NaN"]))
    )
    cut = draw(st.integers(0, 2))
    return text[:at] + piece + text[at + cut :]


def same(left: Any, right: Any) -> bool:
    """Equal including types, member order and the sign of nothing."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)
