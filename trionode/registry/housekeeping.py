"""Putting the registry in order: guards of current specifications, expiry, reindex, rescan, reconstruct.

Facts: docs/spec/registry.md §8 (expire loop), §10 (insert and update of a specification), §12 (reindex,
rescan, reconstruct, reset for an upgrade). Rows come in, changed rows or names go out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from trionode.registry.constants import MAINNET, Constants
from trionode.registry.expiry import expiration_height, is_current, is_over, is_swept
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow

# ---- guards of current specifications (§10) ----------------------------------------------------------


def may_insert(existing_height: int | None, height: int) -> bool:
    """A paid registration of block `height` becomes the current specification of its name."""
    return existing_height is None or existing_height < height


def may_update(existing_height: int | None, height: int) -> bool:
    """A paid update of block `height` replaces the current specification; it never revives one."""
    return existing_height is not None and existing_height < height


# ---- expiry (§8) -------------------------------------------------------------------------------------


class Life(msgspec.Struct, frozen=True, gc=False):
    """From when to when an app lives. Without a height it was never paid for."""

    name: str
    height: int | None
    end_height: int

    @classmethod
    def of(cls, row: CurrentSpec, constants: Constants = MAINNET) -> Life:
        return cls(row.name, row.height, expiration_height(row.height, row.spec().get("expire"), constants))


def expired_names(current: Iterable[Life], scanned_height: int, constants: Constants = MAINNET) -> list[str]:
    """Names whose current specification the expire loop deletes."""
    return [
        life.name
        for life in current
        if is_swept(life.height or 0, life.end_height, scanned_height, constants)
    ]


def local_names_to_remove(
    installed: Iterable[Life], scanned_height: int, expired: Collection[str]
) -> list[str]:
    """Installed apps to uninstall: expired just now, without a height (0 counts as none), or over."""
    return [
        life.name
        for life in installed
        if life.name in expired or not life.height or is_over(life.end_height, scanned_height)
    ]


# ---- reindex and rescan (§12) ------------------------------------------------------------------------


def newest_by_name(rows: Iterable[PermanentRow]) -> dict[str, PermanentRow]:
    """Of each exact name the newest message (`PermanentRow.recency`)."""
    newest: dict[str, PermanentRow] = {}
    for row in rows:
        found = newest.get(row.name)
        if found is None or row.recency > found.recency:
            newest[row.name] = row
    return newest


def reindexed(
    newest: Iterable[PermanentRow], scanned_height: int, constants: Constants = MAINNET
) -> list[CurrentSpec]:
    """Current specifications made anew from the newest message of every name.

    Whether it was paid in full is not asked, as on the network, so an underpaid one becomes active.
    """
    return [
        CurrentSpec.of(row)
        for row in newest
        if is_current(expiration_height(row.height, row.spec().get("expire"), constants), scanned_height)
    ]


def rescanned(rows: Iterable[PermanentRow], from_height: int) -> list[CurrentSpec]:
    """Current specifications from messages of `from_height` and later; nothing expires here."""
    kept = newest_by_name(row for row in rows if row.height >= from_height)
    return [CurrentSpec.of(row) for row in kept.values()]


def not_current(installed: Iterable[str], current: Collection[str]) -> list[str]:
    """Installed apps that no current specification names any more; they are uninstalled."""
    return [name for name in installed if name not in current]


# ---- the set of hashes (§12) -------------------------------------------------------------------------


def reconstructed(rows: Iterable[HashRow], permanent: Collection[str], daemon_height: int) -> list[HashRow]:
    """Rows that disagree with the stored messages, put right; the rest is left out.

    `permanent` are the hashes of stored messages. What was given up although its message is there, and
    what counts as resolved although it is not, starts a new ladder.
    """
    changed: list[HashRow] = []
    for row in rows:
        put_right = _put_right(row, row.hash in permanent, daemon_height)
        if put_right is not row:
            changed.append(put_right)
    return changed


def _put_right(row: HashRow, stored: bool, daemon_height: int) -> HashRow:
    if stored and (not row.message or row.flagged):
        from_height = row.height if row.retry_from_height is None else row.retry_from_height
        return _restarted(row, stored, from_height)
    if row.message and not stored:
        return _restarted(row, stored, daemon_height)
    if row.retry_from_height is None:
        return msgspec.structs.replace(
            row,
            retry_from_height=row.height,
            next_retry_height=row.height if row.next_retry_height is None else row.next_retry_height,
            sync_attempts=row.sync_attempts or 0,
        )
    return row


def _restarted(row: HashRow, message: bool, from_height: int) -> HashRow:
    return msgspec.structs.replace(
        row,
        message=message,
        message_not_found=False,
        sync_attempts=0,
        next_retry_height=from_height,
        retry_from_height=from_height,
    )


def reset_for_upgrade(rows: Iterable[HashRow], height: int) -> Sequence[HashRow]:
    """Unresolved rows as a new version of the program begins with them: nothing is given up, all is due.

    Rows that had a ladder keep their place on it; the others start one. Unchanged rows are left out.
    """
    changed: list[HashRow] = []
    for row in rows:
        if row.message:
            continue
        reset = msgspec.structs.replace(row, message_not_found=False, next_retry_height=height)
        if row.retry_from_height is None:
            reset = msgspec.structs.replace(reset, sync_attempts=0, retry_from_height=height)
        if reset != row:
            changed.append(reset)
    return changed
