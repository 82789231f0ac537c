"""One round of the spawner: choose an app that runs too few times, make sure, announce, wait, install.

Facts: docs/spec/lifecycle.md §11. `plan_spawn` is a generator: it yields what it needs to know or to have
done (`spawnneeds`) and is sent the answers, so all of it is a function of values, a memory and a seeded
random source. Many nodes choose at the same time; the announcement, the wait and the order of
announcements are what keeps an app from running more often than it wants.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias

import msgspec

from trionode.lifecycle.limits import Pauses
from trionode.plans.candidates import Candidate, choose
from trionode.plans.deferrals import Kind, find_deferral
from trionode.plans.parts import parts_of, syncs_files
from trionode.plans.spawnchoice import (
    UNCONFIRMED,
    SpawnFacts,
    SpawnRules,
    chooser_of,
    pauses_of,
    stop_of,
)
from trionode.plans.spawnmemory import Deferred, SpawnMemory
from trionode.plans.spawnneeds import (
    Announce,
    CheckImages,
    CheckPorts,
    CheckRequirements,
    CountErrors,
    ExpireApps,
    ImageProblem,
    Install,
    Instance,
    IsVetted,
    ListCandidates,
    LookInstalling,
    LookRunning,
    Need,
    ProbePeers,
    Publish,
    ReadSpec,
    RemoveOwn,
    Spec,
    VerifyImages,
    Wait,
)
from trionode.wire.address import same_address

MANY_ERRORS = 5
ERROR_TTL_S = 6 * 3600.0
UNVERIFIED_TTL_S = 3600.0
FEW_PEERS = 6
"""Below this many running instances of an app with file sync all peers must be reachable."""


class SpawnEnd(msgspec.Struct, frozen=True):
    """The round is over; the next one begins after the pause. `app`: what it was about."""

    pause_s: float
    reason: str
    app: str = ""
    installed: bool = False


class Choice(msgspec.Struct, frozen=True):
    """The app of this round. `fresh`: chosen now, not taken from those put off."""

    app: str
    hash: str
    required: int
    fresh: bool
    encrypted: bool = False


class Counts(msgspec.Struct, frozen=True):
    """Who runs an app and who installs it."""

    running: Sequence[Instance]
    installing: Sequence[Instance]

    def exceed(self, required: int) -> bool:
        return len(self.running) + len(self.installing) > required


Steps: TypeAlias = Generator[Need, Any, SpawnEnd | None]
"""Ends with the end of the round, or None to go on."""


def plan_spawn(
    facts: SpawnFacts, memory: SpawnMemory, rules: SpawnRules, rng: random.Random
) -> Generator[Need, Any, SpawnEnd]:
    """One round."""
    end = yield from _begin(facts, memory, rules)
    if end is not None:
        return end
    assert facts.kind is not None
    candidates: Sequence[Candidate] = yield ListCandidates()
    pauses = pauses_of(facts, rules, len(candidates))
    choice = _choose(candidates, facts, facts.kind, memory, rules, rng)
    if choice is None:
        return SpawnEnd(pauses.long_s, "no app needs this node")
    return (yield from _Round(facts, facts.kind, memory, rules, pauses, choice).run())


def _begin(facts: SpawnFacts, memory: SpawnMemory, rules: SpawnRules) -> Steps:
    """What blocks a round altogether."""
    stop = stop_of(facts, memory, rules)
    if stop is not None and stop.code:
        memory.was_unconfirmed = memory.was_unconfirmed or stop.code == UNCONFIRMED
        yield Publish("spawner:blocked", {"reason": stop.code})
        return SpawnEnd(stop.pause_s, stop.code)
    if memory.first_round:
        memory.first_round = False
        yield ExpireApps()
    memory.was_unconfirmed = False
    return None if stop is None else SpawnEnd(stop.pause_s, stop.reason)


def _choose(
    candidates: Sequence[Candidate],
    facts: SpawnFacts,
    kind: Kind,
    memory: SpawnMemory,
    rules: SpawnRules,
    rng: random.Random,
) -> Choice | None:
    if not candidates:
        return None
    due = memory.take_due()
    if due is not None:
        return Choice(due.app, due.hash, due.required, fresh=False)
    found = choose(candidates, chooser_of(facts, kind, memory, rules), rng)
    if found is None:
        return None
    return Choice(found.name, found.hash, found.required, fresh=True, encrypted=found.encrypted)


class _Round:
    """The steps of a round that has found an app; each ends the round or lets it go on."""

    def __init__(
        self,
        facts: SpawnFacts,
        kind: Kind,
        memory: SpawnMemory,
        rules: SpawnRules,
        pauses: Pauses,
        choice: Choice,
    ) -> None:
        self.facts, self.kind, self.memory = facts, kind, memory
        self.rules, self.settings = rules, rules.spawner
        self.pauses, self.choice = pauses, choice
        self.spec: Spec = {}
        self.syncs = False
        self.installing: Sequence[Instance] | None = None

    def run(self) -> Generator[Need, Any, SpawnEnd]:
        steps = (
            self.count_first,
            self.is_it_here,
            self.may_it_run,
            self.recheck,
            self.do_files_sync,
            self.leave_to_others,
            self.can_it_be_had,
            self.recheck,
            self.claim,
        )
        for step in steps:
            end = yield from step()
            if end is not None:
                return end
        return (yield from self.install())

    # ---- before anything is told -------------------------------------------------------------------

    def count_first(self) -> Steps:
        if not self.choice.fresh:
            return None
        counts = yield from self.count()
        self.installing = counts.installing
        if counts.exceed(self.choice.required):
            return self.short("enough nodes run or install it")
        if self.choice.encrypted and not self.kind.arcane:
            self.memory.failed.put(self.choice.hash, self.settings.failed_ttl_s)
            return self.short("its specification cannot be opened here")
        return None

    def is_it_here(self) -> Steps:
        choice = self.choice
        self.memory.tried.put(choice.hash, self.settings.tried_ttl_s)
        errors: int = yield CountErrors(choice.app, choice.hash)
        if errors >= MANY_ERRORS:
            data = {"appName": choice.app, "hash": choice.hash, "errorCount": errors}
            yield Publish("spawner:networkErrorSkip", data)
        running: Sequence[Instance] = yield LookRunning(choice.app)
        if self.installing is None:  # an app that was put off (D-22)
            self.installing = yield LookInstalling(choice.app)
        own = _host(self.kind.address)
        # Our own announcement, but nothing is installed here right now: we died, or were busy, after it.
        installing = [i for i in self.installing if not same_address(i.address, self.kind.address)]
        if any(_host(other.address) == own for other in (*running, *installing)):
            return self.long("this address runs or installs it already")
        spec: Spec | None = yield ReadSpec(choice.app)
        if spec is None:
            return self.failed("its specification is not known")
        if choice.app in self.facts.installed:
            return self.short("it is installed here")
        self.spec, self.syncs = spec, syncs_files(parts_of(spec) or ())
        return None

    def may_it_run(self) -> Steps:
        failed = self.memory.failed
        ports = {port for part in parts_of(self.spec) or () for port in part.ports}
        if ports & set(self.rules.blocked_ports) and not (yield IsVetted(self.spec)):
            failed.put(self.choice.hash, self.settings.failed_ttl_s)
            return self.short("the operator blocks one of its ports")
        problem: ImageProblem | None = yield CheckImages(self.spec)
        if problem is not None:
            if not problem.unreachable:
                failed.put(self.choice.hash, self.settings.failed_ttl_s)
            return self.failed(problem.sentence)
        refused = yield CheckRequirements(self.spec)
        if refused is not None:
            return self.failed(refused.sentence)
        unusable: str | None = yield CheckPorts(self.spec)
        return self.short(unusable) if unusable is not None else None

    def recheck(self) -> Steps:
        self.counts = yield from self.count()
        return (
            self.short("enough nodes run or install it") if self.counts.exceed(self.choice.required) else None
        )

    def do_files_sync(self) -> Steps:
        if not self.syncs:
            return None
        others = self.others(self.counts)
        if any(_range(other.address) == _range(self.kind.address) for other in others):
            return self.short("a node in the same address range has its files")
        if not self.choice.fresh or len(self.counts.running) >= FEW_PEERS or not others:
            return None
        reachable = yield ProbePeers(tuple(other.address for other in others))
        if reachable:
            return None
        delay_s = self.settings.defer_file_sync_s
        self.memory.put_off(self.memory.deferred_for_peers, self.deferred("peers", delay_s))
        return self.short("a node to sync files with cannot be reached")

    def leave_to_others(self) -> Steps:
        found = find_deferral(self.spec, self.kind, self.settings) if self.choice.fresh else None
        if found is None:
            return None
        reason, delay_s = found
        self.memory.put_off(self.memory.deferred, self.deferred(reason, delay_s))
        data = {"appName": self.choice.app, "reason": reason, "delayMs": round(delay_s * 1000)}
        yield Publish("spawner:deferred", data)
        return self.short(f"left to others for {delay_s:g} s: {reason}")

    def can_it_be_had(self) -> Steps:
        problem: str | None = yield VerifyImages(self.spec)
        if problem is None:
            return None
        self.memory.tried.put(self.choice.hash, UNVERIFIED_TTL_S)
        return self.failed(problem)

    # ---- announced -----------------------------------------------------------------------------------

    def claim(self) -> Steps:
        """Announce, wait for others who do the same, and see whose turn it is."""
        if (yield Announce(self.choice.app, self.kind.address)) is False:
            self.memory.tried.drop(self.choice.hash)
            return self.short("nobody could be told of it")
        yield Wait(self.settings.collision_wait_s)
        counts = yield from self.count()
        order = sorted(counts.installing, key=lambda other: other.age_key)
        own = next((n for n, o in enumerate(order) if same_address(o.address, self.kind.address)), None)
        position = 0 if own is None else own + 1
        if counts.exceed(self.choice.required) and len(counts.running) + position > self.choice.required:
            return self.short("others announced it earlier")
        if self.syncs:
            before = (*counts.running, *order[: own or 0])
            ours = _range(self.kind.address)
            others = self.others(Counts(before, ()))
            if any(_range(other.address) == ours for other in others):
                return self.short("a node in the same address range was earlier")
        return None

    def install(self) -> Generator[Need, Any, SpawnEnd]:
        choice = self.choice
        installed: bool | None = yield Install(self.spec)
        if installed is None:
            self.memory.tried.drop(choice.hash)
            return self.short("the node was not free to install it")
        if not installed:
            self.memory.failed.put(choice.hash, self.settings.failed_ttl_s)
            yield Publish("spawner:installFailed", {"appName": choice.app, "hash": choice.hash})
            return self.short("its install failed")
        yield Wait(self.settings.verify_wait_s)
        running: Sequence[Instance] = yield LookRunning(choice.app)
        pause_s = 0.0 if self.facts.enterprise else self.pauses.long_s
        order = sorted(running, key=lambda other: other.age_key)
        rank = next((n for n, o in enumerate(order) if same_address(o.address, self.kind.address)), -1)
        if rank >= choice.required:
            self.memory.tried.drop(choice.hash)
            reason = f"{len(running)} nodes run it, {choice.required} are wanted, and this one is the latest"
            yield RemoveOwn(choice.app, reason)
            return SpawnEnd(pause_s, reason, choice.app)
        return SpawnEnd(pause_s, "installed", choice.app, installed=True)

    # ---- parts -----------------------------------------------------------------------------------------

    def count(self) -> Generator[Need, Any, Counts]:
        running: Sequence[Instance] = yield LookRunning(self.choice.app)
        installing: Sequence[Instance] = yield LookInstalling(self.choice.app)
        return Counts(running, installing)

    def others(self, counts: Counts) -> list[Instance]:
        every = (*counts.running, *counts.installing)
        return [other for other in every if not same_address(other.address, self.kind.address)]

    def deferred(self, reason: str, delay_s: float) -> Deferred:
        due_ms = self.memory.now_ms() + round(delay_s * 1000)
        return Deferred(self.choice.app, self.choice.hash, self.choice.required, due_ms, reason)

    def short(self, reason: str) -> SpawnEnd:
        return SpawnEnd(self.pauses.short_s, reason, self.choice.app)

    def long(self, reason: str) -> SpawnEnd:
        return SpawnEnd(self.pauses.long_s, reason, self.choice.app)

    def failed(self, reason: str) -> SpawnEnd:
        """A problem that may pass: not tried again for some hours."""
        hash = self.choice.hash
        if hash not in self.memory.tried and hash not in self.memory.failed:
            self.memory.tried.put(hash, ERROR_TTL_S)
        return self.short(reason)


def _host(address: str) -> str:
    return address.partition(":")[0]


def _range(address: str) -> tuple[str, ...]:
    """The first two numbers of an address."""
    return tuple(_host(address).split(".")[:2])
