"""`trionode sim`: run a scenario on a simulated network (docs/simulator.md)."""

from __future__ import annotations

import json
import random

import click

from trionode.cli import exitcodes
from trionode.cli.sim_scale import command as scale


@click.group()
def command() -> None:
    """Run whole networks of nodes inside this process, on virtual time."""


command.add_command(scale)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_scenarios(as_json: bool) -> None:
    """Name the scenarios there are."""
    from trionode.sim.scenarios import SCENARIOS

    if as_json:
        rows = [{"name": s.name, "summary": s.summary, "nodes": s.plan.nodes} for s in SCENARIOS.values()]
        click.echo(json.dumps(rows))
        return
    width = max(map(len, SCENARIOS))
    for scenario in SCENARIOS.values():
        click.echo(f"{scenario.name:<{width}}  {scenario.summary} ({scenario.plan.nodes} nodes)")


@command.command("run")
@click.argument("name")
@click.option("--seed", type=int, help="Fixes everything that happens; default: a random one, printed.")
@click.option(
    "--nodes", type=click.IntRange(2, 1000), help="How many nodes; default: what the scenario says."
)
@click.option(
    "--trace",
    "trace_lines",
    type=click.IntRange(0, 200),
    default=0,
    metavar="N",
    help="On failure, show the last N lines of the trace.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def run(name: str, seed: int | None, nodes: int | None, trace_lines: int, as_json: bool) -> int:
    """Run the scenario NAME once and say how it went."""
    import msgspec

    from trionode.sim.scenario import RunFailed, run_scenario
    from trionode.sim.scenarios import scenario_named

    scenario = scenario_named(name)
    chosen = seed if seed is not None else random.SystemRandom().randrange(1 << 32)
    if not as_json:
        click.echo(f"scenario {name}: {scenario.summary}")
        click.echo(f"seed {chosen}")
    try:
        report = run_scenario(scenario, seed=chosen, nodes=nodes)
    except RunFailed as error:
        for line in error.trace[-trace_lines:] if trace_lines else ():
            click.echo(line, err=True)
        raise
    if as_json:
        click.echo(json.dumps({**msgspec.to_builtins(report), "speed": round(report.speed, 1)}))
        return exitcodes.OK
    click.echo(
        f"passed: {report.nodes} nodes, {report.virtual_s:.0f} virtual seconds in {report.real_s:.2f} real "
        f"seconds ({report.speed:.0f} virtual seconds per real second)"
    )
    click.echo(f"{report.delivered} deliveries, {report.checks} checks, trace {report.trace[:16]}")
    return exitcodes.OK
