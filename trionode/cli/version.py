"""`trionode version`: what this is and what it tells the network."""

from __future__ import annotations

import json
import platform

import click

from trionode import __version__


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(as_json: bool) -> None:
    """Say which version this is, what it reports to peers, and on what it runs."""
    from trionode.config.core import NodeSettings

    facts = {
        "version": __version__,
        "compatibility_version": NodeSettings().compatibility_version,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"trionode {facts['version']} (reports {facts['compatibility_version']} to peers), "
            f"Python {facts['python']}, {facts['system']}"
        )
