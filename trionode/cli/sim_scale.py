"""`trionode sim scale`: how messages travel in a network of thousands of nodes (docs/scale.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

import click

from trionode.cli import exitcodes

MODE_NAMES = ("flood", "flood at once", "hash, ask all", "hash")


@click.command("scale")
@click.option(
    "--nodes",
    type=click.IntRange(20, 100_000),
    multiple=True,
    default=(8000, 15_000),
    show_default=True,
    help="Size of the network; may be given several times.",
)
@click.option(
    "--messages",
    type=click.IntRange(1, 10_000),
    default=3,
    show_default=True,
    help="Messages from random nodes, each followed alone.",
)
@click.option("--mode", "modes", type=click.Choice(MODE_NAMES), multiple=True, help="Default: all of them.")
@click.option("--seed", type=int, default=1, show_default=True, help="Fixes everything that happens.")
@click.option(
    "--apps", type=click.IntRange(0, 200), default=5, show_default=True, help="Apps a node announces."
)
@click.option(
    "--slow-share",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Share of addresses with a slow uplink.",
)
@click.option(
    "--slow-kbit",
    type=click.FloatRange(min=1),
    default=1000.0,
    show_default=True,
    help="Speed of a slow uplink, in kbit/s.",
)
@click.option(
    "--delay-factor",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Stretches the delays between all places.",
)
@click.option(
    "--latencies",
    type=click.File("rb"),
    metavar="FILE",
    help="Measured delays to draw those of the links from: what `trionode peers --json` writes.",
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Write a picture, too (PNG).")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(
    nodes: tuple[int, ...],
    messages: int,
    modes: tuple[str, ...],
    seed: int,
    apps: int,
    slow_share: float,
    slow_kbit: float,
    delay_factor: float,
    latencies: BinaryIO | None,
    plot: Path | None,
    as_json: bool,
) -> int:
    """Follow messages through a model of the whole network, relayed in different ways.

    The node's own decisions on whom to link to and whom to pass a message on, without its sockets.
    """
    import msgspec

    from trionode.sim.scale.delays import read_latencies_ms
    from trionode.sim.scale.plot import check_available, draw
    from trionode.sim.scale.report import table
    from trionode.sim.scale.spread import MODES
    from trionode.sim.scale.study import Plan, study

    if plot is not None:
        check_available()
    sample_ms = read_latencies_ms(latencies.read()) if latencies is not None else ()
    pictures = []
    for number, size in enumerate(nodes):
        plan = Plan(
            nodes=size,
            messages=messages,
            modes=tuple(mode for mode in MODES if mode in modes or not modes),
            seed=seed,
            apps=apps,
            slow_share=slow_share,
            slow_bits_s=slow_kbit * 1000,
            delay_factor=delay_factor,
            sample_ms=sample_ms,
        )
        pictures.append(study(plan))
        if not as_json:
            click.echo(("\n" if number else "") + table(pictures[-1]))
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(picture) for picture in pictures], indent=1))
    elif pictures:
        real_s = sum(picture.real_s for picture in pictures)
        click.echo(f"\nseed {seed}, {messages} messages each, {real_s:.1f} s")
    if plot is not None:
        draw(pictures, plot)
        if not as_json:
            click.echo(f"picture: {plot}")
    return exitcodes.OK
