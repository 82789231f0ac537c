"""Makes the messages of tests/registry importable here (`appmessages`), as the tests have no packages."""

from __future__ import annotations

import sys
from pathlib import Path

MESSAGES = str(Path(__file__).resolve().parent.parent / "registry")
if MESSAGES not in sys.path:
    sys.path.insert(0, MESSAGES)
