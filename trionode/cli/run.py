"""`trionode run`: check all that can be checked at once, then run the node until it is told to stop."""

from __future__ import annotations

from pathlib import Path

import click

from trionode.cli.context import Invocation


@click.command()
@click.option("--api-port", type=int, help="The one port of API and peers (node.api_port).")
@click.option("--bind", metavar="ADDRESS", help="Local address to listen on (node.bind_host).")
@click.option("--data-dir", metavar="DIR", help="Folder for everything the node writes (node.data_dir).")
@click.option("--check", "only_check", is_flag=True, help="Only run the checks of a start, then end.")
@click.pass_obj
def command(
    invocation: Invocation, api_port: int | None, bind: str | None, data_dir: str | None, only_check: bool
) -> None:
    """Run the node until SIGTERM or Ctrl-C; a second one cuts the orderly stop short."""
    flags = {"node.api_port": api_port, "node.bind_host": bind, "node.data_dir": data_dir}
    loaded = invocation.load({key: value for key, value in flags.items() if value is not None})
    settings = loaded.settings

    from trionode.cli.preflight import check_all

    ready = check_all(settings, invocation.env, Path.home())
    if only_check:
        if ready.away is not None:
            raise ready.away
        for warning in ready.warnings:
            click.echo(f"warning: {warning}", err=True)
        for note in loaded.notes:
            click.echo(f"warning: {note.one_line()}", err=True)
        click.echo(f"ready to start as {ready.key.address} (key from {ready.key_source})")
        return

    from trionode.runtime.logs import get_logger, set_up_logs

    set_up_logs(settings.log)
    log = get_logger("run")
    log.info(
        "starting",
        config=", ".join(loaded.files) or "defaults",
        port=settings.node.api_port,
        key=ready.key.address,
        key_from=ready.key_source,
    )
    if ready.away is not None:
        log.error(ready.away.message, remedy=ready.away.remedy)
    for warning in ready.warnings:
        log.warning(warning)
    for note in loaded.notes:
        log.warning("setting without effect", key=note.key, where=note.where, why=note.why)

    import trio

    from trionode.process import run_node

    trio.run(run_node, settings, ready.key, ready.conf)
