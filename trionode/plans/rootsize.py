"""What becomes of an app that fills the machine's disk outside its volumes (lifecycle.md §19).

Each component may hold 12 GB in its root file system, image included. An app that holds more is made anew,
which empties it; one that does so again and again is removed.
"""

from __future__ import annotations

import enum

ROOT_BYTES = 12 * 1000 * (1 << 20)
"""Of one component, in the network's own arithmetic."""
LAST_VIOLATION = 4


class RootVerdict(enum.Enum):
    """What to do."""

    FINE = "fine"
    REDEPLOY = "redeploy"
    REMOVE = "remove"


def judge_root(total_bytes: int, components: int, violations: int) -> RootVerdict:
    """On an app whose components hold so much together; `violations`: how often it was too much before."""
    if total_bytes <= ROOT_BYTES * components:
        return RootVerdict.FINE
    return RootVerdict.REMOVE if violations + 1 >= LAST_VIOLATION else RootVerdict.REDEPLOY
