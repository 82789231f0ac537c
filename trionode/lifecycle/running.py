"""Which installed apps count as running here (docs/spec/lifecycle.md §9, events.md §9)."""

from __future__ import annotations

from collections.abc import Mapping

from trionode.lifecycle.local import RUNNING, InstalledApp
from trionode.lifecycle.names import container_name

STANDBY_FLAGS = frozenset("gr")


def runs_well(app: InstalledApp, states: Mapping[str, str]) -> bool:
    """Every container of the app exists, and runs unless the app may stand by.

    An app with a `g:` or `r:` component counts with stopped containers too, for another node may be
    the one that runs it now; but not with missing ones (D-25). An empty app counts as running.
    """
    found = [states.get(container_name(component.identifier)) for component in app.components]
    if None in found:
        return False
    stands_by = any(component.flags & STANDBY_FLAGS for component in app.components)
    return stands_by or all(state == RUNNING for state in found)
