"""Rounding of money, exactly as the network does it (docs/spec/registry.md §7, §15).

All money is IEEE doubles; which rounding is used where decides about cents, and cents decide about forks.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Context, Decimal

from trionode.wire.jsnumber import number_text

_CENT = Decimal("0.01")
_EXACT = Context(prec=40, rounding=ROUND_HALF_UP)
_LARGEST_FIXED = 1e21


def ceil_cents(value: float) -> float:
    """`ceil(value * 100) / 100` on doubles."""
    cents = value * 100
    return math.ceil(cents) / 100 if math.isfinite(cents) else cents


def fixed_2(value: float) -> str:
    """Two decimals, half up on the exact binary value: 2.675 is a little less than it says, so "2.67"."""
    if value == 0:
        return "0.00"
    if not math.isfinite(value) or abs(value) >= _LARGEST_FIXED:
        return number_text(value)
    return str(Decimal(value).quantize(_CENT, context=_EXACT))


def round_2(value: float) -> float:
    """The double that is nearest to `fixed_2(value)`."""
    return float(fixed_2(value))
