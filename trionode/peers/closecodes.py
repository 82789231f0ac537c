"""WebSocket close codes between nodes and what a dialler does after each (wire.md §2).

"In" and "out" are seen from the closing side: an inbound peer that misbehaves is closed with the
"in" code of a pair.
"""

from __future__ import annotations

from typing import Literal

Direction = Literal["inbound", "outbound"]

GOING_AWAY = 1001
LOST = 1006
POLICY = 1008
TRY_LATER = 1013

MAX_CONNECTIONS = 4000
DUPLICATE = 4001
PRIVATE_ADDRESS = 4002
DEAD = 4011
EPHEMERAL_DONE = 4018
UNCONFIRMED = 4019

_REDIAL = frozenset({MAX_CONNECTIONS, DEAD})


def bad_origin(direction: Direction) -> int:
    """Too many bad messages from this peer."""
    return 4004 if direction == "inbound" else 4007


def invalid_message(direction: Direction) -> int:
    """A malformed JSON message."""
    return 4016 if direction == "inbound" else 4017


def closed_on_purpose(direction: Direction) -> int:
    """Closed by the operator, or because a send failed. Here outbound has the lower number."""
    return 4009 if direction == "outbound" else 4010


def dialler_redials(code: int | None) -> bool:
    """Whether a lost outbound peer goes to the reconnect queue; None is a loss without a code."""
    return code is None or code <= 1015 or code in _REDIAL
