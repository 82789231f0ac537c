"""`trionode sim`: run a scenario on a simulated network (docs/simulator.md)."""

from __future__ import annotations

import json
import random

import click

from trionode.cli import exitcodes
from trionode.cli.sim_plans import SeedRange, plan, replay, run_plans, shrink
from trionode.cli.sim_scale import command as scale
from trionode.errors import ConfigError


@click.group()
def command() -> None:
    """Run whole networks of nodes inside this process, on virtual time."""


command.add_command(scale)


for subcommand in (plan, replay, shrink):
    command.add_command(subcommand)


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
@click.argument("name", required=False)
@click.option("--seeds", type=SeedRange(), help="Runs with all these seeds.")
@click.option("--jobs", type=click.IntRange(1, 256), help="So many processes; default: one per processor.")
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
def run(
    name: str | None,
    seeds: tuple[int, int] | None,
    jobs: int | None,
    seed: int | None,
    nodes: int | None,
    trace_lines: int,
    as_json: bool,
) -> int:
    """Run the scenario NAME once and say how it went; without a name, randomised runs."""
    if name is None:
        if nodes is not None:
            raise ConfigError("the plan says how many nodes there are", remedy="leave out --nodes")
        return run_plans(seed, seeds, jobs, trace_lines, as_json)
    if seeds is not None:
        if seed is not None or nodes is not None:
            raise ConfigError("--seeds goes alone", remedy="leave out --seed and --nodes")
        from trionode.sim.scenarios import scenario_named

        scenario_named(name)
        return run_plans(None, seeds, jobs, trace_lines, as_json, name)
    return run_scenario_once(name, seed, nodes, trace_lines, as_json)


def run_scenario_once(name: str, seed: int | None, nodes: int | None, trace_lines: int, as_json: bool) -> int:
    """Run a scenario and print its report."""
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
