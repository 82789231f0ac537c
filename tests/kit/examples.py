"""How many examples a test draws: the same few in each run, ten times as many new ones in nightly runs."""

from __future__ import annotations

import os
from contextlib import suppress

NIGHTLY = os.environ.get("TRIONODE_NIGHTLY") == "1"


def examples(count: int) -> int:
    """`count` of every run; conftest.py says which they are."""
    return 10 * count if NIGHTLY else count


def draw_nothing_from_imports() -> None:
    """Keep the constants of imported modules out of the examples.

    Hypothesis mixes them in. Which modules are imported depends on the tests that ran before in the same
    process, and with several workers on their speed: a test would meet other examples in every run.
    """
    # The library has no setting for it. Without this place test_examples.py fails, and only that.
    with suppress(ImportError):
        from hypothesis.internal.conjecture import providers

        providers.is_local_module_file = _is_none_of_ours


def _is_none_of_ours(path: str) -> bool:
    return False
