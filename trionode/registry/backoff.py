"""When the message of a hash is asked for again, and when it is given up (docs/spec/registry.md §12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from trionode.config.chain import HashSyncSettings
from trionode.registry.known_invalid import KNOWN_INVALID_MESSAGES
from trionode.registry.rows import HashRow

_DEFAULTS = HashSyncSettings()


class Ladder(msgspec.Struct, frozen=True):
    """Distances of the tries for one hash, in blocks. Entry 0 is the first try, made at once."""

    steps_blocks: tuple[int, ...] = _DEFAULTS.retry_ladder_blocks
    give_up_blocks: int = _DEFAULTS.give_up_blocks

    @classmethod
    def of(cls, settings: HashSyncSettings) -> Ladder:
        return cls(settings.retry_ladder_blocks, settings.give_up_blocks)

    def after_failure(self, row: HashRow, height: int) -> HashRow:
        """The row after one more try at `height` in vain.

        Later than `give_up_blocks` after `retry_from_height` it is flagged; a row without that height is
        tried for ever.
        """
        if row.retry_from_height is not None and height - row.retry_from_height > self.give_up_blocks:
            return msgspec.structs.replace(row, message_not_found=True)
        attempts = (row.sync_attempts or 0) + 1
        distance_blocks = self.steps_blocks[min(attempts, len(self.steps_blocks) - 1)]
        return msgspec.structs.replace(
            row, sync_attempts=attempts, next_retry_height=height + distance_blocks
        )


class Setback(msgspec.Struct, frozen=True):
    """What a sync that found nothing more leaves behind."""

    rows: tuple[HashRow, ...]
    """Changed rows to store."""
    missing: int
    """How many will be tried again."""
    unreachable: int
    """How many were given up now."""
    next_retry_height: int | None
    """The lowest height at which one of them is due; None when none is left."""


def set_back(due: Iterable[HashRow], height: int, ladder: Ladder | None = None) -> Setback:
    """Move every row that is still due one step up the ladder."""
    steps = ladder or Ladder()
    rows = tuple(steps.after_failure(row, height) for row in due)
    heights = [row.next_retry_height or 0 for row in rows if not row.flagged]
    return Setback(rows, len(heights), len(rows) - len(heights), min(heights, default=None))


def missing_messages(rows: Iterable[HashRow], height: int, *, force: bool = False) -> Sequence[HashRow]:
    """The payments whose message is to be asked for at `height`, lowest first.

    `force` (an operator asks) takes all without a message: given up, not yet due, known as invalid.
    """
    if force:
        wanted = [row for row in rows if not row.message]
    else:
        wanted = [
            row for row in rows if row.due(height) and (row.hash, row.txid) not in KNOWN_INVALID_MESSAGES
        ]
    return sorted(wanted, key=lambda row: row.height)
