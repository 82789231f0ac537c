"""JavaScript numbers as text, both ways (docs/spec/wire.md §8 J rules, §5 timestamp prefix).

A number of JavaScript is an IEEE double. We keep it as `int` while it is integral and its size is at
most 2**53 (where both agree), and as `float` otherwise.
"""

from __future__ import annotations

import math
import re

MAX_SAFE = 2**53
"""Up to this size every whole number is a double of its own."""

_JS_SPACE = " \t\n\r\v\f\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    chr(code) for code in range(0x2000, 0x200B)
)
_DECIMAL = re.compile(r"[+-]?(?:Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)", re.ASCII)
_RADIX = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)", re.ASCII)


def normal(value: int | float) -> int | float:
    """Bring any Python number into the form named in the module text (-0 becomes 0)."""
    if isinstance(value, int):
        if -MAX_SAFE <= value <= MAX_SAFE:
            return value
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if value.is_integer() and -MAX_SAFE <= value <= MAX_SAFE:
        return int(value)
    return value


def number_text(value: int | float) -> str:
    """What `String(value)` prints: shortest digits that read back as the same double."""
    value = normal(value)
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    # `point`: the value is 0.digits * 10**point
    point = len(digits) - len(fraction) + (int(exponent) if exponent else 0)
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        body = digits + "0" * (point - count)
    elif 0 < point <= 21:
        body = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        body = "0." + "0" * -point + digits
    else:
        power = point - 1
        head = digits[0] + ("." + digits[1:] if count > 1 else "")
        body = f"{head}e{'+' if power >= 0 else '-'}{abs(power)}"
    return sign + body


def to_number(text: str) -> int | float:
    """What `Number(text)` gives: surrounding space ignored, empty is 0, nonsense is NaN."""
    text = text.strip(_JS_SPACE)
    if not text:
        return 0
    if _RADIX.fullmatch(text):
        return normal(int(text, 0))
    if not _DECIMAL.fullmatch(text):
        return math.nan
    return normal(float(text.replace("Infinity", "inf")))
