"""One step of the orchestrator under way, and what a row of its table is (`lifecycle.orchestrator`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from trionode.lifecycle.phases import Effect, Facts, Phase, Publish, State

CHECK = "readiness check"
CHAIN_READ = "chain read to its tip"
CAPABILITY_LOST = "capability lost"
PEERS_TOO_FEW = "too few peers"
PEERS_ENOUGH = "enough peers"


class Transition(msgspec.Struct, frozen=True):
    """One row: from these phases, at this trigger, if `guard` holds, to that phase; then `effect`."""

    source: tuple[Phase, ...]
    trigger: str
    target: Phase
    told: str
    """What is done, for the documentation."""
    guard_told: str = ""
    guard: Callable[[State, Facts], bool] = lambda state, facts: True
    effect: Callable[[Turn], None] = lambda turn: None


class Turn:
    """One step under way: the state as it becomes, and the effects so far."""

    def __init__(self, state: State, facts: Facts, table: Sequence[Transition]) -> None:
        self.state = state
        self.facts = facts
        self.table = table
        self.effects: list[Effect] = []

    def set(self, **changes: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)

    def do(self, *effects: Effect) -> None:
        self.effects += effects

    def publish(self, name: str, **data: Any) -> None:
        self.do(Publish(name, data))

    def fire(self, trigger: str) -> bool:
        """Take the row of the table that fits; False if none does."""
        before = self.state.phase
        for row in self.table:
            if row.trigger == trigger and before in row.source and row.guard(self.state, self.facts):
                self._enter(row.target)
                row.effect(self)
                return True
        return False

    def _enter(self, phase: Phase) -> None:
        before = self.state.phase
        self.set(phase=phase)
        self.publish("orchestrator:stateChanged", **{"from": before.value, "to": phase.value})
        if phase is Phase.READY:
            self.publish("spawner:resumed")
        elif before is Phase.READY:
            self.publish("spawner:paused")
