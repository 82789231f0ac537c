"""How many records of one kind an address may have: a node that invents names must not fill the others.

A listed node can rightly sign any number of removals, installs and lists with ever new names, and all of
them count (docs/spec/events.md §3-§5). Records of one address beyond `MAX_PER_ADDRESS` push out its oldest;
an honest node has at most a few per app, and at most 200 apps.
"""

from __future__ import annotations

from trionode.appstate.changes import (
    Change,
    DeleteCopy,
    DeleteEvent,
    DeleteInstallError,
    DeleteInstalling,
    DeleteLocation,
    PutCopy,
    PutEvent,
    PutInstallError,
    PutInstalling,
    PutLocation,
)
from trionode.appstate.documents import APPREMOVED, APPRUNNING
from trionode.appstate.state import AppState

MAX_PER_ADDRESS = 1000


def surplus(state: AppState, change: Change, most: int = MAX_PER_ADDRESS) -> Change | None:
    """The oldest record of the kind and address just written, if there are too many now."""
    if isinstance(change, PutEvent):
        return _event(state, change, most)
    if isinstance(change, PutLocation):
        address = state.address(change.row.ip)
        if address is None or len(address.rows) <= most:
            return None
        row = min(
            (rows[0] for rows in address.rows.values()), key=lambda row: (row.broadcasted_at_ms, row.row_id)
        )
        return DeleteLocation(row.row_id, row.name, row.ip)
    if isinstance(change, PutInstalling):
        address = state.address(change.row.ip)
        if address is None or not address.installing or len(address.installing) <= most:
            return None
        install = min(address.installing.values(), key=lambda row: (row.broadcasted_at_ms, row.name))
        return DeleteInstalling(install.ip, install.name)
    if isinstance(change, PutInstallError):
        address = state.address(change.row.ip)
        if address is None or not address.errors or len(address.errors) <= most:
            return None
        error = min(address.errors.values(), key=lambda row: (row.broadcasted_at_ms, row.name, row.hash))
        return DeleteInstallError(error.ip, error.name, error.hash)
    if isinstance(change, PutCopy):
        address = state.address(change.copy.ip)
        if address is None or not address.copies or len(address.copies) <= 2 * most:
            return None
        return DeleteCopy(min(address.copies, key=lambda key: (address.copies or {})[key]))
    return None


def _event(state: AppState, change: PutEvent, most: int) -> Change | None:
    source = state.index.source(change.row.ip)
    if source is None:
        return None
    if len(source.running) > most:
        oldest = min(source.running.items(), key=lambda item: (item[1].at_ms, item[0]))[0]
        return DeleteEvent((source.ip, APPRUNNING, oldest))
    if source.removed and len(source.removed) > most:
        name = min(source.removed.items(), key=lambda item: (item[1].at_ms, item[0]))[0]
        return DeleteEvent((source.ip, APPREMOVED, f"{APPREMOVED}:{name}"))
    return None
