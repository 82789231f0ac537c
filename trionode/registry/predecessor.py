"""Which earlier message an update follows, and who owned the app before (docs/spec/registry.md §10)."""

from __future__ import annotations

from collections.abc import Iterable

from trionode.registry.rows import Number, PermanentRow

REGISTER_TYPES = frozenset({"fluxappregister", "zelappregister"})
UPDATE_TYPES = frozenset({"fluxappupdate", "zelappupdate"})
_APP_TYPES = REGISTER_TYPES | UPDATE_TYPES


def previous_spec(rows: Iterable[PermanentRow], timestamp_ms: Number) -> PermanentRow | None:
    """The message that one signed at `timestamp_ms` follows; None when there is none.

    `rows` are all of the name in the order they were stored, and the order matters: of two rows the later
    walked one wins only if neither its height nor its timestamp is lower.
    """
    found: PermanentRow | None = None
    for row in rows:
        if row.type not in _APP_TYPES or row.timestamp_ms > timestamp_ms:
            continue
        if found is None or (row.height >= found.height and row.timestamp_ms > found.timestamp_ms):
            found = row
    return found


def previous_owner(rows: Iterable[PermanentRow], owner: str) -> str | None:
    """The owner the app had before `owner`: that of the newest message with another one."""
    others = (row for row in rows if row.owner != owner)
    newest = max(others, key=lambda row: row.recency, default=None)
    return None if newest is None else newest.owner
