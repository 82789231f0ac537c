"""The same seed gives the same trace: twice in one process, and whatever PYTHONHASHSEED is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from trionode.sim.scenario import Report, run_scenario
from trionode.sim.scenarios import scenario_named

PROGRAM = """
from trionode.sim.scenario import run_scenario
from trionode.sim.scenarios import scenario_named
for name in ("restart",):
    print(name, run_scenario(scenario_named(name), seed=77, nodes=14).trace)
from pathlib import Path
from trionode.sim.runs.many import outcome_of
from trionode.sim.runs.plan import read_plan
outcome = outcome_of(read_plan(Path("tests/sim/plans/everything-at-once.json")))
print(outcome.problem, outcome.digest)
"""


def once(seed: int) -> Report:
    return run_scenario(scenario_named("restart"), seed=seed, nodes=14)


def test_same_seed_same_trace_within_a_process() -> None:
    first, second, other = once(5), once(5), once(6)
    assert (first.trace, first.trace_lines, first.virtual_s) == (
        second.trace,
        second.trace_lines,
        second.virtual_s,
    )
    assert first.trace != other.trace


@pytest.mark.process
def test_same_seed_same_trace_whatever_the_hash_seed() -> None:
    outputs = []
    for hash_seed in ("1", "2", "12345"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=False,
            timeout=550,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0].count("\n") == 2
    assert all(len(line.split()[-1]) == 64 for line in outputs[0].splitlines())
    assert len(set(outputs)) == 1
