"""Tests on a real engine: the fixtures of the kit, one test at a time, all of them marked as `process`."""

from __future__ import annotations

from pathlib import Path

import pytest
from enginefixtures import *  # noqa: F403 - fixtures are found by name

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _turn(engine_turn: None) -> None:
    """Every test here waits for its turn."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They start processes."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.process)
