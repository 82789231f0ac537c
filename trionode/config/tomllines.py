"""On which line of a TOML text each key stands, for error messages (`tomllib` does not say)."""

from __future__ import annotations

import re
from collections.abc import Mapping

_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_LONG_QUOTES = ('"""', "'''")


def key_lines(text: str) -> Mapping[tuple[str, ...], int]:
    """Dotted path of every table header and key -> its line, counted from 1; the first one wins.

    Made for texts that `tomllib` accepts; for odd ones a key may be missing, never wrong by more
    than the table it stands in.
    """
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    inside: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if inside is not None:
            if inside in line:
                inside = None
            continue
        header = _HEADER.match(line)
        key = None if header else _KEY.match(line)
        if header:
            table = _path(header[1])
            found.setdefault(table, number)
        elif key:
            path = table + _path(key[1])
            for length in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:length], number)
        for quotes in _LONG_QUOTES:
            if line.count(quotes) % 2:
                inside = quotes
    return found


def _path(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
