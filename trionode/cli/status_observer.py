"""The head of `trionode status` for an observer: what it knows, from whom, and what it does not know."""

from __future__ import annotations

from typing import Any

import click

from trionode.cli.render import duration, line, size, table
from trionode.cli.status_life import store_lines


def overview(found: dict[str, Any]) -> None:
    """What stands in the place of a node's address, tier and daemon."""
    told = found["observer"]
    sources, nodes, height = told["sources"], told["nodes"], told["height"]
    places, links, cost = told["locations"], told["links"], told["cost"]
    needed = sources["neededToAgree"]
    line(
        "sources",
        f"{sources['answered']} of {sources['asked']} answered, "
        + (f"{needed} decide" if needed else f"at least {sources['least']} are needed to agree"),
    )
    line("nodes", _fact(nodes, f"{nodes['count']} listed"))
    line("height", _fact(height, str(height["blocks"])))
    line("links", f"{links['open']} of {links['most']}, outward only")
    line("apps", f"{found['apps']['names']} names, {found['apps']['locations']} locations")
    line("", _places(places))
    line("registered", _fact(told["specifications"], f"{told['specifications']['count']} apps"))
    line(
        "asked",
        f"{cost['requests']} times over HTTP, {size(cost['bytesRead'])} read, {cost['failed']} failures",
    )
    if found.get("store") is not None:
        store_lines(found["store"])
    for text in told["unknown"]:
        line("unknown", text)
    for row in told["disagreements"]:
        line("differs", f"{row['source']} about {row['about']}: {row['text']}")


def sources(found: dict[str, Any]) -> None:
    """Who is asked."""
    rows = [
        (
            source["address"],
            "seed" if source["seed"] else "from the list",
            source["nodes"],
            source["height"],
            source["missing"],
            source["extra"],
            duration(source["answeredAgoS"]),
            source["lastError"] or "",
        )
        for source in found["observer"]["asked"]
    ]
    click.echo()
    table(("source", "how", "nodes", "height", "lacks", "alone", "answered ago", "last error"), rows)


def _fact(fact: dict[str, Any], text: str) -> str:
    if not fact["agreed"]:
        return "unknown: no majority has told"
    return f"{text}, agreed {duration(fact['agreedAgoS'])} ago"


def _places(places: dict[str, Any]) -> str:
    confirmed = f"{places['confirmed']} confirmed, {places['contradicted']} contradicted by signed messages"
    if not places["toldBy"]:
        return f"no source has told locations; {confirmed}"
    how = "a majority of" if places["byMajority"] else "any of"
    return f"{places['unverified']} unverified, told by {how} {places['toldBy']} sources; {confirmed}"
