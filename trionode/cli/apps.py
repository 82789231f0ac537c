"""`trionode apps`: what runs where, and what is registered, as this node sees it (docs/cli.md).

`trionode apps [NAME]` tells what runs; the words below it what was registered, by whom, for how long and
what it would cost.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from trionode.cli.client import NodeRefused, api_of, api_option
from trionode.cli.render import line, plain, show_json, table

NODES_SHOWN = 4
SAT_PER_FLUX = 100_000_000


class AppsGroup(click.Group):
    """A first word that is no subcommand is the name of an app: `trionode apps shop`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["running", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Options before any word belong to `running` too; only --help is the group's own.
        if not any(word in self.commands or word in ("-h", "--help") for word in args[:1]):
            args = ["running", *args]
        return super().parse_args(ctx, args)


@click.group(cls=AppsGroup)
def command() -> None:
    """What runs where (`apps [NAME]`), and what is registered.

    For an app whose name is one of the words below: `apps running NAME`.
    """


@command.command()
@click.argument("name", required=False)
@api_option
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON.")
def running(name: str | None, api: str | None, as_json: bool) -> None:
    """List all apps that run, or the instances of the app NAME (any letter case)."""
    rows = api_of(api).get("/trionode/apps", {"name": name})
    if as_json:
        show_json(rows)
    elif name is None:
        headings: tuple[str, ...] = ("app", "instances", "specs", "nodes", "newest announcement")
        shown: list[tuple[Any, ...]] = [
            (row["name"], row["instances"], len(row["hashes"]), _some(row["nodes"]), row["newest"])
            for row in rows
        ]
        # Only observers have locations that nobody has signed for.
        if any("unverified" in row for row in rows):
            headings = (*headings, "unverified")
            shown = [(*cells, row["unverified"]) for cells, row in zip(shown, rows, strict=True)]
        table(headings, shown, title=f"{len(rows)} apps")
    else:
        rows.sort(key=lambda row: row["ip"])
        shown_instances: list[tuple[Any, ...]] = [
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
        if any("unverified" in row for row in rows):
            headings = (*headings, "signed")
            shown_instances = [
                (*cells, "unverified" if row["unverified"] else "yes")
                for cells, row in zip(shown_instances, rows, strict=True)
            ]
        table(headings, shown_instances, title=f"{len(rows)} instances of {name}")


@command.command("list")
@api_option
@click.option("--owner", metavar="FLUXID", help="Only apps of this owner.")
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON.")
def list_(api: str | None, owner: str | None, as_json: bool) -> None:
    """List the apps that are registered and paid."""
    rows = api_of(api).get("/trionode/registered", {"owner": owner})
    if as_json:
        show_json(rows)
        return
    shown = [
        (
            row["name"],
            row["version"],
            row["owner"],
            row["instances"],
            row["locations"],
            row["height"],
            row["endHeight"],
        )
        for row in rows
    ]
    headings = ("app", "version", "owner", "wanted", "running", "paid at", "ends at")
    table(headings, shown, title=f"{len(rows)} registered apps")


@command.command()
@click.argument("name")
@api_option
@click.option("--json", "as_json", is_flag=True, help="The specification as JSON.")
def show(name: str, api: str | None, as_json: bool) -> None:
    """Show the specification of the app NAME (any letter case) that is in force."""
    node = api_of(api)
    rows = node.get("/trionode/registered", {"name": name})
    if not rows:
        raise NodeRefused(
            f"{node.url} knows no app {name!r} that is in force",
            remedy=f"see `trionode apps history {name}`, or `trionode hashes` for what is missing",
        )
    spec = node.get("/apps/appspecifications", {"appname": name})
    if as_json:
        show_json(spec)
        return
    row = rows[0]
    line("app", f"{row['name']}, specification version {row['version']}")
    line("about", str(spec.get("description", "")))
    line("owner", row["owner"])
    line("hash", row["hash"])
    line("paid at", f"block {row['height']}, ends at block {row['endHeight']}")
    line("instances", f"{row['locations']} running of {row['instances'] or 'any number'}")
    if spec.get("enterprise"):
        line("inside", "encrypted: only Arcane nodes can open it")
    parts = spec.get("compose") or ([spec] if "repotag" in spec else [])
    rows_shown = [
        (part["name"], part["repotag"], part["cpu"], part["ram"], part["hdd"], _ports(part)) for part in parts
    ]
    if rows_shown:
        click.echo()
        table(("component", "image", "cpu", "ram MB", "hdd GB", "ports"), rows_shown)


def _ports(part: dict[str, Any]) -> str:
    ports = part.get("ports", part.get("port"))
    return " ".join(str(port) for port in (ports if isinstance(ports, list) else [ports]))


@command.command()
@click.argument("name")
@api_option
@click.option("--json", "as_json", is_flag=True, help="The messages as JSON.")
def history(name: str, api: str | None, as_json: bool) -> None:
    """List every paid registration and update of the app NAME."""
    rows = api_of(api).get("/trionode/history", {"name": name})
    if as_json:
        show_json(rows)
        return
    shown = [
        (
            row["height"],
            row["type"],
            row["appSpecifications"].get("owner"),
            row["appSpecifications"].get("expire"),
            f"{row['valueSat'] / SAT_PER_FLUX:g}",
            row["hash"][:12],
            row["txid"][:12],
        )
        for row in rows
    ]
    headings = ("block", "message", "owner", "lifetime", "paid FLUX", "hash", "transaction")
    table(headings, shown, title=f"{len(rows)} messages of {name}")


@command.command()
@click.argument("app")
@api_option
@click.option("--json", "as_json", is_flag=True, help="The price as JSON.")
def price(app: str, api: str | None, as_json: bool) -> None:
    """Say what APP would cost now: a file with a specification, or the name of a registered app.

    For a registered app it is the price of the same specification anew, less what is left of its term.
    """
    node = api_of(api)
    path = Path(app)
    if path.is_file():
        try:
            spec = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise NodeRefused(f"{app} is not JSON: {error}", remedy="give a specification in JSON") from error
    else:
        spec = node.get("/apps/appspecifications", {"appname": app})
    found = node.post("/apps/calculateprice", spec)
    if as_json:
        show_json(found)
        return
    line("dollars", f"{found['usd']}")
    discount = found["fluxDiscount"]
    told = f" ({discount} % less than in dollars)" if isinstance(discount, int) and discount else ""
    line("FLUX", f"{found['flux']}{told}")
    if isinstance(discount, str):
        click.echo(plain(discount))


def _some(nodes: list[str]) -> str:
    more = len(nodes) - NODES_SHOWN
    return " ".join(nodes[:NODES_SHOWN]) + (f" and {more} more" if more > 0 else "")
