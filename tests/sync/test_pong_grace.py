"""A pong that is on its way is not a missed one (lifecycle.md §8, state sync)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trionode.sync.statesync import PONG_GRACE_MS, _owes_pong


@pytest.mark.parametrize(
    ("missed", "last_ping_ms", "owes"),
    [
        (0, None, False),
        (0, 1_000, False),
        (1, 10_000, False),
        (1, 10_000 - PONG_GRACE_MS, False),
        (1, 10_000 - PONG_GRACE_MS - 1, True),
        (1, None, True),
        (2, 10_000, True),
    ],
)
def test_pings_of_this_moment_do_not_count(missed: int, last_ping_ms: int | None, owes: bool) -> None:
    peer: Any = SimpleNamespace(pinger=SimpleNamespace(missed=missed, last_ping_ms=last_ping_ms))
    assert _owes_pong(peer, 10_000) is owes
