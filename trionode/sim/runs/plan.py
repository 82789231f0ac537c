"""A randomised run as plain data: who is there, what goes wrong and when, and how long calm must last.

Plans are JSON texts, so that one that failed can be kept, read and cut down. Everything else of a run
(latencies, order of tasks, keys) descends from `seed`. Times are virtual seconds from the start.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from trionode.errors import ConfigError
from trionode.sim.chainfaults import Mode
from trionode.sim.conditions import BlockMeans, Conditions, LossMeans

Ending = Literal["kill", "power", "stop", "sigterm"]
"""kill -9; the machine without power; an orderly end (SIGINT); SIGTERM of a machine that goes down."""

Trick = Literal[
    "forge",
    "replay",
    "relabel",
    "evict",
    "flood",
    "hollow",
    "twofaced",
    "future",
    "oversize",
    "empty",
    "hoard",
]
"""What a liar does; `sim.runs.liars` says how."""


class Step(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", omit_defaults=True):
    """Something that happens at a time."""

    at_s: float

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes it is about."""
        return ()

    def renumbered(self, number_of: Callable[[int], int]) -> Step:
        """The same about nodes with other numbers."""
        return self


class NodeStep(Step, frozen=True, kw_only=True):
    """Something that happens to one node."""

    node: int

    @property
    def nodes(self) -> tuple[int, ...]:
        return (self.node,)

    def renumbered(self, number_of: Callable[[int], int]) -> Step:
        return msgspec.structs.replace(self, node=number_of(self.node))


class Apps(NodeStep, frozen=True, kw_only=True, tag="apps"):
    """From now on exactly these apps run on the node."""

    names: tuple[str, ...]


class Join(NodeStep, frozen=True, kw_only=True, tag="join"):
    """A node that was not there starts for the first time."""


class Down(NodeStep, frozen=True, kw_only=True, tag="down"):
    """A node goes. `for_s` None: for ever; else it starts again, at the end of the faults at the latest."""

    how: Ending = "kill"
    for_s: float | None = 60.0
    disk_lost: bool = False


class Skew(NodeStep, frozen=True, kw_only=True, tag="skew"):
    """A wall clock jumps."""

    skew_ms: int


class Daemons(NodeStep, frozen=True, kw_only=True, tag="daemons"):
    """The chain daemons of a node fail in some way."""

    mode: Mode
    for_s: float
    delay_ms: int = 0


class Unlist(NodeStep, frozen=True, kw_only=True, tag="unlist"):
    """The chain takes a node off its list; `for_s` None: for ever."""

    for_s: float | None


class Unconfirm(NodeStep, frozen=True, kw_only=True, tag="unconfirm"):
    """The chain says EXPIRED to a node."""

    for_s: float


class Cut(Step, frozen=True, kw_only=True, tag="cut"):
    """These nodes are cut off from all others; with `one_way` only what they send is lost."""

    among: tuple[int, ...]
    for_s: float
    one_way: bool = False
    means: BlockMeans = "hold"

    @property
    def nodes(self) -> tuple[int, ...]:
        return self.among

    def renumbered(self, number_of: Callable[[int], int]) -> Step:
        return msgspec.structs.replace(self, among=tuple(map(number_of, self.among)))


class Break(Step, frozen=True, kw_only=True, tag="break"):
    """The links between two nodes break; both see 1006."""

    between: tuple[int, int]

    @property
    def nodes(self) -> tuple[int, ...]:
        return self.between

    def renumbered(self, number_of: Callable[[int], int]) -> Step:
        first, second = self.between
        return msgspec.structs.replace(self, between=(number_of(first), number_of(second)))


class Storm(Step, frozen=True, kw_only=True, tag="storm"):
    """Messages are lost, doubled and overtaken everywhere."""

    for_s: float
    loss: float = 0.0
    loss_means: LossMeans = "vanish"
    duplicate: float = 0.0
    reorder: float = 0.0


AnyStep: TypeAlias = Apps | Join | Down | Skew | Daemons | Unlist | Unconfirm | Cut | Break | Storm


class LiarPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A hostile host. A listed one has a place and a key in the node list, so its signature counts."""

    number: int
    tricks: tuple[Trick, ...]
    listed: bool = True
    dials: int = 3
    """How many nodes it dials; the others find it by themselves if it is listed."""
    pause_s: float = 5.0
    until_s: float | None = None
    """None: it goes on to the end."""


class RunPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One randomised run. Faults happen until `weather_s`; then everything heals and calm is judged."""

    seed: int
    because: str = ""
    """Why this plan is kept, in a sentence."""
    nodes: int = 16
    late: tuple[int, ...] = ()
    """Nodes that are not there at the start."""
    skews_ms: tuple[int, ...] = ()
    """How wrong each node's clock is at the start; missing ones are right."""
    apps: tuple[tuple[str, ...], ...] = ()
    """What runs on each node at the start."""
    time_scale: float = 0.1
    """What expires and repeats takes this share of its time in the real network."""
    block_interval_s: float = 30.0
    latency_max_ms: int = 60
    outbound: int = 4
    """Neighbours a node dials; there are as many that dial it, and some at random."""
    weather_s: float = 420.0
    steps: tuple[AnyStep, ...] = ()
    liars: tuple[LiarPlan, ...] = ()

    @property
    def conditions(self) -> Conditions:
        """The weather outside of storms."""
        return Conditions(latency_max_ms=self.latency_max_ms, pong_grid_ms=50)

    def skew_ms(self, node: int) -> int:
        """How wrong the clock of a node is at the start."""
        return self.skews_ms[node] if node < len(self.skews_ms) else 0

    def apps_of(self, node: int) -> tuple[str, ...]:
        """What runs on a node at the start."""
        return self.apps[node] if node < len(self.apps) else ()

    @property
    def text(self) -> str:
        """The plan as JSON, a step a line."""
        fields: dict[str, object] = msgspec.to_builtins(self)
        lines = []
        for name, value in fields.items():
            shown = _json(value)
            if name in ("steps", "liars") and isinstance(value, (list, tuple)) and value:
                shown = "[\n  " + ",\n  ".join(map(_json, value)) + "\n ]"
            lines.append(f" {_json(name)}: {shown}")
        return "{\n" + ",\n".join(lines) + "\n}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def read_plan(path: Path) -> RunPlan:
    """A plan from its file. Raises ConfigError."""
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=RunPlan)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", remedy="name a plan file") from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"{path} is no plan: {error}", remedy="use a file written by `trionode sim shrink`"
        ) from error
    check_plan(plan, str(path))
    return plan


def check_plan(plan: RunPlan, where: str) -> None:
    """Raises ConfigError when a plan names nodes that it does not have."""
    named = {node for step in plan.steps for node in step.nodes} | set(plan.late)
    strangers = sorted(node for node in named if not 0 <= node < plan.nodes)
    if strangers or plan.nodes < 2:
        raise ConfigError(
            f"{where}: a plan of {plan.nodes} nodes speaks of node {strangers[0] if strangers else 0}",
            remedy="count nodes from 0, and have at least two",
        )
