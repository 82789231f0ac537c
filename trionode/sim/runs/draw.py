"""Draw a plan from a seed: which network, which troubles, and when.

The numbers are chosen so that most runs are small and short, every kind of trouble is common, and a
network is left in which honest nodes can agree again: clocks are at most 110 s apart, because the
network itself refuses messages from more than 120 s ahead (docs/spec/wire.md §9).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import get_args

from trionode.sim.chainfaults import Mode
from trionode.sim.runs.plan import (
    AnyStep,
    Apps,
    Break,
    Cut,
    Daemons,
    Down,
    Ending,
    Join,
    LiarPlan,
    RunPlan,
    Skew,
    Storm,
    Trick,
    Unconfirm,
    Unlist,
)

MAX_SKEW_MS = 90_000
MAX_APART_MS = 110_000
FIRST_S = 60.0
"""Troubles begin when the nodes have found each other."""

TRICKS: tuple[Trick, ...] = get_args(Trick)
ENDINGS: tuple[Ending, ...] = get_args(Ending)


def draw_plan(seed: int) -> RunPlan:
    """The plan of this seed."""
    rng = random.Random(f"plan {seed}")
    nodes = _size(rng)
    weather_s = float(rng.randrange(140, 261, 20))
    scale = rng.choices((0.06, 0.1, 0.2), (16, 4, 1))[0]
    late = tuple(sorted(rng.sample(range(nodes), rng.choice((0, 0, 0, 1, 1, 2)))))
    drawer = _Drawer(rng, nodes, weather_s, _skews(rng, nodes))
    steps: list[AnyStep] = [Join(at_s=drawer.time(), node=node) for node in late]
    steps += [drawer.step() for _ in range(rng.randrange(3, 13))]
    return RunPlan(
        seed=seed,
        nodes=nodes,
        late=late,
        skews_ms=drawer.skews_ms,
        apps=tuple(drawer.app_names() for _ in range(nodes)),
        time_scale=scale,
        latency_max_ms=rng.choice((20, 60, 60, 200, 400)),
        outbound=rng.choice((3, 3, 4, 5, 8)),
        weather_s=weather_s,
        steps=tuple(sorted(steps, key=lambda step: step.at_s)),
        liars=_liars(rng, weather_s),
    )


def _size(rng: random.Random) -> int:
    lowest, highest = rng.choices(
        ((16, 17), (18, 24), (25, 48), (49, 100), (101, 200)), (800, 160, 36, 3, 1)
    )[0]
    return rng.randint(lowest, highest)


def _skews(rng: random.Random, nodes: int) -> tuple[int, ...]:
    if rng.random() < 0.5:
        return tuple(rng.randint(-2_000, 2_000) for _ in range(nodes))
    lowest = rng.randint(-MAX_SKEW_MS, MAX_SKEW_MS - MAX_APART_MS)
    return tuple(rng.randint(lowest, lowest + MAX_APART_MS) for _ in range(nodes))


def _liars(rng: random.Random, weather_s: float) -> tuple[LiarPlan, ...]:
    count = rng.choice((0, 0, 0, 1, 1, 2))
    return tuple(
        LiarPlan(
            number=number,
            tricks=tuple(rng.sample(TRICKS, rng.randint(1, 4))),
            listed=rng.random() < 0.7,
            dials=rng.randint(1, 6),
            pause_s=float(rng.choice((5, 10, 30))),
            until_s=rng.choice((None, weather_s)),
        )
        for number in range(count)
    )


class _Drawer:
    """Draws steps for one plan."""

    def __init__(self, rng: random.Random, nodes: int, weather_s: float, skews_ms: tuple[int, ...]) -> None:
        self.rng = rng
        self.nodes = nodes
        self.weather_s = weather_s
        self.skews_ms = skews_ms
        self._names = max(4, nodes // 3)
        self._kinds: tuple[tuple[Callable[[], AnyStep], int], ...] = (
            (self._apps, 6),
            (self._down, 6),
            (self._cut, 4),
            (self._storm, 3),
            (self._daemons, 3),
            (self._unlist, 2),
            (self._unconfirm, 2),
            (self._break, 3),
            (self._skew, 1),
        )

    def step(self) -> AnyStep:
        kinds, weights = zip(*self._kinds, strict=True)
        chosen: Callable[[], AnyStep] = self.rng.choices(kinds, weights)[0]
        return chosen()

    def time(self) -> float:
        return round(self.rng.uniform(FIRST_S, self.weather_s), 1)

    def app_names(self) -> tuple[str, ...]:
        count = self.rng.choice((0, 0, 0, 1, 2, 3))
        return tuple(f"app{number}" for number in sorted(self.rng.sample(range(self._names), count)))

    def _node(self) -> int:
        return self.rng.randrange(self.nodes)

    def _length(self, longest_s: float = 300.0) -> float:
        return round(self.rng.choice((5.0, 30.0, 90.0, longest_s)) * self.rng.uniform(0.5, 1.0), 1)

    def _maybe_for_ever(self) -> float | None:
        return None if self.rng.random() < 0.15 else self._length()

    def _apps(self) -> AnyStep:
        # some change while calm is judged
        late_s = self.weather_s + 200 if self.rng.random() < 0.2 else 0.0
        return Apps(at_s=self.time() + late_s, node=self._node(), names=self.app_names())

    def _down(self) -> AnyStep:
        how = self.rng.choice(ENDINGS)
        return Down(
            at_s=self.time(),
            node=self._node(),
            how=how,
            for_s=self._maybe_for_ever(),
            disk_lost=how in ("kill", "power") and self.rng.random() < 0.3,
        )

    def _cut(self) -> AnyStep:
        rng = self.rng
        size = rng.choice((1, 1, 2, self.nodes // 4, self.nodes // 2))
        return Cut(
            at_s=self.time(),
            among=tuple(sorted(rng.sample(range(self.nodes), size))),
            for_s=self._length(),
            one_way=rng.random() < 0.25,
            means=rng.choice(("hold", "hold", "vanish")),
        )

    def _storm(self) -> AnyStep:
        rng = self.rng
        return Storm(
            at_s=self.time(),
            for_s=self._length(),
            loss=rng.choice((0.0, 0.02, 0.2)),
            loss_means=rng.choice(("vanish", "vanish", "retransmit", "reset")),
            duplicate=rng.choice((0.0, 0.05)),
            reorder=rng.choice((0.0, 0.1)),
        )

    def _daemons(self) -> AnyStep:
        mode = self.rng.choice((Mode.DOWN, Mode.DOWN, Mode.SLOW, Mode.GARBAGE, Mode.WRONG, Mode.HALF_BATCH))
        delay_ms = self.rng.choice((500, 8_000, 60_000)) if mode is Mode.SLOW else 0
        return Daemons(
            at_s=self.time(), node=self._node(), mode=mode, for_s=self._length(), delay_ms=delay_ms
        )

    def _unlist(self) -> AnyStep:
        return Unlist(at_s=self.time(), node=self._node(), for_s=self._maybe_for_ever())

    def _unconfirm(self) -> AnyStep:
        return Unconfirm(at_s=self.time(), node=self._node(), for_s=self._length())

    def _break(self) -> AnyStep:
        first, second = self.rng.sample(range(self.nodes), 2)
        return Break(at_s=self.time(), between=(first, second))

    def _skew(self) -> AnyStep:
        node = self._node()
        # a small jump, so that clocks stay near each other
        return Skew(
            at_s=self.time(), node=node, skew_ms=self.skews_ms[node] + self.rng.randint(-4_000, 4_000)
        )
