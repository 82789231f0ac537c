"""How many examples a test draws: the same few in each run, ten times as many new ones in nightly runs."""

from __future__ import annotations

import os

NIGHTLY = os.environ.get("TRIONODE_NIGHTLY") == "1"


def examples(count: int) -> int:
    """`count` of every run; conftest.py says which they are."""
    return 10 * count if NIGHTLY else count
