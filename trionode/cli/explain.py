"""`trionode explain APP [IP]`: why an app is or is not listed (/trionode/explain, docs/api.md).

The events this node knows of, address by address in the order of their times, each with the rule
that kept or hid what it says (docs/spec/events.md §6).
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import click

from trionode.cli.client import api_of, api_option
from trionode.cli.render import plain, show_json, table

MARKS = {"listed": "+", "hidden": "-", "hides": "x", "remaps": ">", "none": " "}
KINDS = {
    "apprunning": "announced",
    "appremoved": "removed",
    "ipchanged": "address changed",
    "sigterm": "shutting down",
    "evicted": "evicted",
}


@click.command()
@click.argument("app")
@click.argument("ip", required=False)
@api_option
@click.option("--json", "as_json", is_flag=True, help="The whole answer as JSON.")
def command(app: str, ip: str | None, api: str | None, as_json: bool) -> None:
    """Say why APP is or is not listed, at the address IP or anywhere.

    IP is written as the node announces it: ip, or ip:port for another port than 16127.
    """
    found = api_of(api).get("/trionode/explain", {"app": app, "ip": ip})
    if as_json:
        show_json(found)
        return
    where = f" at {ip}" if ip else ""
    listed = sorted({row["ip"] for row in found["listed"]})
    if listed:
        click.echo(plain(f"{app} is listed at {', '.join(listed)}"))
    else:
        click.echo(plain(f"{app} is not listed{where}"))
    told = sorted({row["ip"] for row in found["listed"] if row.get("unverified")})
    if told:
        click.echo(plain(f"unverified, on the word of other nodes only: {', '.join(told)}"))
    if not found["steps"]:
        click.echo(plain(f"this node knows no event that has to do with {app}{where}"))
        return
    for address, steps in groupby(found["steps"], key=lambda step: str(step["ip"])):
        click.echo()
        headings = ("", "time", "event", "app", "why")
        table(headings, [_row(step) for step in steps], title=f"{address}")
    click.echo()
    click.echo("+ listed by this event   - hidden   x hides what is older   > moves it")


def _row(step: dict[str, Any]) -> tuple[str, ...]:
    return (
        MARKS.get(step["effect"], "?"),
        step["at"],
        KINDS.get(step["type"], step["type"]),
        step["name"] or "",
        step["text"] + _decided_by(step),
    )


def _decided_by(step: dict[str, Any]) -> str:
    """Which other event decided, if one did."""
    by = step["by"]
    if by is None:
        return ""
    address, kind, _ = by
    place = "" if address == step["ip"] else f" at {address}"
    return f" (by: {KINDS.get(kind, kind)}{place})"
