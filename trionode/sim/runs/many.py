"""Runs many plans, several at a time in processes of their own, and cuts failing ones down.

Every run is a function of its plan alone, so processes only make it faster.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import msgspec

from trionode.runtime.logs import ROOT as LOG_ROOT
from trionode.sim.runs.carry import carry_out
from trionode.sim.runs.draw import draw_plan
from trionode.sim.runs.plan import RunPlan
from trionode.sim.scenario import Report, RunFailed, run_scenario
from trionode.sim.scenario import replay_command as scenario_command
from trionode.sim.scenarios import scenario_named


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one plan went. `problem` is empty when it passed."""

    seed: int
    nodes: int
    problem: str = ""
    remedy: str = ""
    trace: tuple[str, ...] = ()
    virtual_s: float = 0.0
    real_s: float = 0.0
    checks: int = 0
    digest: str = ""

    @property
    def passed(self) -> bool:
        return not self.problem


def replay_command(seed: int) -> str:
    """The command that runs the plan of a seed again."""
    return f"trionode sim replay --seed {seed}"


def outcome_of(plan: RunPlan, *, replay: str = "") -> Outcome:
    """Carry a plan out; what goes wrong is part of the outcome."""
    return _outcome(
        plan.seed, plan.nodes, lambda: carry_out(plan, replay=replay or replay_command(plan.seed))
    )


def outcome_of_scenario(name: str, seed: int) -> Outcome:
    """The same for a scenario with this seed. Raises ConfigError for an unknown one."""
    scenario = scenario_named(name)
    return _outcome(seed, scenario.plan.nodes, lambda: run_scenario(scenario, seed=seed))


def _outcome(seed: int, nodes: int, run: Callable[[], Report]) -> Outcome:
    start = time.perf_counter()
    try:
        with _silence():
            report = run()
    except RunFailed as error:
        return Outcome(
            seed=seed,
            nodes=nodes,
            problem=error.message,
            remedy=error.remedy or "",
            trace=tuple(error.trace),
            real_s=time.perf_counter() - start,
        )
    return Outcome(
        seed=seed,
        nodes=nodes,
        virtual_s=report.virtual_s,
        real_s=report.real_s,
        checks=report.checks,
        digest=report.trace,
    )


def run_seeds(seeds: Sequence[int], jobs: int, scenario: str = "") -> Iterator[Outcome]:
    """The outcomes of the drawn plans, or of a scenario, as they come.

    A process that dies costs only the run it was at.
    """
    if jobs <= 1 or len(seeds) <= 1:
        for seed in seeds:
            yield _run(seed, scenario)
        return
    # The longest last in the list, which is taken from its end: nobody is left alone with them.
    waiting = list(seeds) if scenario else sorted(seeds, key=lambda seed: draw_plan(seed).nodes)
    context = multiprocessing.get_context("spawn")
    at_work: dict[Connection, tuple[SpawnProcess, int]] = {}
    try:
        while waiting or at_work:
            while waiting and len(at_work) < jobs:
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, scenario), daemon=True)
                process.start()
                theirs.close()
                at_work[ours] = (process, _hand_out(ours, waiting))
            for pipe in wait(list(at_work)):
                assert isinstance(pipe, Connection)
                process, seed = at_work[pipe]
                try:
                    yield pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    yield _lost(seed, process.exitcode, scenario)
                    del at_work[pipe]
                    continue
                if waiting:
                    at_work[pipe] = (process, _hand_out(pipe, waiting))
                else:
                    del at_work[pipe]
                    pipe.close()
                    process.join()
    finally:
        for process, _ in at_work.values():
            process.kill()


def _hand_out(pipe: Connection, waiting: list[int]) -> int:
    """Give a process the next seed."""
    seed = waiting.pop()
    with contextlib.suppress(OSError):  # it has died, which its end of the pipe will tell
        pipe.send(seed)
    return seed


def _work(pipe: Connection, scenario: str) -> None:
    """Run seeds until there are no more."""
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(_run(pipe.recv(), scenario))


def _run(seed: int, scenario: str) -> Outcome:
    return outcome_of_scenario(scenario, seed) if scenario else outcome_of(draw_plan(seed))


def _lost(seed: int, code: int | None, scenario: str) -> Outcome:
    nodes = (scenario_named(scenario).plan if scenario else draw_plan(seed)).nodes
    command = scenario_command(scenario, seed, nodes) if scenario else replay_command(seed)
    return Outcome(
        seed=seed,
        nodes=nodes,
        problem=f"the process that ran seed {seed} ended with {code}",
        remedy=f"replay it with `{command}`",
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The nodes of a run write no log lines: what matters is in the outcome and the trace."""
    logger = logging.getLogger(LOG_ROOT)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def default_jobs() -> int:
    """As many processes as the machine has processors for us."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
