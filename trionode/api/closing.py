"""Letting go of a stream that was not read to its end, whoever stops reading and why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

_T = TypeVar("_T")


@asynccontextmanager
async def closing(rows: AsyncIterator[_T]) -> AsyncIterator[AsyncIterator[_T]]:
    """The rows, and their generator closed at the end of the block."""
    try:
        yield rows
    finally:
        close = getattr(rows, "aclose", None)
        if close is not None:
            await close()
