"""Runs many plans, several at a time in processes of their own, and cuts failing ones down.

Every run is a function of its plan alone, so processes only make it faster.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import msgspec

from trionode.runtime.logs import ROOT as LOG_ROOT
from trionode.sim.runs.carry import carry_out
from trionode.sim.runs.draw import draw_plan
from trionode.sim.runs.plan import RunPlan
from trionode.sim.scenario import Report, RunFailed


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
    start = time.perf_counter()
    try:
        report: Report = carry_out(plan, replay=replay or replay_command(plan.seed))
    except RunFailed as error:
        return Outcome(
            seed=plan.seed,
            nodes=plan.nodes,
            problem=error.message,
            remedy=error.remedy or "",
            trace=tuple(error.trace),
            real_s=time.perf_counter() - start,
        )
    return Outcome(
        seed=plan.seed,
        nodes=plan.nodes,
        virtual_s=report.virtual_s,
        real_s=report.real_s,
        checks=report.checks,
        digest=report.trace,
    )


def run_seeds(seeds: Sequence[int], jobs: int) -> Iterator[Outcome]:
    """The outcomes of the drawn plans, as they come."""
    if jobs <= 1 or len(seeds) <= 1:
        for seed in seeds:
            yield outcome_of(draw_plan(seed))
        return
    # The longest first, so that no process is left alone with them at the end.
    order = sorted(seeds, key=lambda seed: -draw_plan(seed).nodes)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=silence_logs, max_tasks_per_child=50
    ) as pool:
        waiting = {pool.submit(_of_seed, seed) for seed in order}
        try:
            for future in as_completed(waiting):
                yield future.result()
        finally:
            for future in waiting:
                future.cancel()


def _of_seed(seed: int) -> Outcome:
    return outcome_of(draw_plan(seed))


def silence_logs() -> None:
    """The nodes of a run write no log lines: what matters is in the outcome and the trace."""
    logging.getLogger(LOG_ROOT).setLevel(logging.CRITICAL + 1)


def default_jobs() -> int:
    """As many processes as the machine has processors for us."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
