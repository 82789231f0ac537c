"""When a message is asked for again, and when it is given up (docs/spec/registry.md §12)."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from trionode.config.chain import HashSyncSettings
from trionode.registry.backoff import Ladder, missing_messages, set_back
from trionode.registry.known_invalid import KNOWN_INVALID_MESSAGES
from trionode.registry.rows import HashRow

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "registry.json"


def test_the_whole_ladder_as_the_network_climbs_it() -> None:
    row = HashRow.found("t", 2_100_000, "h", 1)
    for step in json.loads(VECTORS.read_text(encoding="utf-8"))["backoff_ladder"]:
        assert row.next_retry_height == step["at_height"]
        setback = set_back([row], step["at_height"])
        (row,) = setback.rows
        assert row.sync_attempts == step["syncAttempts"]
        assert row.next_retry_height == step["nextRetryHeight"]
        assert row.message_not_found == step["messageNotFound"]
        assert (setback.missing, setback.unreachable, setback.next_retry_height) == (
            step["returned"]["missing"],
            step["returned"]["unreachable"],
            step["returned"]["nextRetryHeight"],
        )
    assert row.flagged


@pytest.mark.parametrize(("height", "flagged"), [(1_151_200, False), (1_151_201, True)])
def test_giving_up_counts_from_the_first_try(height: int, flagged: bool) -> None:
    row = HashRow.found("t", 100_000, "h", 1)
    assert Ladder().after_failure(row, height).flagged is flagged
    bare = msgspec.structs.replace(row, retry_from_height=None, sync_attempts=None)
    assert Ladder().after_failure(bare, height).sync_attempts == 1
    assert not Ladder().after_failure(bare, 10**9).flagged


def test_a_ladder_of_ones_own() -> None:
    ladder = Ladder.of(HashSyncSettings(retry_ladder_blocks=(0, 5), give_up_blocks=10))
    rows = [HashRow.found("t", 100, "a", 1), HashRow.found("t", 89, "b", 1)]
    setback = set_back(rows, 100, ladder)
    assert (setback.missing, setback.unreachable, setback.next_retry_height) == (1, 1, 105)
    assert set_back([], 100, ladder).next_retry_height is None


def test_what_is_missing() -> None:
    hash_, txid = next(iter(KNOWN_INVALID_MESSAGES))
    rows = [
        HashRow.found("t", 30, "late", 1),
        HashRow.found("t", 10, "early", 1),
        HashRow("t", 5, "given-up", 1, message_not_found=True),
        HashRow("t", 6, "later", 1, next_retry_height=99),
        HashRow(txid, 7, hash_, 1),
        HashRow("another payment", 8, hash_, 1),
        HashRow("t", 1, "here", 1, message=True),
    ]
    assert [row.hash for row in missing_messages(rows, 50)] == [hash_, "early", "late"]
    forced = [row.height for row in missing_messages(rows, 0, force=True)]
    assert forced == [5, 6, 7, 8, 10, 30]
    assert len(KNOWN_INVALID_MESSAGES) == 28
