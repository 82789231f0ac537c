"""Removals and redeploys that fail, are cancelled or die: the app is whole in the end, or gone."""

from __future__ import annotations

import pytest
import trio
from operationfaults import FAULTS, OPERATIONS, Fault, play


@pytest.mark.trio
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.what for fault in FAULTS])
async def test_whole_or_gone(operation: str, fault: Fault, autojump_clock: trio.abc.Clock) -> None:
    end = await play(operation, fault)
    assert end.whole or end.gone, end
    if operation == "removal by force":
        assert end.gone, end
    if operation == "redeploy of a component" and fault.what not in ("unmount fails", "delete fails"):
        assert end.whole, end
    if operation == "soft redeploy" and fault.what.startswith(("engine gone", "cancelled", "killed", "row")):
        assert end.whole, end  # not the fault of the app
    if fault.what == "nothing":
        assert end.ok
        assert end.gone == operation.startswith("removal")
