"""`trionode observe`: follow the network without being a node of it (docs/observer.md)."""

from __future__ import annotations

import click

from trionode.cli.context import Invocation

FOLDER = "observer"
"""Within the data folder: a node on the same machine has an event log of its own."""


@click.command()
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    metavar="HOST[:PORT]",
    help="A node to ask first; best name three of different operators. Default: observer.seeds.",
)
@click.option("--api-port", type=int, help="Port of the API; also told to the nodes that are dialled.")
@click.option("--bind", metavar="ADDRESS", help="Local address to listen on and to call from.")
@click.option("--data-dir", metavar="DIR", help="The event log goes to DIR/observer.")
@click.option("--memory", is_flag=True, help="Keep nothing on disk.")
@click.pass_obj
def command(
    invocation: Invocation,
    seeds: tuple[str, ...],
    api_port: int | None,
    bind: str | None,
    data_dir: str | None,
    memory: bool,
) -> None:
    """Follow the network without daemon, key or collateral, until SIGTERM or Ctrl-C.

    Node list and height are what the majority of several nodes says; who runs what is told by signed
    messages over at most four links. Nothing is ever signed or announced.
    """
    flags = {
        "node.api_port": api_port,
        "node.bind_host": bind,
        "node.data_dir": data_dir,
        "store.url": "memory:" if memory else None,
    }
    loaded = invocation.load({key: value for key, value in flags.items() if value is not None})
    settings = loaded.settings
    wanted = seeds or settings.observer.seeds
    if not wanted:
        raise click.UsageError(
            "name at least one node with --seed HOST:PORT (best three of different operators)"
        )

    from trionode.config.paths import data_dir as data_folder
    from trionode.observer.sources import seed_target
    from trionode.observer.votes import LEAST_SOURCES
    from trionode.runtime.logs import get_logger, set_up_logs

    hosts = {seed_target(seed)[0] for seed in wanted}
    folder = data_folder(settings) / FOLDER
    set_up_logs(settings.log)
    log = get_logger("observe")
    for note in loaded.notes:
        log.warning("setting without effect", key=note.key, where=note.where, why=note.why)
    if len(hosts) < LEAST_SOURCES:
        log.warning(
            "all that follows rests on what these seeds say",
            hosts=len(hosts),
            remedy=f"name {LEAST_SOURCES} nodes of different operators",
        )

    import trio

    from trionode.observer.process import run_observer

    trio.run(run_observer, settings, list(wanted), folder)
