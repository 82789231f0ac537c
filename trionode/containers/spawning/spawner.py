"""The spawner: round after round it looks for an app that runs too few times, and installs it here.

Facts: docs/spec/lifecycle.md §11. `plans.spawn` decides; what it needs is found out and done by
`containers.spawning.world`. Rounds are made while the orchestrator is READY; a pause ends when it no longer
is, a round only when it has come to its end or is about to install.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any, Protocol

import msgspec
import trio

from trionode.config.tree import Settings
from trionode.containers.planned import PlannedAction
from trionode.containers.spawning.world import SpawnWorld
from trionode.errors import TrionodeError
from trionode.plans.deferrals import IN_WORDS
from trionode.plans.spawn import SpawnEnd, plan_spawn
from trionode.plans.spawnchoice import Outlook, SpawnFacts, SpawnRules, outlook
from trionode.plans.spawnmemory import SpawnMemory
from trionode.plans.spawnneeds import Install, Need, RemoveOwn
from trionode.runtime.appturns import AppTurn, AppTurns
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

READINESS = ("spawner:resumed", "spawner:paused")
SPAWNER = "spawner"
NAMED = 5
"""Candidates named in the present plan."""
REMEMBERED = 20
"""Ends of rounds kept for the status."""

log = get_logger("containers.spawner")


class FactSource(Protocol):
    """Gathers what the node knows of itself when a round begins."""

    async def spawn_facts(self) -> SpawnFacts:
        """Never raises for what does not answer: that is a fact, too."""
        ...

    def known(self) -> SpawnFacts | None:
        """The same without asking anybody; None before the first round."""
        ...


class RoundEnd(msgspec.Struct, frozen=True):
    """How a round ended, for the status."""

    at_ms: int
    app: str
    reason: str
    installed: bool
    pause_s: float


class DeferredApp(msgspec.Struct, frozen=True):
    """An app left to others for a while."""

    app: str
    reason: str
    due_ms: int


class SpawnerStatus(msgspec.Struct, frozen=True):
    """For API and CLI. `doing`: waiting, choosing, installing or pausing. `next_in_s`: of a pause."""

    doing: str
    app: str
    next_in_s: float | None
    rounds: int
    installed: int
    tried: int
    failed: int
    deferred: tuple[DeferredApp, ...]
    last: tuple[RoundEnd, ...]


class Spawner:
    """Service "spawner". `ready`: open while the node is READY (`Orchestrator.ready`)."""

    name = "spawner"

    def __init__(
        self,
        settings: Settings,
        *,
        facts: FactSource,
        world: SpawnWorld,
        ready: Gate,
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
        rng: random.Random,
    ) -> None:
        self._facts = facts
        self._world = world
        self._ready = ready
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._rng = rng
        self._turns = AppTurns("spawner", counters)
        self._rules = SpawnRules(
            spawner=settings.spawner,
            max_containers=settings.hosting.max_containers,
            enterprise_owners=frozenset(settings.enterprise.owners),
            blocked_ports=frozenset(settings.hosting.blocked_ports),
        )
        self.memory = SpawnMemory(clock.now_ms)
        self._doing, self._app = "waiting", ""
        self._until_s: float | None = None
        self._rounds = self._installed = 0
        self._last: deque[RoundEnd] = deque(maxlen=REMEMBERED)

    @property
    def status(self) -> SpawnerStatus:
        """Needs a running Trio loop."""
        memory = self.memory
        left_s = None if self._until_s is None else max(0.0, round(self._until_s - trio.current_time(), 3))
        put_off = (*memory.deferred, *memory.deferred_for_peers)
        return SpawnerStatus(
            doing=self._doing,
            app=self._app,
            next_in_s=left_s,
            rounds=self._rounds,
            installed=self._installed,
            tried=len(memory.tried.hashes()),
            failed=len(memory.failed.hashes()),
            deferred=tuple(DeferredApp(entry.app, entry.reason, entry.due_ms) for entry in put_off),
            last=tuple(self._last),
        )

    def plan(self, app: str = "") -> tuple[PlannedAction, ...]:
        """What it works on, what the next round would choose from, and the apps left to others.

        `app`: said of this one by name, if it is a candidate.
        """
        memory = self.memory
        put_off = sorted((*memory.deferred, *memory.deferred_for_peers), key=lambda entry: entry.due_ms)
        return (
            *self._present(app),
            *(
                PlannedAction("defer", entry.app, "", _left_to_others(entry.reason), entry.due_ms)
                for entry in put_off
            ),
        )

    def _present(self, app: str) -> tuple[PlannedAction, ...]:
        if self._doing == "installing":
            return (PlannedAction("install", self._app, "", "the spawner has chosen it"),)
        if self._doing == "choosing":
            if not self._app:
                return (PlannedAction("under_way", "", SPAWNER, "it chooses an app"),)
            reason = "the spawner has chosen it, and makes sure that it may run here"
            return (PlannedAction("choose", self._app, "", reason),)
        if not self._ready.is_open:
            return (PlannedAction("wait", "", SPAWNER, "nothing is chosen before the node is READY"),)
        facts = self._facts.known()
        if facts is None:
            return ()
        found = outlook(facts, self.memory, self._rules, self._world.candidates())
        return self._next_round(found, facts.installed, app)

    def _next_round(self, found: Outlook, here: frozenset[str], app: str) -> tuple[PlannedAction, ...]:
        """What the round after the pause begins with, as things are now. `here`: what it would pass over."""
        due_s = self._until_s
        if found.stop is not None:
            return (PlannedAction("wait", "", SPAWNER, found.stop.reason, due_s=due_s),)
        if found.due is not None:
            return (PlannedAction("choose", found.due.app, "", "it was put off and is due", due_s=due_s),)
        names = [candidate.name for candidate in found.pool if candidate.name not in here]
        if app or len(names) == 1:
            named = [name for name in names if not app or name.lower() == app.lower()]
            others = f" or one of {len(names) - 1} others" if len(names) > 1 else ""
            reason = f"the next round of the spawner draws it{others}"
            return tuple(PlannedAction("choose", name, "", reason, due_s=due_s) for name in named)
        if not names:
            return ()
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        reason = f"the next round draws one of {', '.join(names[:NAMED])}{more}"
        return (PlannedAction("choose", "", SPAWNER, reason, due_s=due_s),)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make rounds until cancelled."""
        with self._bus.subscribe(*READINESS, buffer=2) as changes:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    self._doing, self._app, self._until_s = "waiting", "", None
                    await self._ready.wait()
                    end = await self._round(nursery)
                    self._doing, self._app = "pausing", ""
                    self._until_s = trio.current_time() + end.pause_s
                    with trio.move_on_at(self._until_s):
                        while self._ready.is_open:
                            await changes.receive()

    async def _round(self, nursery: trio.Nursery) -> SpawnEnd:
        self._doing = "choosing"
        with self._turns.of("") as turn:
            end = await self._end_of_round(nursery, turn)
        if turn.failed:
            end = SpawnEnd(self._rules.spawner.blocked_delay_s, turn.problem, self._app)
        self._rounds += 1
        self._installed += end.installed
        self._counters.add("spawner.rounds")
        self._last.append(
            RoundEnd(self._clock.now_ms(), end.app, end.reason, end.installed, round(end.pause_s, 3))
        )
        if end.app:
            log.info("round ended", app=end.app, reason=end.reason, installed=end.installed)
        return end

    async def _end_of_round(self, nursery: trio.Nursery, turn: AppTurn) -> SpawnEnd:
        try:
            return await self._carry_out(nursery, turn)
        except TrionodeError as error:
            self._counters.add("spawner.broken_rounds")
            log.error("round of the spawner broke off", app=self._app, problem=error.one_line())
            return SpawnEnd(self._rules.spawner.blocked_delay_s, f"an error: {error.message}", self._app)

    async def _carry_out(self, nursery: trio.Nursery, turn: AppTurn) -> SpawnEnd:
        steps = plan_spawn(await self._facts.spawn_facts(), self.memory, self._rules, self._rng)
        try:
            need: Need = next(steps)
            while True:
                turn.app = getattr(need, "app", self._app)
                need = steps.send(await self._answer(need, nursery))
        except StopIteration as end:
            found = end.value
            assert isinstance(found, SpawnEnd)
            return found
        finally:
            steps.close()

    async def _answer(self, need: Need, nursery: trio.Nursery) -> Any:
        if isinstance(need, RemoveOwn):
            nursery.start_soon(self._remove_own, need, name=f"removal of {need.app}")
            return None
        if isinstance(need, Install):
            if not self._ready.is_open:
                return None
            self._doing = "installing"
        self._app = getattr(need, "app", self._app)
        return await self._world.answer(need)

    async def _remove_own(self, need: RemoveOwn) -> None:
        with self._turns.of(need.app):
            await self._world.remove_own(need)


def _left_to_others(reason: str) -> str:
    return f"left to others for a while: {IN_WORDS.get(reason, reason)}"
