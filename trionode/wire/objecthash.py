"""The content hash of a message: SHA-1 over the `object-hash` v3 serialisation (docs/spec/wire.md §8).

It identifies a message in the inventory and in the dedupe cache, and does not depend on key order.
Nearly every message takes the fast path, where the odd parts of the format are constants; objects with
a key named prototype, __proto__ or constructor, and roots that are not objects, take the exact path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache

from trionode.errors import WireError
from trionode.wire.jsjson import JsValue, utf8, utf16_length
from trionode.wire.jsnumber import number_text

_PSEUDO = ("prototype", "__proto__", "constructor")
_pseudo_absent = frozenset(_PSEUDO).isdisjoint


def _string(text: str) -> str:
    return f"string:{utf16_length(text)}:{text}"


_OBJECT_FUNCTION = f"fn:{_string('[native]')}{_string('function-name:Object')}"
_KEY_PROTOTYPE, _KEY_PROTO, _KEY_CONSTRUCTOR = (f"{_string(key)}:" for key in _PSEUDO)
_FIRST_PROTO = (
    f"object:3:{_KEY_PROTOTYPE}Undefined,{_KEY_PROTO}Null,{_KEY_CONSTRUCTOR}{_OBJECT_FUNCTION}object:0:,"
)


def _pseudo_members(proto: str, constructor: str) -> str:
    return f"{_KEY_PROTOTYPE}Undefined,{_KEY_PROTO}{proto},{_KEY_CONSTRUCTOR}{_OBJECT_FUNCTION}{constructor},"


# In a root object without odd keys the root is visit 0, its prototype 1, the constructor's inner object 2.
_ROOT_MEMBERS = _pseudo_members(_FIRST_PROTO, _string("[CIRCULAR:2]"))
_INNER_MEMBERS = _pseudo_members(_string("[CIRCULAR:1]"), _string("[CIRCULAR:2]"))


class _OddObject(Exception):
    """An object has a key that the fast path has no constants for."""


def object_hash(value: JsValue) -> str:
    """SHA-1 of the serialisation as 40 hex digits. Raises WireError for non-JSON or too deep values."""
    return hashlib.sha1(utf8(serialise(value)), usedforsecurity=False).hexdigest()


def serialise(value: JsValue) -> str:
    """The text that is hashed. Raises WireError like `object_hash`."""
    try:
        if isinstance(value, dict) and _pseudo_absent(value):
            try:
                return _object(value, _ROOT_MEMBERS)
            except _OddObject:
                pass
        return _Exact().text(value)
    except RecursionError:
        raise WireError("value nested too deeply to hash", remedy="send less deeply nested data") from None


@lru_cache(maxsize=4096)
def _key(key: str) -> str:
    return f"string:{utf16_length(key)}:{key}:"


def _utf16_order(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def sorted_keys(value: dict[str, JsValue]) -> list[str]:
    """Keys by UTF-16 code units, as JavaScript sorts them."""
    if "".join(value).isascii():
        return sorted(value)
    return sorted(value, key=_utf16_order)


def _object(value: dict[str, JsValue], pseudo_members: str = _INNER_MEMBERS) -> str:
    parts = [f"object:{len(value) + 3}:{pseudo_members}"]
    for key in sorted_keys(value):
        item = value[key]
        # long keys would only push the field names of the network out of the cache
        prefix = _key(key) if len(key) < 40 else f"{_string(key)}:"
        if type(item) is str:
            parts.append(f"{prefix}string:{len(item) if item.isascii() else utf16_length(item)}:{item},")
        else:
            parts.append(f"{prefix}{_any(item, _inner_object)},")
    return "".join(parts)


def _inner_object(value: dict[str, JsValue]) -> str:
    if not _pseudo_absent(value):
        raise _OddObject
    return _object(value)


def _any(value: JsValue, of_object: Callable[[dict[str, JsValue]], str]) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, dict):
        return of_object(value)
    if isinstance(value, list):
        return f"array:{len(value)}:" + "".join([_any(item, of_object) for item in value])
    return _scalar(value)


def _scalar(value: JsValue) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "bool:true" if value else "bool:false"
    if isinstance(value, int | float):
        return f"number:{number_text(value)}"
    raise WireError(f"a {type(value).__name__} cannot be hashed", remedy="build messages of JSON values only")


class _Exact:
    """The serialisation with the visit counter of the original, object identity included.

    A value under a pseudo-key is met twice (once as pseudo-member, once in the sorted part); if it is
    an array or object, the second visit prints its number.
    """

    def __init__(self) -> None:
        self._visits = 0
        self._seen: dict[int, int] = {}
        self._proto: int | None = None
        self._inner: int | None = None

    def text(self, value: JsValue) -> str:
        if isinstance(value, str):
            return _string(value)
        if not isinstance(value, dict | list):
            return _scalar(value)
        seen = self._seen.get(id(value))
        if seen is not None:
            return _circular(seen)
        self._seen[id(value)] = self._enter()
        if isinstance(value, list):
            return f"array:{len(value)}:" + "".join([self.text(item) for item in value])
        parts = [f"object:{len(value) + 3}:"]
        for key in (*_PSEUDO, *sorted_keys(value)):
            item = self.text(value[key]) if key in value else self._pseudo(key)
            parts.append(f"{_string(key)}:{item},")
        return "".join(parts)

    def _enter(self) -> int:
        number = self._visits
        self._visits += 1
        return number

    def _pseudo(self, key: str) -> str:
        if key == "prototype":
            return "Undefined"
        if key == "constructor":
            return self._constructor()
        if self._proto is not None:
            return _circular(self._proto)
        self._proto = self._enter()
        return f"object:3:{_KEY_PROTOTYPE}Undefined,{_KEY_PROTO}Null,{_KEY_CONSTRUCTOR}{self._constructor()},"

    def _constructor(self) -> str:
        if self._inner is not None:
            return _OBJECT_FUNCTION + _circular(self._inner)
        self._inner = self._enter()
        return f"{_OBJECT_FUNCTION}object:0:"


def _circular(number: int) -> str:
    return _string(f"[CIRCULAR:{number}]")
