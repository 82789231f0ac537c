"""Before a round of the spawner tells anybody anything: may it choose, and what from (lifecycle.md §11, 1-4).

Nothing here draws, waits or changes the memory, so the present plan can ask what the next round will find.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from trionode.config.tree import SpawnerSettings
from trionode.lifecycle.limits import Pauses, spawn_pauses
from trionode.plans.candidates import Candidate, Chooser, pool
from trionode.plans.deferrals import Kind
from trionode.plans.spawnmemory import Deferred, SpawnMemory

UNCONFIRMED = "not_confirmed"


class SpawnFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the node knows of itself when a round begins. `enterprise` None: not known yet.

    `place`: CONT_CC_REGION. `containers`: running ones. `kind` None: the own address is not known.
    """

    kind: Kind | None
    enterprise: bool | None = False
    synced: bool = True
    db_ready: bool = True
    dos: bool = False
    confirmed: bool = True
    benchmark_ok: bool = True
    containers: int = 0
    place: str = ""
    installed: frozenset[str] = frozenset()


class SpawnRules(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a round."""

    spawner: SpawnerSettings = SpawnerSettings()
    max_containers: int = 200
    enterprise_owners: Collection[str] = ()
    blocked_ports: Collection[int] = ()


class Stop(msgspec.Struct, frozen=True):
    """Why a round does not choose at all. `code`: the name it is told the bus under, "" when it is not."""

    reason: str
    pause_s: float
    code: str = ""


class Outlook(msgspec.Struct, frozen=True):
    """What a round would choose from: nothing, for a reason; an app put off; or one of these, drawn."""

    stop: Stop | None = None
    due: Deferred | None = None
    pool: tuple[Candidate, ...] = ()


def stop_of(facts: SpawnFacts, memory: SpawnMemory, rules: SpawnRules) -> Stop | None:
    """The first reason that holds."""
    settings = rules.spawner
    blocks = (
        (
            "enterprise_unresolved",
            facts.enterprise is None,
            "whether this is an enterprise node is not known",
        ),
        ("not_synced", not facts.synced, "the explorer is behind the chain"),
        ("db_not_ready", not facts.db_ready, "the registry is not complete yet"),
        ("dos", facts.dos, "the node has a penalty"),
        (UNCONFIRMED, not facts.confirmed, "the node is not confirmed"),
    )
    for code, holds, reason in blocks:
        if holds:
            return Stop(reason, settings.blocked_delay_s, code)
    if memory.was_unconfirmed:
        return Stop("the node was confirmed again just now", settings.reconfirm_delay_s)
    if not facts.benchmark_ok:
        return Stop("the benchmark does not answer", settings.blocked_delay_s)
    pauses = pauses_of(facts, rules, 0)
    if facts.kind is None:
        return Stop("the own address is not known", pauses.short_s)
    if facts.containers >= rules.max_containers:
        return Stop(f"{facts.containers} containers run here, which is enough", pauses.long_s)
    return None


def pauses_of(facts: SpawnFacts, rules: SpawnRules, candidates: int) -> Pauses:
    """Between this round and the next."""
    return spawn_pauses(rules.spawner, enterprise_node=bool(facts.enterprise), candidates=candidates)


def chooser_of(facts: SpawnFacts, kind: Kind, memory: SpawnMemory, rules: SpawnRules) -> Chooser:
    """This node when it chooses."""
    return Chooser(
        address=kind.address,
        place=facts.place,
        enterprise=bool(facts.enterprise),
        enterprise_owners=rules.enterprise_owners,
        skipped=memory.skipped(),
    )


def outlook(
    facts: SpawnFacts, memory: SpawnMemory, rules: SpawnRules, candidates: Sequence[Candidate]
) -> Outlook:
    """What a round that began now would choose from."""
    stop = stop_of(facts, memory, rules)
    if stop is not None or facts.kind is None or not candidates:
        return Outlook(stop)
    due = memory.first_due()
    if due is not None:
        return Outlook(due=due)
    return Outlook(pool=tuple(pool(candidates, chooser_of(facts, facts.kind, memory, rules))))
