"""`trionode hashes`: payments on the chain, and the messages that are missing (/trionode/registry)."""

from __future__ import annotations

from typing import Any

import click

from trionode.cli.client import NodeApi, api_of, api_option
from trionode.cli.render import duration, line, repeat, show_json, table

SAT_PER_FLUX = 100_000_000


@click.command()
@api_option
@click.option("--missing", is_flag=True, help="List the payments whose message is not known.")
@click.option("--limit", default=100, show_default=True, help="List at most so many.")
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")
@click.option("--watch", is_flag=True, help="Show it again every two seconds.")
def command(api: str | None, missing: bool, limit: int, as_json: bool, watch: bool) -> None:
    """Say how many payments have their message, or which have not."""
    node = api_of(api)

    def draw() -> None:
        _draw(node, missing=missing, limit=limit, as_json=as_json)

    if watch:
        repeat(draw, clear=not as_json)
    else:
        draw()


def _draw(node: NodeApi, *, missing: bool, limit: int, as_json: bool) -> None:
    if missing:
        found = node.get("/trionode/missinghashes", {"limit": str(limit)})
        if as_json:
            show_json(found)
        else:
            _list(found)
        return
    found = node.get("/trionode/registry")
    if as_json:
        show_json(found)
        return
    hashes, rows = found["hashes"], found["rows"]
    line("payments", f"{hashes['total']}, {hashes['resolved']} with their message")
    line("missing", f"{hashes['missing']}, {hashes['unreachable']} of them given up{_next(hashes)}")
    line("messages", f"{rows['permanents']} paid, {rows['temporaries']} waiting for payment")
    line("in force", f"{rows['current']} specifications")
    sync = found["sync"]
    if sync is not None:
        state = "running" if sync["running"] else "ready" if sync["ready"] else "not ready yet"
        left = f", {sync['left']} messages to find" if sync["running"] else ""
        line("sync", f"{state}{left}")
        if sync.get("progress") is not None:
            line("found", _pace(sync["progress"]))
        if sync["lastError"]:
            line("", f"last run failed: {sync['lastError']}")


def _pace(progress: dict[str, Any]) -> str:
    left = "" if progress["leftS"] is None else f", {duration(progress['leftS'])} left"
    return f"{progress['done']} of {progress['total']}, {progress['perSecond']:g} a second{left}"


def _next(hashes: dict[str, Any]) -> str:
    height = hashes["nextRetryHeight"]
    return "" if height is None else f"; asked for again from block {height}"


def _list(found: dict[str, Any]) -> None:
    shown = [
        (
            row["height"],
            row["hash"],
            f"{row['value'] / SAT_PER_FLUX:g}",
            row.get("syncAttempts"),
            "given up" if row.get("messageNotFound") else row.get("nextRetryHeight"),
            row.get("refused"),
        )
        for row in found["rows"]
    ]
    headings = ("block", "hash", "paid FLUX", "tries", "next try", "refused because")
    table(headings, shown, title=f"{found['total']} payments without their message")
