"""Makes helpers of this folder importable (`observerworld`), and a net of sources in memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

from observerworld import Net, Watch  # noqa: E402


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def watch(net: Net) -> Callable[..., Watch]:
    def make(*seeds: str, **changes: Any) -> Watch:
        return Watch(net, seeds, **changes)

    return make
