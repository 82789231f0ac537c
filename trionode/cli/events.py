"""`trionode events`: the news of a running node (/trionode/events, /flux/eventstream)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import click

from trionode.cli.client import NodeApi, NodeUnreachable, StreamLost, api_of, api_option
from trionode.cli.render import plain, show_json

RECONNECT_TRIES = 10
RECONNECT_PAUSE_S = 1.0


@click.command()
@api_option
@click.option("--follow", is_flag=True, help="Stay and show events as they happen.")
@click.option("--since", type=click.IntRange(min=0), default=0, help="Only events with a greater id.")
@click.option("--name", "names", multiple=True, help="Only names that begin with this. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: id, name, data.")
def command(api: str | None, follow: bool, since: int, names: tuple[str, ...], as_json: bool) -> None:
    """Show what happened on a node: the events it still keeps, oldest first."""
    node = api_of(api)
    for number, name, data in _follow(node, since) if follow else _kept(node, since):
        # Records about the stream itself (lost events) carry no id and are always shown.
        if names and number is not None and not name.startswith(names):
            continue
        if as_json:
            show_json({"id": number, "name": name, "data": data}, compact=True)
        else:
            click.echo(_line(number, name, data))


def _kept(node: NodeApi, since: int) -> Iterable[tuple[int | None, str, Any]]:
    rows = node.get("/trionode/events", {"since": str(since)})
    return [(row["id"], row["name"], row["data"]) for row in rows]


def _follow(node: NodeApi, since: int) -> Iterator[tuple[int | None, str, Any]]:
    """Live events; a lost connection is taken up again where it broke."""
    last, failures = since, 0
    while True:
        try:
            for number, name, data in node.stream(last):
                failures = 0
                last = number if number is not None else last
                yield number, name, data
        except (StreamLost, NodeUnreachable) as error:
            failures += 1
            if failures > RECONNECT_TRIES or (failures == 1 and last == since and _is_first(error)):
                raise
            time.sleep(RECONNECT_PAUSE_S)
            last = _where_to_go_on(node, last)


def _is_first(error: Exception) -> bool:
    """Nothing answered at all: waiting for a node that may never come helps nobody."""
    return isinstance(error, NodeUnreachable)


def _where_to_go_on(node: NodeApi, last: int) -> int:
    """`last`, or 0 when the node restarted since (its ids count from 1 again)."""
    try:
        newest = node.get("/trionode/status")["events"]["lastId"]
    except NodeUnreachable:
        return last
    if newest >= last:
        return last
    click.echo("the node was restarted, its event ids begin anew", err=True)
    return 0


def _line(number: int | None, name: str, data: Any) -> str:
    text = json.dumps(data, ensure_ascii=True)
    if isinstance(data, dict):
        text = " ".join(
            f"{key}={value if isinstance(value, int | float) else json.dumps(value)}"
            for key, value in data.items()
        )
    safe = plain(f"{name:<24} {text}".rstrip())
    return f"{'' if number is None else number:>6}  {safe}"
