#!/usr/bin/env python3
"""Check the library against vector files: `scripts/conformance.py FILE... [--only SECTION] [--json]`.

Any file in the format of tests/vectors/*.json will do. Per section it prints how many cases passed,
failed, were skipped or knowingly deviate (tests/conformance/deviations.toml), with the ids of all that
did not simply pass. Exit status 1 when any case failed.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / room) for room in ("conformance", "kit"))]
    sys.exit(importlib.import_module("runner").main(sys.argv[1:]))
