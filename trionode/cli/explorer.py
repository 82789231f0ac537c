"""`trionode explorer`: how far the chain is read, and reading it again (/trionode/explorer)."""

from __future__ import annotations

import click

from trionode.cli.client import api_of, api_option
from trionode.cli.render import duration, line, repeat, show_json
from trionode.cli.signin import sign_in, sign_in_options


@click.group()
def command() -> None:
    """How far the chain is read for apps, and reading it again."""


@command.command()
@api_option
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")
@click.option("--watch", is_flag=True, help="Show it again every two seconds.")
def status(api: str | None, as_json: bool, watch: bool) -> None:
    """Show how far the chain is read."""
    node = api_of(api)

    def draw() -> None:
        found = node.get("/trionode/explorer")
        if as_json:
            show_json(found, compact=watch)
            return
        state = "stopped" if found["paused"] else "at the tip" if found["isSynced"] else "reading"
        line("explorer", f"block {found['scannedHeight']} of {found['tipHeight']}, {state}")
        progress = found["progress"]
        if progress is not None:
            left = "" if progress["leftS"] is None else f", {duration(progress['leftS'])} left"
            line(
                progress["phase"],
                f"{progress['done']} of {progress['total']}, {progress['perSecond']:g} a second{left}",
            )
        if found["lastError"]:
            line("last error", found["lastError"])

    if watch:
        repeat(draw, clear=not as_json)
    else:
        draw()


@command.command()
@click.argument("height", type=click.IntRange(min=0))
@click.option("--apps", is_flag=True, help="Forget the messages paid in those blocks, and fetch them again.")
@api_option
@sign_in_options
def rescan(height: int, apps: bool, api: str | None, key_file: str | None, zelidauth: str | None) -> None:
    """Read the blocks above HEIGHT again. Only for the operator of the node, and its team."""
    node = api_of(api)
    session = sign_in(node, key_file, zelidauth)
    query = {"height": str(height), "rescanapps": "true" if apps else "false"}
    answer = node.get("/explorer/rescan", query, zelidauth=session)
    click.echo(answer["message"])
