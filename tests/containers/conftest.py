"""Makes helpers of this folder importable (`spawnrig`), as the tests have no packages, and gives a machine
with real disks (tests/kit/diskmachine.py) to those that ask for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import diskmachine
import pytest
from diskmachine import DiskMachine

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[DiskMachine]:
    reason = diskmachine.why_not()
    if reason is not None:
        pytest.skip(reason)
    made = DiskMachine(tmp_path)
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()
