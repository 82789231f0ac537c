"""Makes helpers importable, as the tests have no packages: `rig` here, `appmessages` of tests/registry."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent / "registry"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
