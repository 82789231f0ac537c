"""Cuts a failing plan down: whatever can go while it still fails, goes.

What is tried, again and again until nothing more can be left out: halves and single steps, liars and their
tricks, nodes (those that nothing is said about first), clock errors, apps, and time. Another failure than
the first counts as well: a small plan that fails in any way is worth more than a large one that fails in
the right one. Each try is a whole run, so the number of tries is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from trionode.sim.runs.plan import Join, RunPlan

MAX_TRIES = 400
FEWEST_NODES = 4

Fails = Callable[[RunPlan], bool]


def shrink(plan: RunPlan, fails: Fails, *, max_tries: int = MAX_TRIES) -> RunPlan:
    """The smallest plan found that still fails. `plan` itself is known to fail."""
    tries = 0
    while True:
        for smaller in smaller_plans(plan):
            if tries >= max_tries:
                return plan
            tries += 1
            if fails(smaller):
                plan = smaller
                break
        else:
            return plan


def smaller_plans(plan: RunPlan) -> Iterator[RunPlan]:
    """Plans with a little less in them, the boldest cuts first."""
    change = msgspec.structs.replace
    steps, liars = plan.steps, plan.liars
    if liars:
        yield change(plan, liars=())
    if any(plan.skews_ms):
        yield change(plan, skews_ms=())
    yield from _fewer_nodes(plan)
    size = len(steps)
    width = size
    while width:
        for start in range(0, size, width):
            yield _without_steps(plan, start, start + width)
        width //= 2
    if len(liars) > 1:
        for liar in liars:
            yield change(plan, liars=tuple(other for other in liars if other is not liar))
    for place, liar in enumerate(liars):
        for trick in liar.tricks if len(liar.tricks) > 1 else ():
            left = change(liar, tricks=tuple(other for other in liar.tricks if other != trick))
            yield change(plan, liars=(*liars[:place], left, *liars[place + 1 :]))
    for number, names in enumerate(plan.apps):
        if names:
            yield change(plan, apps=(*plan.apps[:number], (), *plan.apps[number + 1 :]))
    if plan.latency_max_ms > 20:
        yield change(plan, latency_max_ms=20)


def _without_steps(plan: RunPlan, start: int, end: int) -> RunPlan:
    steps = (*plan.steps[:start], *plan.steps[end:])
    joining = {step.nodes[0] for step in steps if isinstance(step, Join)}
    return msgspec.structs.replace(
        plan, steps=steps, late=tuple(number for number in plan.late if number in joining)
    )


def _fewer_nodes(plan: RunPlan) -> Iterator[RunPlan]:
    """Fewer nodes; those that the steps speak of keep their places as long as possible."""
    named = sorted({node for step in plan.steps for node in step.nodes} | set(plan.late))
    for count in dict.fromkeys((FEWEST_NODES, plan.nodes // 2, plan.nodes - 1)):
        if FEWEST_NODES <= count < plan.nodes:
            others = [number for number in range(plan.nodes) if number not in named]
            yield keep_nodes(plan, sorted((named + others)[:count]))


def keep_nodes(plan: RunPlan, kept: list[int]) -> RunPlan:
    """The plan with only these nodes, numbered anew; steps about others go."""
    number_of = {old: new for new, old in enumerate(kept)}
    steps = [
        step.renumbered(number_of.__getitem__)
        for step in plan.steps
        if all(node in number_of for node in step.nodes)
    ]
    return msgspec.structs.replace(
        plan,
        nodes=len(kept),
        late=tuple(number_of[node] for node in plan.late if node in number_of),
        skews_ms=tuple(plan.skew_ms(old) for old in kept) if plan.skews_ms else (),
        apps=tuple(plan.apps_of(old) for old in kept),
        steps=tuple(steps),
    )
