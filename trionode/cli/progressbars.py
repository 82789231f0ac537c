"""The progress of an operation: bars per image layer on a terminal, lines elsewhere, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from trionode.cli.render import plain, show_json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

WHOLE_IMAGE = "Pulling from"
"""Begins the one message about the whole image that is named like a layer."""


def show_progress(messages: Iterator[dict[str, Any]], *, as_json: bool) -> str:
    """Show everything as it comes; the sentence it ended with. Raises what `last_answer` raises."""
    if as_json:
        return _drain(messages, lambda message: show_json(message, compact=True))
    if sys.stdout.isatty():
        return _with_bars(messages)
    return _drain(messages, _Lines())


def _drain(messages: Iterator[dict[str, Any]], show: Any) -> str:
    while True:
        try:
            message = next(messages)
        except StopIteration as end:
            return str(end.value)
        show(message)


class _Lines:
    """A line for every sentence, and for a layer when it gets a step further."""

    def __init__(self) -> None:
        self._layers: dict[str, str] = {}

    def __call__(self, message: dict[str, Any]) -> None:
        text, layer = plain(str(message.get("status", ""))), message.get("id")
        if layer is None:
            click.echo(text)
        elif self._layers.get(str(layer)) != text:
            self._layers[str(layer)] = text
            click.echo(f"{plain(str(layer))}: {text}")
        sys.stdout.flush()


def _with_bars(messages: Iterator[dict[str, Any]]) -> str:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console()
    columns = (
        TextColumn("{task.description}"),
        TextColumn("{task.fields[step]:<20}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        return _drain(messages, _Bars(bars))


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._layers: dict[str, TaskID] = {}

    def __call__(self, message: dict[str, Any]) -> None:
        from rich.text import Text

        text, layer = plain(str(message.get("status", ""))), message.get("id")
        if layer is None:
            for task in self._layers.values():  # the image is here: the next step has begun
                self._bars.remove_task(task)
            self._layers.clear()
            self._bars.console.print(Text(text))
            return
        name = plain(str(layer))
        if text.startswith(WHOLE_IMAGE):
            self._bars.console.print(Text(text))
            return
        if name not in self._layers:
            self._layers[name] = self._bars.add_task(Text(name).markup, total=None, step="")
        sizes = message.get("progressDetail") or {}
        task = self._layers[name]
        self._bars.update(
            task,
            step=Text(text).markup,
            total=sizes.get("total"),
            completed=sizes.get("current"),
        )
        if text in ("Pull complete", "Already exists"):
            self._bars.remove_task(task)
            del self._layers[name]
            self._bars.console.print(Text(f"{name}: {text}"))
