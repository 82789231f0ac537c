"""The orchestrator's rules under random events, against the guards of docs/spec/lifecycle.md §8 told anew."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pytest
from examples import examples
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trionode.lifecycle import phases as life
from trionode.lifecycle.orchestrator import HANDLERS, TRANSITIONS, step
from trionode.lifecycle.phases import KINDS, Facts, Happening, Phase, State
from trionode.lifecycle.readiness import is_ready, waits_for

PEERS = [f"peer {number}" for number in range(8)]
SYNCING = (Phase.SYNCING, Phase.RESYNCING)
EDGES = {
    ("INITIALIZING", "SYNCING"),
    ("SYNCING", "READY"),
    ("RESYNCING", "READY"),
    ("READY", "SYNCING"),
    ("READY", "DEGRADED"),
    ("SYNCING", "DEGRADED"),
    ("RESYNCING", "DEGRADED"),
    ("DEGRADED", "RESYNCING"),
}
RINGS: dict[str, Happening] = {
    "retry": life.RetryDue(),
    "peer grace": life.PeerGraceEnded(),
    "sync window": life.SyncWindowEnded(),
    "ask pause": life.AskPauseEnded(),
}


class Told:
    """What the spec says must be known, kept by simple means beside the state of the machine."""

    def __init__(self) -> None:
        self.chain_seen = self.capable = self.node_list = self.enough = False
        self.hash_done = self.db_done = False
        self.blocks = 0
        self.last_height: int | None = None
        self.answers: dict[str, set[str]] = {kind: set() for kind in KINDS}

    def degrade(self) -> None:
        self.hash_done = self.db_done = False
        self.blocks = 0
        self.answers = {kind: set() for kind in KINDS}

    def may_be_ready(self, facts: Facts) -> bool:
        limit = facts.ready_after_blocks_enterprise if facts.is_enterprise else facts.ready_after_blocks
        waived = self.blocks >= limit
        answered = all(len(peers) >= facts.min_completions for peers in self.answers.values())
        return (
            self.chain_seen
            and (self.hash_done or waived)
            and self.db_done
            and (answered or waived)
            and self.capable
        )


class OrchestratorMachine(RuleBasedStateMachine):
    """A world that carries out every effect, ends what runs when it likes, and remembers what it was told."""

    @initialize(
        waits=st.booleans(), enterprise=st.booleans(), needed=st.integers(1, 3), retries=st.integers(0, 3)
    )
    def begin(self, waits: bool, enterprise: bool, needed: int, retries: int) -> None:
        self.facts = Facts(
            min_completions=needed,
            ready_after_blocks=25,
            ready_after_blocks_enterprise=12,
            max_retries=retries,
            recheck_blocks=10,
            waits_for_peers=waits,
            is_enterprise=enterprise,
        )
        self.state = State()
        self.told = Told()
        self.height = 100
        self.fit: list[str] = []
        self.runs: list[life.RunHashSync] = []
        self.rebuilding = False
        self.asking: list[tuple[str, ...]] = []
        self.timers: set[str] = set()
        self.awake = False
        self.feed(life.Started({}))

    # ---- carrying out

    def feed(self, event: Happening) -> None:
        before = self.state
        self.state, effects = step(before, event, self.facts)
        changes = [
            (e.data["from"], e.data["to"]) for e in effects if self._is(e, "orchestrator:stateChanged")
        ]
        assert all(change in EDGES for change in changes)
        assert [before.phase.value, *(to for _, to in changes)][-1] == self.state.phase.value
        assert all(a[1] == b[0] for a, b in pairwise(changes))
        if ("SYNCING", "READY") in changes or ("RESYNCING", "READY") in changes:
            assert self.told.may_be_ready(self.facts), "READY without the guards"
        for effect in effects:
            self._carry(effect)
        for effect in effects:
            if isinstance(effect, life.LookForPeers):
                self.feed(life.PeersEligible(tuple(self.fit)))

    def _is(self, effect: life.Effect, name: str) -> bool:
        return isinstance(effect, life.Publish) and effect.name == name

    def _carry(self, effect: life.Effect) -> None:
        match effect:
            case life.RunHashSync():
                assert not self.runs, "two hash syncs at once"
                self.runs.append(effect)
            case life.Rebuild():
                assert not self.rebuilding, "two rebuilds at once"
                self.rebuilding = True
            case life.AskPeers():
                assert effect.keys
                assert len(effect.keys) <= self.facts.min_completions
                assert not set(effect.keys) & self.state.asked
                self.asking.append(effect.keys)
            case life.StartTimer():
                self.timers.add(effect.timer)
            case life.StopTimer():
                self.timers.discard(effect.timer)
            case life.Publish(name="spawner:resumed"):
                assert not self.awake
                self.awake = True
            case life.Publish(name="spawner:paused"):
                assert self.awake
                self.awake = False
            case _:
                pass

    # ---- what may happen

    @rule(capable=st.booleans())
    def capability(self, capable: bool) -> None:
        was_ready = self.state.phase is Phase.READY
        self.told.capable = capable
        self.feed(life.CapabilityChanged(capable))
        if was_ready and not capable:
            assert self.state.phase is Phase.SYNCING

    @rule(distance=st.sampled_from([1, 1, 1, 2, 5, 12, -1, -3]))
    def block(self, distance: int) -> None:
        self.height += distance
        if self.state.phase is not Phase.DEGRADED:
            last = self.told.last_height
            self.told.blocks += 1 if last is None else self.height - last
        self.told.last_height = self.height
        self.told.chain_seen = True
        self.feed(life.BlockProcessed(self.height))
        self.no_readiness_missed()

    @rule()
    def chain_read(self) -> None:
        self.told.chain_seen = True
        self.feed(life.ChainRead(self.height))

    @rule()
    def node_list(self) -> None:
        if not self.told.node_list:
            self.told.node_list = True
            self.feed(life.NodeListKnown())

    @rule()
    def peers_enough(self) -> None:
        was_degraded = self.state.phase is Phase.DEGRADED
        self.told.enough = True
        self.feed(life.PeersEnough())
        if was_degraded:
            # it may be READY at once only if the blocks have waived everything, which starts anew
            assert self.state.phase in (Phase.RESYNCING, Phase.DEGRADED, Phase.READY)
            assert (self.state.phase is Phase.DEGRADED) != self.told.node_list

    @rule()
    def peers_too_few(self) -> None:
        counts = self.state.phase is not Phase.INITIALIZING
        self.told.enough = False
        if counts:
            if self.state.phase is not Phase.DEGRADED:
                self.told.degrade()
            self.feed(life.PeersTooFew())
            assert self.state.phase is Phase.DEGRADED
        else:
            self.feed(life.PeersTooFew())
            assert self.state.phase is Phase.INITIALIZING

    @rule(fit=st.lists(st.sampled_from(PEERS), unique=True))
    def peers_change(self, fit: list[str]) -> None:
        self.fit = fit
        self.feed(life.PeersChanged())

    @precondition(lambda self: bool(self.asking))
    @rule(left=st.integers(0, 3), fails=st.booleans())
    def requests_sent(self, left: int, fails: bool) -> None:
        keys = self.asking.pop(0)
        self.feed(life.AskingFailed() if fails else life.PeersAsked(keys[:left]))

    @rule(kind=st.sampled_from([*KINDS, "tempmessages"]), peer=st.sampled_from(PEERS))
    def answered(self, kind: str, peer: str) -> None:
        if kind in KINDS and not self.state.all_complete:
            self.told.answers[kind].add(peer)
        self.feed(life.PeerAnswered(kind, peer))

    @rule(peer=st.sampled_from(PEERS))
    def link_lost(self, peer: str) -> None:
        self.fit = [key for key in self.fit if key != peer]
        self.feed(life.PeerLost(peer))

    @precondition(lambda self: bool(self.timers))
    @rule(data=st.data())
    def timer_rings(self, data: Any) -> None:
        timer = data.draw(st.sampled_from(sorted(self.timers)))
        self.timers.discard(timer)
        self.feed(RINGS[timer])

    @precondition(lambda self: bool(self.runs))
    @rule(fails=st.booleans(), ahead=st.sampled_from([None, 5, 50]))
    def hash_sync_ends(self, fails: bool, ahead: int | None) -> None:
        run = self.runs.pop()
        if fails:
            self.feed(life.HashSyncFailed("no answer"))
        else:
            self.told.hash_done = self.told.hash_done or run.kind == "first"
            self.feed(life.HashSyncEnded(0, None if ahead is None else self.height + ahead))

    @precondition(lambda self: self.rebuilding)
    @rule(fails=st.booleans())
    def rebuild_ends(self, fails: bool) -> None:
        self.rebuilding = False
        if fails:
            self.feed(life.RebuildFailed("no answer"))
        else:
            self.told.db_done = True
            self.feed(life.Rebuilt())
            if not self.rebuilding:
                self.no_readiness_missed()

    @rule(event=st.sampled_from([life.HashesUnresolved(), life.HashesChanged(), life.OperatorAsked(True)]))
    def news(self, event: Happening) -> None:
        self.feed(event)

    # ---- what must hold

    def no_readiness_missed(self) -> None:
        if self.state.phase in SYNCING:
            assert not self.told.may_be_ready(self.facts)

    @invariant()
    def it_knows_what_it_was_told(self) -> None:
        state, told = self.state, self.told
        assert (state.capable, state.enough_peers, state.chain_read) == (
            told.capable,
            told.enough,
            told.chain_seen,
        )
        assert (state.hash_done, state.db_done, state.blocks) == (told.hash_done, told.db_done, told.blocks)
        assert (state.run is not None, state.rebuilding) == (bool(self.runs), self.rebuilding)
        assert {kind: set(peers) for kind, peers in state.completions().items()} == told.answers
        assert self.awake == (state.phase is Phase.READY)

    @invariant()
    def timers_fit_the_state(self) -> None:
        state = self.state
        assert ("retry" in self.timers) == state.retry_pending
        assert ("sync window" in self.timers) == state.window_open
        assert ("ask pause" in self.timers) == state.pausing
        if state.phase is Phase.DEGRADED:
            assert not self.timers & {"retry", "sync window", "ask pause"}

    @invariant()
    def it_never_gets_stuck(self) -> None:
        """While syncing, something is under way, waited for, or left to a later block."""
        state = self.state
        if state.phase not in SYNCING:
            return
        if state.capable and not state.hash_done:
            used_up = state.attempt > 0 and state.attempt >= self.facts.max_retries
            assert state.run or state.is_held_for_peers or state.retry_pending or used_up
        if state.hash_done and not state.db_done:
            first = state.run is not None and (state.run.kind == "first" or state.is_run_wanted)
            assert state.rebuilding or state.retry_pending or first
        if state.node_list and state.enough_peers and not state.all_complete and state.asked:
            assert self.asking or state.window_open or state.pausing or set(self.fit) != state.asked

    @invariant()
    def it_can_say_what_it_waits_for(self) -> None:
        waits = waits_for(self.state, self.facts)
        assert bool(waits) != (self.state.phase is Phase.READY) or is_ready(self.state, self.facts)
        assert all(waits)


OrchestratorMachine.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=60, deadline=None
)
TestOrchestratorMachine = pytest.mark.timeout(900)(OrchestratorMachine.TestCase)


def test_the_table_has_the_edges_of_the_specification_and_no_others() -> None:
    drawn = {(source.value, row.target.value) for row in TRANSITIONS for source in row.source}
    assert drawn == EDGES


def test_every_event_has_a_rule() -> None:
    assert set(Happening.__subclasses__()) == set(HANDLERS)
