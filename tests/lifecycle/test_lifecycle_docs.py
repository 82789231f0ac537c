"""docs/lifecycle.md says what the tables in the code say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.process
def test_the_page_is_up_to_date() -> None:
    script = ROOT / "scripts" / "gen_lifecycle_docs.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr
