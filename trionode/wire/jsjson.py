"""JSON exactly as JavaScript reads and writes it (docs/spec/wire.md §8, J rules).

Signatures cover the text a receiver gets by parsing and printing again, so `stringify(parse(text))`
must equal `JSON.stringify(JSON.parse(text))` to the last character. Both functions try a C coder first
and use its answer only where one look at the text proves that JavaScript would answer the same;
everything else takes the exact path.

One limit is ours: nesting deeper than `MAX_DEPTH` is refused (JavaScript reads any depth, and prints
until its stack ends).
"""

from __future__ import annotations

import json
import re
from json.encoder import encode_basestring
from typing import Any, NoReturn, TypeAlias

import msgspec

from trionode.errors import WireError
from trionode.wire.jsnumber import normal, number_text

JsValue: TypeAlias = Any
"""None, bool, int, float, str, list or dict of these; dicts are in JavaScript's property order.

Numbers are `int` when integral and at most 2**53 in size, else `float`. Strings may hold lone surrogates.
"""

MAX_DEPTH = 200
_LAST_INDEX = 2**32 - 2

# Looks at received text. A key that might be an array index (also one spelt with escapes):
_INDEX_KEY = re.compile(r'"[0-9]{0,10}(?:"[ \t\n\r]*:|\\)').search
# A number that might not fit a double exactly:
_LONG_NUMBER = re.compile(r"[:,\[][ \t\n\r]*-?[0-9]{16}").search
# Looks at printed text: long whole numbers, whole floats ("1.0") and exponents print differently. To look
# ahead for a number at all halves the time.
_ODD_NUMBER = re.compile(r"[:,\[](?=[-0-9])-?(?:[0-9]{16}|[0-9]+(?:\.0[,}\]]|[0-9.]*e))").search

_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_QUICK_ROUNDS = 32


class JsonTooDeepError(WireError):
    """JSON text or a value is nested deeper than `MAX_DEPTH`."""


def utf8(text: str) -> bytes:
    """UTF-8 as JavaScript's runtimes encode it: a lone surrogate becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode()


def utf16_length(text: str) -> int:
    """Length in UTF-16 code units, as `text.length` in JavaScript."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def truthy(value: JsValue) -> bool:
    """JavaScript's idea of truth: empty arrays and objects are true, NaN is false."""
    if isinstance(value, list | dict):
        return True
    return bool(value) and value == value


def is_number(value: JsValue) -> bool:
    """Whether `typeof value` is "number"."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(text: str) -> int | float:
    return normal(float(text))


_fast_decode = msgspec.json.Decoder(float_hook=_float).decode
_fast_encode = msgspec.json.Encoder().encode


def parse(text: str) -> JsValue:
    """Parse JSON text as `JSON.parse` does. Raises WireError when the text is not JSON or too deep."""
    _check_depth(text)
    if text[:1] in ("{", "[") and not ("\\u" in text or _INDEX_KEY(text) or _LONG_NUMBER(text)):
        try:
            return _fast_decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass  # the exact reader decides, and words the error
    return _parse_exact(text)


def stringify(value: JsValue) -> str:
    """Print a value as `JSON.stringify` does, without spaces.

    Array-index keys are moved to the front here too, so dicts built by hand print rightly.
    Raises WireError for values JSON has no text for, and for nesting deeper than `MAX_DEPTH`.
    """
    if isinstance(value, dict | list):
        try:
            text = _fast_encode(value).decode()
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
            return _print_exact(value)
        if not ("\\u" in text or _INDEX_KEY(text) or _ODD_NUMBER(text)):
            return text
    return _print_exact(value)


# ---- the exact reader ------------------------------------------------------------------------------


def is_array_index(key: str) -> bool:
    """Whether JavaScript treats this property name as an array index, which sorts before all others."""
    if not key.isascii() or not key.isdigit() or len(key) > 10:
        return False
    return (key == "0" or key[0] != "0") and int(key) <= _LAST_INDEX


def in_property_order(value: dict[str, JsValue]) -> dict[str, JsValue]:
    """The same members in JavaScript's order; the same object when nothing moves."""
    indexes = sorted((key for key in value if is_array_index(key)), key=int)
    if not indexes:
        return value
    ordered = {key: value[key] for key in indexes}
    ordered.update(value)
    return ordered


def _members(pairs: list[tuple[str, JsValue]]) -> dict[str, JsValue]:
    return in_property_order(dict(pairs))


def _int(text: str) -> int | float:
    return int(text) if len(text) < 16 else normal(float(text))


def _not_json(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_exact_decode = json.JSONDecoder(
    object_pairs_hook=_members, parse_float=_float, parse_int=_int, parse_constant=_not_json
).decode


def _parse_exact(text: str) -> JsValue:
    if _SURROGATE.search(text):
        # unpaired halves only reach us from Python code; as escapes they join like JavaScript's
        text = _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        return _exact_decode(text)
    except ValueError as error:
        raise WireError(f"not JSON: {error}", remedy="send one JSON value as RFC 8259 defines it") from None
    except RecursionError:
        raise _too_deep() from None


def _too_deep() -> JsonTooDeepError:
    return JsonTooDeepError(
        f"JSON nested deeper than {MAX_DEPTH} levels", remedy="no message of the network nests that deeply"
    )


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    # Strip all but brackets and let matching pairs vanish level by level: fast for honest bulk data.
    skeleton = text.encode("utf-8", "surrogatepass").translate(None, _NOT_BRACKETS)
    for _ in range(_QUICK_ROUNDS):
        smaller = skeleton.replace(b"[]", b"").replace(b"{}", b"")
        if not smaller:
            return
        if len(smaller) == len(skeleton):
            break
        skeleton = smaller
    depth = 0
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep()
        elif first in "]}":
            depth -= 1


# ---- the exact printer -----------------------------------------------------------------------------


def quote(text: str) -> str:
    """A string as JSON text, lone surrogates as lower-case escapes."""
    quoted = encode_basestring(text)
    if not quoted.isascii() and _SURROGATE.search(quoted):
        joined = quoted.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", joined)
    return quoted


def _print_exact(value: JsValue) -> str:
    out: list[str] = []
    try:
        _print_into(value, out, 0)
    except RecursionError:
        raise _too_deep() from None
    return "".join(out)


def _print_into(value: JsValue, out: list[str], depth: int) -> None:
    if isinstance(value, str):
        out.append(quote(value))
    elif value is None:
        out.append("null")
    elif isinstance(value, bool):
        out.append("true" if value else "false")
    elif isinstance(value, int | float):
        text = number_text(value)
        out.append("null" if text[-1] in "Ny" else text)  # NaN and the infinities
    elif isinstance(value, dict | list):
        if depth == MAX_DEPTH:
            raise _too_deep()
        mark = "["
        if isinstance(value, list):
            for item in value:
                out.append(mark)
                _print_into(item, out, depth + 1)
                mark = ","
            out.append("]" if value else "[]")
            return
        mark = "{"
        for key, item in in_property_order(value).items():
            out.append(f"{mark}{quote(key)}:")
            _print_into(item, out, depth + 1)
            mark = ","
        out.append("}" if value else "{}")
    else:
        raise WireError(
            f"a {type(value).__name__} has no JSON text", remedy="build messages of JSON values only"
        )
