"""An install that fails, hangs, is cancelled or dies leaves the machine as it was (lifecycle.md §12)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import trio
from failurematrix import CASES, Case, play

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.trio
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
async def test_nothing_is_left(case: Case, autojump_clock: trio.abc.Clock) -> None:
    result = await play(case)
    assert result.ok == case.succeeds, result
    assert not result.is_busy
    if case.succeeds:
        return
    assert bool(result.left) >= case.kill  # a killed process undoes nothing
    if case.kill or case.heal is not None:
        assert result.left_later == (), result
    else:
        assert result.left == (), result
    if not (case.hang or case.kill):
        told = case.step not in ("check", "record", "network", "local row")
        assert result.announced == told
        assert case.step in result.step


def test_the_page_says_what_happens() -> None:
    spec = importlib.util.spec_from_file_location("failure_matrix", ROOT / "scripts" / "failure_matrix.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.page() == script.PAGE.read_text(encoding="utf-8")
