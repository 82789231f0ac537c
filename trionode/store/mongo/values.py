"""JavaScript values as BSON and back, so that a signed payload prints the same text again.

Numbers are written as the driver of the original writes them: whole numbers that fit 32 bits as int32,
all others as doubles. What BSON cannot carry (half of a surrogate pair, a NUL in a member name, more than
100 levels) or a server refuses (a member name that begins with "$") is replaced in the document, and
`is_exact` says so: the document then also carries the exact text (shapes_events.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from bson import Decimal128
from bson.datetime_ms import DatetimeMS

from trionode.wire.jsjson import JsValue
from trionode.wire.jsnumber import normal

_SURROGATE = re.compile("[\ud800-\udfff]")
_INT32 = 2**31
_MAX_DEPTH = 80  # a server allows 100, and the document around the value takes some
_DOLLAR = "\uff04"
"""Full-width dollar sign: stands for a "$" at the start of a member name."""


class Writer:
    """Turns values into BSON; `is_exact` is False once something had to be replaced."""

    __slots__ = ("is_exact",)

    def __init__(self) -> None:
        self.is_exact = True

    def text(self, text: str) -> str:
        """A text that UTF-8 can carry; a lone surrogate becomes U+FFFD, as JavaScript's driver does it."""
        if text.isascii() or not _SURROGATE.search(text):
            return text
        self.is_exact = False
        return _SURROGATE.sub("\ufffd", text)

    def value(self, value: JsValue, depth: int = 0) -> Any:
        """Any value of JSON."""
        kind = type(value)
        if kind is str:
            return self.text(value)
        if kind is int:
            return value if -_INT32 <= value < _INT32 else float(value)
        if kind is not dict and kind is not list:
            return value
        if depth >= _MAX_DEPTH:
            self.is_exact = False
            return None
        if kind is list:
            return [self.value(item, depth + 1) for item in value]
        return {self._name(name): self.value(item, depth + 1) for name, item in value.items()}

    def _name(self, name: str) -> str:
        if name.startswith("$"):
            self.is_exact = False
            name = _DOLLAR + name[1:]
        if "\0" in name:
            self.is_exact = False
            name = name.replace("\0", "")
        return self.text(name)


def safe_text(text: str) -> str:
    """The form in which a text is stored, for filters."""
    return Writer().text(text)


def from_bson(value: Any) -> JsValue:
    """The value that JavaScript sees in a document."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if isinstance(value, int | float):
        return normal(int(value) if isinstance(value, int) else value)
    if isinstance(value, Mapping):
        return {name: from_bson(item) for name, item in value.items()}
    if isinstance(value, list):
        return [from_bson(item) for item in value]
    if isinstance(value, DatetimeMS):
        return int(value)
    if isinstance(value, Decimal128):
        return normal(float(str(value)))
    return str(value)


def date(at_ms: int) -> DatetimeMS:
    """A moment as a BSON date."""
    return DatetimeMS(at_ms)


def milliseconds(value: Any) -> int | None:
    """A moment in milliseconds; None when there is none. Old rows may hold it as a number."""
    if isinstance(value, DatetimeMS):
        return int(value)
    return int(value) if _is_number(value) and value == value and abs(value) < 2**63 else None


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
