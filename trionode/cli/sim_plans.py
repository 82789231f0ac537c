"""`trionode sim replay`, `shrink`, `plan`, and `run` without a name: randomised runs (docs/simulator.md)."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trionode.cli import exitcodes
from trionode.errors import ConfigError

if TYPE_CHECKING:
    from trionode.sim.runs.many import Outcome
    from trionode.sim.runs.plan import RunPlan

SHOWN_FAILURES = 10
MAX_SEEDS = 100_000
"""Five nights. All of them are put in order before the first one runs."""


class SeedRange(click.ParamType):  # type: ignore[type-arg]
    """`A-B`, both included."""

    name = "A-B"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{1,12})-(\d{1,12})", str(value))
        if found is None or int(found[1]) > int(found[2]):
            self.fail(f"{value!r} is no range of seeds, write for example 1-200", param, ctx)
        if int(found[2]) - int(found[1]) >= MAX_SEEDS:
            self.fail(f"{value!r} are too many, at most {MAX_SEEDS} seeds a time", param, ctx)
        return int(found[1]), int(found[2])


def run_plans(
    seed: int | None,
    seeds: tuple[int, int] | None,
    jobs: int | None,
    trace_lines: int,
    as_json: bool,
    scenario: str = "",
) -> int:
    """One drawn plan, or those of a range of seeds, or a scenario with each of them."""
    from trionode.sim.runs.many import default_jobs, run_seeds

    if seeds is not None:
        wanted: Sequence[int] = range(seeds[0], seeds[1] + 1)
    else:
        wanted = [seed if seed is not None else random.SystemRandom().randrange(1 << 32)]
    failed: list[Outcome] = []
    virtual_s = real_s = 0.0
    checks = 0
    for count, outcome in enumerate(run_seeds(wanted, jobs or default_jobs(), scenario), start=1):
        virtual_s += outcome.virtual_s
        real_s += outcome.real_s
        checks += outcome.checks
        if not outcome.passed:
            failed.append(outcome)
            if not as_json and len(failed) <= SHOWN_FAILURES:
                tell(outcome, trace_lines)
        if not as_json and len(wanted) > 1 and count % 50 == 0:
            click.echo(f"{count} of {len(wanted)} runs, {len(failed)} failed", err=True)
    if as_json:
        fields = ("seed", "nodes", "problem", "remedy")
        rows = [{name: getattr(outcome, name) for name in fields} for outcome in failed]
        click.echo(json.dumps({"runs": len(wanted), "checks": checks, "failed": rows}))
    else:
        which = f"seed {wanted[0]}" if len(wanted) == 1 else f"seeds {wanted[0]}-{wanted[-1]}"
        click.echo(
            f"{which}: {len(wanted) - len(failed)} passed, {len(failed)} failed; "
            f"{virtual_s:.0f} virtual seconds in {real_s:.1f} processor seconds, {checks} checks"
        )
    return exitcodes.FAILURE if failed else exitcodes.OK


def tell(outcome: Outcome, trace_lines: int) -> None:
    """What failed, and how to see it again."""
    for line in outcome.trace[-trace_lines:] if trace_lines else ():
        click.echo(line, err=True)
    click.echo(f"seed {outcome.seed}: {outcome.problem} - {outcome.remedy}", err=True)


def chosen_plan(file: Path | None, seed: int | None) -> tuple[RunPlan, str]:
    """The plan of a file or of a seed, and the command that replays it."""
    from trionode.sim.runs.draw import draw_plan
    from trionode.sim.runs.many import replay_command
    from trionode.sim.runs.plan import read_plan

    if (file is None) == (seed is None):
        raise ConfigError("which plan?", remedy="give a plan file, or --seed N")
    if file is not None:
        return read_plan(file), f"trionode sim replay {file}"
    assert seed is not None
    return draw_plan(seed), replay_command(seed)


file_argument = click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
seed_option = click.option("--seed", type=int, help="The plan drawn from this seed.")
trace_option = click.option(
    "--trace",
    "trace_lines",
    type=click.IntRange(0, 200),
    default=0,
    metavar="N",
    help="On failure, show the last N lines of the trace.",
)


@click.command("plan")
@seed_option
def plan(seed: int | None) -> int:
    """Print the plan of a randomised run as JSON."""
    click.echo(chosen_plan(None, seed)[0].text, nl=False)
    return exitcodes.OK


@click.command("replay")
@file_argument
@seed_option
@trace_option
def replay(file: Path | None, seed: int | None, trace_lines: int) -> int:
    """Carry out the plan in FILE, or of a seed, and say how it went."""
    from trionode.sim.runs.many import outcome_of

    chosen, command = chosen_plan(file, seed)
    outcome = outcome_of(chosen, replay=command)
    if not outcome.passed:
        tell(outcome, trace_lines)
        return exitcodes.FAILURE
    click.echo(
        f"passed: {outcome.nodes} nodes, {outcome.virtual_s:.0f} virtual seconds "
        f"in {outcome.real_s:.1f} real seconds, {outcome.checks} checks, trace {outcome.digest[:16]}"
    )
    return exitcodes.OK


@click.command("shrink")
@file_argument
@seed_option
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the plan here, not to stdout."
)
@click.option("--tries", type=click.IntRange(1, 100_000), default=400, help="At most so many runs.")
def shrink(file: Path | None, seed: int | None, out: Path | None, tries: int) -> int:
    """Cut a failing plan down to what is needed to make it fail."""
    from trionode.sim.runs.many import outcome_of
    from trionode.sim.runs.shrink import shrink as cut_down

    chosen, command = chosen_plan(file, seed)
    first = outcome_of(chosen, replay=command)
    if first.passed:
        raise ConfigError("this plan does not fail", remedy=f"see `{command}`")
    click.echo(f"it fails: {first.problem}", err=True)
    last = first

    def fails(smaller: RunPlan) -> bool:
        nonlocal last
        outcome = outcome_of(smaller)
        if not outcome.passed:
            last = outcome
            click.echo(
                f"still fails with {smaller.nodes} nodes, {len(smaller.steps)} steps, "
                f"{len(smaller.liars)} liars",
                err=True,
            )
        return not outcome.passed

    small = cut_down(chosen, fails, max_tries=tries)
    if out is None:
        click.echo(small.text, nl=False)
    else:
        out.write_text(small.text, encoding="utf-8")
    click.echo(f"smallest: {last.problem}", err=True)
    return exitcodes.OK
