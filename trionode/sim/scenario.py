"""What a scenario is, and how one is run: seeded, on a virtual clock, measured, replayable."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import msgspec
import trio
from trio._core import _run as trio_run

from trionode.errors import ConfigError, TrionodeError
from trionode.sim.clock import IDLE_HOOK, IdleHook, sim_clock
from trionode.sim.trace import Trace
from trionode.sim.world import World, WorldPlan
from trionode.wire import signing


class ScenarioError(TrionodeError):
    """A scenario saw something that must not be."""

    code = "scenario"


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """`story` breaks and awaits things in a world built by `plan`; it fails by raising."""

    name: str
    summary: str
    story: Callable[[World], Awaitable[None]]
    plan: WorldPlan = WorldPlan()
    min_nodes: int = 4


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was like."""

    scenario: str
    seed: int
    nodes: int
    virtual_s: float
    real_s: float
    delivered: int
    checks: int
    trace: str
    trace_lines: int

    @property
    def speed(self) -> float:
        """Virtual seconds per real second."""
        return self.virtual_s / self.real_s if self.real_s else 0.0


class RunFailed(TrionodeError):
    """A scenario failed. The message holds seed and virtual time, the remedy the replay command."""

    code = "sim"

    def __init__(self, message: str, *, remedy: str, trace: list[str]) -> None:
        super().__init__(message, remedy=remedy)
        self.trace = trace


def replay_command(name: str, seed: int, nodes: int) -> str:
    """The command line that runs the very same events again."""
    return f"trionode sim run {name} --seed {seed} --nodes {nodes}"


@contextmanager
def deterministic_scheduling(seed: int) -> Iterator[None]:
    """Let Trio's scheduler draw its order from `seed`. The hook is the one Hypothesis and pytest-trio use."""
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    state = trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(seed)
    # Collections at the usual rate look at the whole world again and again: a tenth of the time.
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]
        trio_run._r.setstate(state)


@contextmanager
def shared_signature_checks() -> Iterator[None]:
    """Every node checks every signature, with the same outcome: within one run it is computed once."""
    before = signing.recover
    signing.recover = lru_cache(maxsize=16_384)(before)
    try:
        yield
    finally:
        signing.recover = before


def run_scenario(scenario: Scenario, *, seed: int, nodes: int | None = None, replay: str = "") -> Report:
    """Run one scenario to its end. Raises RunFailed, or ConfigError for too few nodes.

    `replay`: the command that runs it again, if it is not that of a scenario.
    """
    plan = scenario.plan
    if nodes is not None:
        if nodes < scenario.min_nodes:
            raise ConfigError(
                f"scenario {scenario.name!r} needs at least {scenario.min_nodes} nodes, not {nodes}",
                remedy=f"give --nodes {scenario.min_nodes} or more",
            )
        plan = msgspec.structs.replace(plan, nodes=nodes)
    worlds: list[World] = []
    end_s = 0.0
    hook = IdleHook()

    async def main() -> None:
        nonlocal end_s
        IDLE_HOOK.set(hook)
        async with World.open(plan, seed=seed) as world:
            worlds.append(world)
            try:
                await scenario.story(world)
                world.note("end of the story")
                if world.checks is not None:
                    world.checks.whole(world.nodes)
            finally:
                # Before the nodes say goodbye, which takes time as well.
                end_s = trio.current_time()

    start = time.perf_counter()
    try:
        with deterministic_scheduling(seed), shared_signature_checks():
            trio.run(main, clock=sim_clock(hook), strict_exception_groups=True)
    except Exception as error:
        trace = worlds[0].trace if worlds else Trace()
        raise RunFailed(
            f"scenario {scenario.name} with seed {seed} and {plan.nodes} nodes failed "
            f"at virtual second {end_s:.3f}: {cause_of(error)}",
            remedy=f"replay it with `{replay or replay_command(scenario.name, seed, plan.nodes)}`",
            trace=trace.last(),
        ) from error
    world = worlds[0]
    return Report(
        scenario=scenario.name,
        seed=seed,
        nodes=plan.nodes,
        virtual_s=end_s,
        real_s=time.perf_counter() - start,
        delivered=world.network.delivered,
        checks=world.checks.count if world.checks is not None else 0,
        trace=world.trace.digest,
        trace_lines=world.trace.lines,
    )


def cause_of(error: BaseException) -> str:
    """The first single error inside nested groups, with its notes; that of a node, which has some, first."""
    notes: list[str] = []
    while isinstance(error, BaseExceptionGroup):
        notes += getattr(error, "__notes__", [])
        error = next((one for one in error.exceptions if _has_notes(one)), error.exceptions[0])
    text = error.one_line() if isinstance(error, TrionodeError) else f"{type(error).__name__}: {error}"
    notes += getattr(error, "__notes__", [])
    return " ".join([text, *(f"({note})" for note in notes)])


def _has_notes(error: BaseException) -> bool:
    if getattr(error, "__notes__", None):
        return True
    return isinstance(error, BaseExceptionGroup) and any(map(_has_notes, error.exceptions))
