"""`trionode apps`: what runs where, as this node sees it (/trionode/apps, docs/api.md)."""

from __future__ import annotations

import click

from trionode.cli.client import api_of, api_option
from trionode.cli.render import show_json, table

NODES_SHOWN = 4
DATES = ("runningSince", "broadcastedAt", "expireAt")


@click.command()
@click.argument("name", required=False)
@api_option
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON.")
def command(name: str | None, api: str | None, as_json: bool) -> None:
    """List all apps, or the instances of the app NAME (any letter case)."""
    rows = api_of(api).get("/trionode/apps", {"name": name})
    if as_json:
        show_json(rows)
    elif name is None:
        shown = [
            (row["name"], row["instances"], len(row["hashes"]), _some(row["nodes"]), row["newest"])
            for row in rows
        ]
        table(("app", "instances", "specs", "nodes", "newest announcement"), shown, title=f"{len(rows)} apps")
    else:
        rows.sort(key=lambda row: row["ip"])
        shown_instances = [
            (
                row["ip"],
                row["name"],
                row["hash"][:12],
                row["runningSince"],
                row["broadcastedAt"],
                row["expireAt"],
            )
            for row in rows
        ]
        headings = ("node", "app", "spec", "running since", "announced", "expires")
        table(headings, shown_instances, title=f"{len(rows)} instances of {name}")


def _some(nodes: list[str]) -> str:
    more = len(nodes) - NODES_SHOWN
    return " ".join(nodes[:NODES_SHOWN]) + (f" and {more} more" if more > 0 else "")
