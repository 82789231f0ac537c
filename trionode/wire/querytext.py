"""Query-string reading of texts that are not JSON (docs/spec/wire.md §5 "Parse").

The network falls back to a `qs`-style parser: `a=1&b[c]=2` -> {"a": "1", "b": {"c": "2"}}. What comes
out practically never is a valid envelope, but it decides between "closed for an invalid message" and
"counted as a bad message", so the common rules are kept: repeated names and `[]` make lists, brackets
nest five deep, `+` is a space, a broken %-escape leaves the text as it is, 1000 parameters at most.
Not kept: merging of lists with objects under one name (the later one wins here).
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from trionode.wire.jsjson import JsValue, in_property_order, is_array_index, utf8

_MAX_PARAMETERS = 1000
_MAX_DEPTH = 5
_MAX_INDEX = 20
_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_OBJECT_MEMBERS = frozenset(
    (
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
        "__proto__",
    )
)


def parse_query(text: str) -> dict[str, JsValue]:
    """Read a text as a query string; every text is one, so this never raises."""
    flat: dict[str, JsValue] = {}
    for part in text.split("&")[:_MAX_PARAMETERS]:
        closing = part.find("]=")
        split_at = part.find("=") if closing < 0 else closing + 1
        if split_at < 0:
            name, value = _decode(part), ""
        else:
            name, value = _decode(part[:split_at]), _decode(part[split_at + 1 :])
        if name:
            flat[name] = _combined(flat[name], value) if name in flat else value
    result: dict[str, JsValue] = {}
    for name, value in flat.items():
        path = _path(name)
        if path:
            _insert(result, path, value)
    return in_property_order({key: _finished(value) for key, value in result.items()})


def _decode(text: str) -> str:
    text = text.replace("+", " ")
    if "%" not in text:
        return text
    if _BAD_ESCAPE.search(text):
        return text
    try:
        return unquote_to_bytes(utf8(text)).decode()
    except UnicodeDecodeError:
        return text


def _combined(old: JsValue, new: JsValue) -> list[JsValue]:
    return [*(old if isinstance(old, list) else [old]), *(new if isinstance(new, list) else [new])]


def _path(name: str) -> list[str]:
    """Split `a[b][c]` into its segments, brackets kept; [] when the name must be ignored."""
    found = _BRACKETS.search(name)
    if not found:
        return [] if name in _OBJECT_MEMBERS else [name]
    parent = name[: found.start()]
    if parent in _OBJECT_MEMBERS:
        return []
    path = [parent] if parent else []
    rest = found.start()
    for segment in _BRACKETS.finditer(name, found.start()):
        if len(path) > _MAX_DEPTH:
            path.append(f"[{name[rest:]}]")
            break
        if segment[0][1:-1] in _OBJECT_MEMBERS:
            return []
        path.append(segment[0])
        rest = segment.end()
    return path


class _Items(dict[str, JsValue]):
    """A list under construction, by index."""


def _insert(into: dict[str, JsValue], path: list[str], value: JsValue) -> None:
    segment, rest = path[0], path[1:]
    inner = segment[1:-1] if segment.startswith("[") and segment.endswith("]") else segment
    key = str(len(into)) if not inner and isinstance(into, _Items) else inner
    if not rest:
        into[key] = _combined(into[key], value) if key in into else value
        return
    child = into.get(key)
    if not isinstance(child, dict):
        child = into[key] = _Items() if _is_list_segment(rest[0]) else {}
    _insert(child, rest, value)


def _is_list_segment(segment: str) -> bool:
    inner = segment[1:-1]
    return not inner or (is_array_index(inner) and int(inner) <= _MAX_INDEX)


def _finished(value: JsValue) -> JsValue:
    if isinstance(value, _Items) and all(is_array_index(key) for key in value):
        ordered = sorted(value.items(), key=lambda item: int(item[0]))
        items: list[JsValue] = []
        for _, item in ordered:
            items += item if isinstance(item, list) else [_finished(item)]
        return items
    if isinstance(value, dict):
        return in_property_order({key: _finished(item) for key, item in value.items()})
    return value
