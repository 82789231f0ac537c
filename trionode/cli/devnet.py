"""`trionode devnet`: a local network of real nodes, with a live table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option("--nodes", type=click.IntRange(1, 60), default=4, show_default=True, help="How many nodes.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".devnet"),
    show_default=True,
    help="Where keys, settings, data and logs of the nodes live.",
)
@click.option("--offset", default=0, show_default=True, help="Nodes live at 127.<offset+i>.0.1.")
@click.option(
    "--until-agreed", is_flag=True, help="Stop as soon as all nodes agree (exit 1 if they never do)."
)
@click.option("--seconds", type=float, default=None, help="Stop after this many seconds.")
def command(nodes: int, folder: Path, offset: int, until_agreed: bool, seconds: float | None) -> None:
    """Start a local network with a stand-in chain daemon; Ctrl-C stops all of it."""
    import trio

    from trionode.devnet.network import show_until_signal

    screen = _LiveTable() if sys.stdout.isatty() else _Lines()
    folder = folder.resolve()

    async def main() -> bool:
        return await show_until_signal(
            folder,
            nodes,
            offset=offset,
            show=screen.show,
            started=_introduce,
            until_agreed=until_agreed,
            stop_after_s=seconds,
        )

    with screen:
        all_agreed = trio.run(main)
    click.echo("all nodes stopped")
    if until_agreed and not all_agreed:
        raise SystemExit(1)


def _introduce(layout: Any) -> None:
    first = layout.nodes[0]
    config = _short(first.config)
    click.echo(f"started {len(layout.nodes)} nodes and a stand-in chain daemon at {layout.stub_ip}")
    for node in layout.nodes:
        click.echo(f"  node {node.number}: API {node.api}  log {_short(node.log)}")
    click.echo("long times run 100 times faster here (appstate.time_scale = 0.01): a location lives 75 s")
    click.echo("the app `shop` is registered at one node and paid: watch it come into force on all")
    click.echo("look around, in another terminal:")
    for words in ("status", "peers", "apps", "apps show shop", "explain shop", "hashes", "events --follow"):
        click.echo(f"  trionode --config {config} {words}")
    click.echo(f"  curl {first.api}/apps/locations")
    click.echo("Ctrl-C stops everything")


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


class _Lines:
    """For pipes and logs: a line whenever something changed."""

    def __init__(self) -> None:
        self._last = ""

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, layout: Any, views: list[Any], elapsed_s: float, agree: bool) -> None:
        answering = sum(view.answers for view in views)
        links = sum(view.outbound for view in views)
        seen = min((len(view.locations) for view in views if view.answers), default=0)
        line = (
            f"{answering}/{len(views)} nodes answer, {links} links, "
            f"each of them lists at least {seen} of {len(layout.expected_locations)} locations"
        )
        if agree:
            line = f"all {len(views)} nodes agree on {len(layout.expected_locations)} locations"
        known = frozenset[str].intersection(*(view.registered for view in views))
        if known:
            line += f"; registered, known to all: {' '.join(sorted(known))}"
        if line != self._last:
            click.echo(f"[{elapsed_s:5.1f} s] {line}")
            self._last = line


class _LiveTable:
    """For a terminal: one table, redrawn."""

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(auto_refresh=False)
        self._agreed_at_s: float | None = None

    def __enter__(self) -> _LiveTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, layout: Any, views: list[Any], elapsed_s: float, agree: bool) -> None:
        from rich.table import Table

        if not self._live.is_started:
            self._live.start()
        if agree and self._agreed_at_s is None:
            self._agreed_at_s = elapsed_s
        verdict = (
            f"all agree (first after {self._agreed_at_s:.1f} s)"
            if agree and self._agreed_at_s
            else "not agreed"
        )
        table = Table(title=f"local network, {elapsed_s:.0f} s, {verdict}")
        for heading in ("node", "address", "can send", "apps running", "registered"):
            table.add_column(heading)
        for heading in ("out", "in", "height", "locations"):
            table.add_column(heading, justify="right")
        for view in views:
            place = view.place
            if not view.answers:
                table.add_row(str(place.number), place.ip, "-", "does not answer", *"-----")
                continue
            names = sorted({name for name, _ in view.locations})
            table.add_row(
                str(place.number),
                place.ip,
                "yes" if view.can_send else "no",
                " ".join(names),
                " ".join(sorted(view.registered)),
                str(view.outbound),
                str(view.inbound),
                str(view.height),
                f"{len(view.locations)}/{len(layout.expected_locations)}",
            )
        self._live.update(table, refresh=True)
