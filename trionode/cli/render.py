"""Showing answers of a node: tables for people, JSON for programs.

On a terminal tables are drawn with rich (imported only then); elsewhere columns are padded with
spaces, so that `cut`, `awk` and `watch` can be used on them. The tables are not a contract, `--json` is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

WATCH_S = 2.0
CLEAR = "\x1b[H\x1b[2J"


def show_json(value: Any, *, compact: bool = False) -> None:
    """One JSON value; compact = one line."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=None if compact else 2))


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
    """A table, its title alone when there are no rows. Columns of numbers are aligned to the right."""
    if not rows:
        click.echo(title or "none")
        return
    cells = [["-" if cell is None else plain(str(cell)) for cell in row] for row in rows]
    numeric = [all(_is_number(row[column]) for row in rows) for column in range(len(headings))]
    if sys.stdout.isatty():
        _rich_table(headings, cells, numeric, title)
        return
    widths = [max(len(line[column]) for line in (headings, *cells)) for column in range(len(headings))]
    if title:
        click.echo(title)
    for line in (headings, *cells):
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def _rich_table(
    headings: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], title: str
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=escape(title) or None, box=SIMPLE_HEAD, title_justify="left")
    for heading, right in zip(headings, numeric, strict=True):
        made.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in cells:
        made.add_row(*(escape(cell) for cell in row))
    Console().print(made)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def plain(text: str) -> str:
    """Names come from strangers: control characters must not reach the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def line(label: str, text: str) -> None:
    """One labelled line of an overview."""
    click.echo(f"{label:<10} {plain(text)}")


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units."""
    if seconds is None:
        return "-"
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def size(number: float | None) -> str:
    """A number of bytes with its unit."""
    if number is None:
        return "-"
    value = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def repeat(draw: Callable[[], None], *, clear: bool) -> None:
    """Draw every two seconds until interrupted; `clear` redraws in place on a terminal."""
    while True:
        if clear and sys.stdout.isatty():
            click.echo(CLEAR, nl=False)
        draw()
        sys.stdout.flush()
        time.sleep(WATCH_S)
