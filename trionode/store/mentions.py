"""Does an event mention an app? Shared by the stores, so that both find the same events."""

from __future__ import annotations

from trionode.appstate.documents import APPREMOVED, APPRUNNING, EventRow
from trionode.appstate.facts import RunningFact, fact_of, removed_name


def mentions(row: EventRow, name: str) -> bool:
    """Whether a running or removal event is about the app `name` (whole name, any case)."""
    wanted = name.lower()
    if row.type == APPREMOVED:
        return removed_name(row.dedup_key).lower() == wanted
    if row.type != APPRUNNING:
        return False
    fact = fact_of(row)
    if not isinstance(fact, RunningFact):
        return False
    names = [app.name for app in fact.apps or ()]
    if fact.name is not None:
        names.append(fact.name)
    return any(listed.lower() == wanted for listed in names)
