"""What a service would do, as a value for the present plan (`containers plan`, lifecycle.md §9-§19).

Services tell it by the same decisions that their own rounds carry out. They name the moment in the measure
they have it in, the planner makes wall time of it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal[
    "wait",
    "under_way",
    "leave",
    "remember",
    "start",
    "restart",
    "recreate",
    "connect",
    "elect",
    "start_primary",
    "stop",
    "update",
    "update_row",
    "redeploy_soft",
    "redeploy_hard",
    "remove",
    "remove_orphan",
    "prune",
    "install",
    "choose",
    "defer",
]


class PlannedAction(msgspec.Struct, frozen=True):
    """One action, or why nothing is done.

    `component`: identifiers, or what else is meant; "" for a whole app. `app` "": it concerns them all, or
    none. When: `when_ms` Unix time, `due_s` on Trio's clock, after the block `height`; none: at once, or
    nobody knows.
    """

    kind: Kind
    app: str
    component: str
    reason: str
    when_ms: int | None = None
    due_s: float | None = None
    height: int | None = None
