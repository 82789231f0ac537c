"""JavaScript's loose conversions, as the specification formatter uses them (docs/spec/registry.md §4).

Values are those of `wire.jsjson`; a property that does not exist is `UNDEFINED`.
"""

from __future__ import annotations

import math
from typing import Final, final

from trionode.errors import WireError
from trionode.wire.jsjson import JsValue, parse, stringify
from trionode.wire.jsnumber import normal, number_text, to_number
from trionode.wire.querytext import parse_query


@final
class Undefined:
    """What reading an absent property gives in JavaScript; there is one, `UNDEFINED`."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "nothing"


UNDEFINED: Final = Undefined()

_TRUE = (True, 1, "1", "true")
_FALSE = (False, 0, "0", "false")


def num(value: JsValue) -> int | float:
    """`Number(value)`: "" and null are 0, "0x10" is 16, [5] is 5, nonsense is NaN."""
    if isinstance(value, str):
        return to_number(value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return normal(value)
    if value is None:
        return 0
    if isinstance(value, list):
        return to_number(_array_text(value))
    return math.nan


def text(value: JsValue) -> str | Undefined:
    """*str*: a text stays as it is, anything else becomes its JSON text; no value stays no value."""
    if isinstance(value, str):
        return value
    return UNDEFINED if value is UNDEFINED else stringify(value)


def flag(value: JsValue) -> bool | None:
    """*bool*: true, 1, "1", "true" and their opposites; None for everything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int | float):
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
    return None


def container(value: JsValue) -> JsValue:
    """*obj*: objects, arrays and null stay; text is read as JSON, then as a query string; the rest is {}."""
    if isinstance(value, list | dict) or value is None:
        return value
    if isinstance(value, str) and value:
        return _container_in(value)
    return {}


def decimals_within(value: JsValue, limit: int) -> bool:
    """Whether the text of `value` has at most `limit` characters after its point (1e-9 has none)."""
    if isinstance(value, int):
        return True
    shown = value if isinstance(value, str) else number_text(value) if _is_float(value) else stringify(value)
    parts = shown.split(".")
    return len(parts) < 2 or len(parts[1]) <= limit


def is_integer(value: JsValue) -> bool:
    """`Number.isInteger(value)`."""
    if isinstance(value, int):
        return not isinstance(value, bool)
    return isinstance(value, float) and value.is_integer()


def _is_float(value: JsValue) -> bool:
    return isinstance(value, float)


def _container_in(value: str) -> JsValue:
    try:
        found = parse(value)
    except WireError:
        found = parse_query(value)
    return found if isinstance(found, list | dict) else {}


def _array_text(items: list[JsValue]) -> str:
    """`String(array)`: the items' texts joined by commas, null as nothing."""
    return ",".join(_item_text(item) for item in items)


def _item_text(item: JsValue) -> str:
    if item is None:
        return ""
    if isinstance(item, str):
        return item
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int | float):
        return number_text(item)
    return _array_text(item) if isinstance(item, list) else "[object Object]"
