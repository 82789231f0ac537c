"""The spawner: rounds of many nodes on the same facts, and the single steps of one."""

from __future__ import annotations

import heapq
import random
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trionode.config.tree import SpawnerSettings
from trionode.plans.candidates import Candidate, Chooser, SpecRow, choose, region_allowed, select_candidates
from trionode.plans.deferrals import TABLE, Kind, find_deferral
from trionode.plans.spawn import SpawnEnd, plan_spawn
from trionode.plans.spawnchoice import SpawnFacts, SpawnRules
from trionode.plans.spawnmemory import Cache, Deferred, SpawnMemory
from trionode.plans.spawnneeds import (
    Announce,
    CountErrors,
    Install,
    Instance,
    ListCandidates,
    LookInstalling,
    LookRunning,
    Need,
    ProbePeers,
    ReadSpec,
    RemoveOwn,
    Wait,
)

SETTINGS = SpawnerSettings()


def spec(name: str, data: str = "/d", **more: Any) -> dict[str, Any]:
    part = {"name": "web", "ports": [31000], "containerPorts": [80], "containerData": data, "cpu": 1}
    return {"version": 8, "name": name, "compose": [{**part, "ram": 1, "hdd": 1}], **more}


class Net:
    """Nodes that choose and install on one shared set of facts, on a clock of their own."""

    def __init__(self, nodes: int, wanted: dict[str, int], seed: int, data: str = "/d") -> None:
        self.now_ms, self.wanted, self.data = 1_000_000, wanted, data
        self.running: dict[str, dict[str, int]] = {name: {} for name in wanted}
        self.installing: dict[str, dict[str, int]] = {name: {} for name in wanted}
        self.rng = random.Random(seed)
        self.trace: list[tuple[int, str, str]] = []
        self.above = 0
        self.queue: list[tuple[int, int, str, Generator[Need, Any, SpawnEnd] | None, Any]] = []
        self.number = 0
        self.memories: dict[str, SpawnMemory] = {}
        for node in range(nodes):
            address = f"{node + 1}.0.0.1:16127"
            self.memories[address] = SpawnMemory(lambda: self.now_ms)
            self.later(self.rng.randrange(60_000), address, None, None)

    def later(self, delay_ms: int, address: str, steps: Any, answer: Any) -> None:
        self.number += 1
        heapq.heappush(self.queue, (self.now_ms + delay_ms, self.number, address, steps, answer))

    def run(self, hours: int) -> None:
        end_ms = self.now_ms + hours * 3_600_000
        while self.queue and self.queue[0][0] <= end_ms:
            self.now_ms, _, address, steps, answer = heapq.heappop(self.queue)
            self.go_on(address, steps or self.round(address), answer)

    def round(self, address: str) -> Generator[Need, Any, SpawnEnd]:
        installed = frozenset(name for name, places in self.running.items() if address in places)
        facts = SpawnFacts(kind=Kind(address=address), installed=installed)
        return plan_spawn(facts, self.memories[address], SpawnRules(), self.rng)

    def go_on(self, address: str, steps: Generator[Need, Any, SpawnEnd], answer: Any) -> None:
        try:
            need = steps.send(answer)
            while not isinstance(need, Wait | Install):
                need = steps.send(self.answer(address, need))
        except StopIteration as end:
            pause_ms = max(1_000, round(end.value.pause_s * 1000))
            self.later(pause_ms, address, None, None)
            return
        if isinstance(need, Wait):
            self.later(round(need.seconds * 1000), address, steps, None)
        else:
            self.installed(address, need.spec["name"])
            self.later(1_000, address, steps, True)

    def installed(self, address: str, app: str) -> None:
        self.trace.append((self.now_ms, address, app))
        self.installing[app].pop(address, None)
        self.running[app][address] = self.now_ms
        self.above = max(self.above, len(self.running[app]) - self.wanted[app])

    def answer(self, address: str, need: Need) -> Any:
        match need:
            case ListCandidates():
                return tuple(
                    Candidate(name=name, hash=name, required=required)
                    for name, required in sorted(self.wanted.items())
                    if len(self.running[name]) < required
                )
            case LookRunning(app):
                return [Instance(*entry) for entry in self.running[app].items()]
            case LookInstalling(app):
                # announcements are forgotten after a quarter of an hour, as in the event log
                return [
                    Instance(place, at_ms)
                    for place, at_ms in self.installing[app].items()
                    if self.now_ms - at_ms < 900_000
                ]
            case ReadSpec(app):
                return spec(app, self.data)
            case CountErrors():
                return 0
            case ProbePeers():
                return True
            case Announce(app, place):
                self.installing[app][place] = self.now_ms
            case RemoveOwn(app):
                self.running[app].pop(address)
        return None


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 30),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 6), min_size=1),
    st.integers(0, 2**32),
)
def test_no_app_ever_runs_more_often_than_it_wants(nodes: int, wanted: dict[str, int], seed: int) -> None:
    net = Net(nodes, wanted, seed)
    net.run(hours=12)
    assert net.above <= 0
    again = Net(nodes, wanted, seed)
    again.run(hours=12)
    assert again.trace == net.trace


def test_every_app_runs_as_often_as_it_wants_in_the_end() -> None:
    net = Net(30, {f"app{n}": 3 for n in range(20)}, 7)
    net.run(hours=48)
    assert {name: len(places) for name, places in net.running.items()} == net.wanted
    assert net.above <= 0


class One:
    """One round with given answers; what was asked and done is kept."""

    def __init__(self, candidate: Candidate, found: dict[str, Any], **answers: Any) -> None:
        self.now_ms = 1_000_000
        self.memory = SpawnMemory(lambda: self.now_ms)
        self.candidate, self.spec, self.answers = candidate, found, answers
        self.done: list[Need] = []

    def run(self, *, rules: SpawnRules | None = None, **kind: Any) -> SpawnEnd:
        whole = {"address": "50.60.70.80:16127", **kind}
        facts = SpawnFacts(kind=Kind(**whole), enterprise=kind.get("enterprise", False))
        steps = plan_spawn(facts, self.memory, rules or SpawnRules(), random.Random(1))
        try:
            need = next(steps)
            while True:
                self.done.append(need)
                need = steps.send(self.answer(need))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def answer(self, need: Need) -> Any:
        usual = {
            "ListCandidates": (self.candidate,),
            "LookRunning": [],
            "LookInstalling": [],
            "CountErrors": 0,
            "ReadSpec": self.spec,
            "IsVetted": False,
            "ProbePeers": True,
            "Install": True,
        }
        return {**usual, **self.answers}.get(type(need).__name__)

    def kinds(self) -> list[str]:
        return [type(need).__name__ for need in self.done]


APP = Candidate(name="app", hash="h")


def test_a_plain_round_ends_with_an_install() -> None:
    one = One(APP, spec("app"))
    end = one.run()
    assert end.installed
    steps = [kind for kind in one.kinds() if kind in ("Announce", "Wait", "Install")]
    assert steps == ["Announce", "Wait", "Install", "Wait"]


def test_an_app_put_off_for_an_unreachable_peer_comes_back_and_is_not_put_off_again() -> None:
    running = [Instance("9.9.9.9:16127", 1)]
    one = One(APP, spec("app", "g:/d"), LookRunning=running, ProbePeers=False)
    one.run()
    (entry,) = one.memory.deferred_for_peers
    assert entry.due_ms == one.now_ms + 1_620_000
    assert "h" not in one.memory.tried
    one.now_ms = entry.due_ms
    assert one.run().installed
    assert one.memory.deferred_for_peers == []


def test_file_sync_needs_another_address_range() -> None:
    near = [Instance("50.60.1.1:16127", 1)]
    one = One(APP, spec("app", "g:/d"), LookInstalling=near)
    assert not one.run().installed
    plain = One(APP, spec("app", "/d|m:logs:/l"), LookInstalling=near)
    assert plain.run().installed


def test_an_app_put_off_is_still_not_installed_twice_at_one_address() -> None:
    one = One(APP, spec("app"), LookInstalling=[Instance("50.60.70.80:16137", 1)])
    one.memory.deferred.append(Deferred("app", "h", 3, 0))
    assert not one.run().installed
    assert "Announce" not in one.kinds()


def test_an_address_that_only_begins_alike_is_another() -> None:
    """D-18, either way round; behind the same address but at another port is the same place."""
    for own, other in (("50.60.70.80", "50.60.70.8"), ("50.60.70.8", "50.60.70.80")):
        for look in ("LookRunning", "LookInstalling"):
            answers = {look: [Instance(f"{other}:16127", 1)]}
            assert One(APP, spec("app"), **answers).run(address=f"{own}:16127").installed
            answers = {look: [Instance(f"{own}:16137", 1)]}
            assert not One(APP, spec("app"), **answers).run(address=own).installed


def test_a_confirmation_regained_is_waited_for() -> None:
    one = One(APP, spec("app"))
    one.memory.was_unconfirmed = True
    assert one.run().pause_s == SETTINGS.reconfirm_delay_s
    assert one.run().installed


def test_nobody_is_surprised_by_an_install_that_was_not_announced() -> None:
    one = One(APP, spec("app"), Announce=False)
    assert one.run().reason == "nobody could be told of it"
    assert "Wait" not in one.kinds()
    assert "h" not in one.memory.tried


def test_a_node_that_was_not_free_comes_back_to_the_app() -> None:
    one = One(APP, spec("app"), Install=None)
    assert not one.run().installed
    assert "h" not in one.memory.tried
    assert "h" not in one.memory.failed
    assert "Publish" not in one.kinds()


def test_an_announcement_of_its_own_that_came_to_nothing_keeps_no_node_from_the_app() -> None:
    """It died while it installed, or was not free after it had announced it."""
    one = One(APP, spec("app"), LookInstalling=[Instance("50.60.70.80:16127", 1)])
    assert one.run().installed
    neighbour = One(APP, spec("app"), LookInstalling=[Instance("50.60.70.80:16137", 1)])
    assert not neighbour.run().installed


def test_ports_the_operator_blocks() -> None:
    one = One(APP, spec("app"))
    assert not one.run(rules=SpawnRules(blocked_ports=(31000,))).installed
    assert "h" in one.memory.failed


@pytest.mark.parametrize(
    ("kind", "found", "reason"),
    [
        ({}, spec("a", nodes=["9.9.9.9"]), "targeted_nodes"),
        ({}, spec("a", nodes=["50.60.70.80"]), None),
        ({"arcane": True}, spec("a"), "non_enterprise_on_arcane"),
        ({"arcane": True}, spec("a", enterprise="x"), None),
        ({"static_ip": True}, spec("a"), "static_ip"),
        ({"datacenter": True}, spec("a", datacenter=True), None),
        ({"tier": "stratus"}, spec("a"), "capacity_gap_large"),
        ({"tier": "nimbus"}, spec("a"), "capacity_gap_small"),
        ({"tier": "stratus"}, spec("a", nodes=["50.60.70.80"]), None),
        ({"tier": "stratus", "enterprise": True}, spec("a"), None),
        ({"enterprise": True}, spec("a", nodes=["9.9.9.9"]), "targeted_nodes"),
    ],
)
def test_what_is_left_to_others(kind: dict[str, Any], found: dict[str, Any], reason: str | None) -> None:
    told = find_deferral(found, Kind(address="50.60.70.80:16127", **kind), SETTINGS)
    assert (told and told[0]) == reason


def test_every_deferral_names_settings() -> None:
    assert all(hasattr(SETTINGS, row.plain) and hasattr(SETTINGS, row.encrypted) for row in TABLE)


def test_candidates_are_too_few_and_do_not_end_soon() -> None:
    rows = [
        SpecRow(Candidate(name=name, hash=name, required=3), 2_100_000, expire)
        for name, expire in (("b", 1000), ("a", 1000), ("ends", 150), ("enough", 1000))
    ]
    found = select_candidates(rows, {"enough": 3, "a": 2}, 2_100_050)
    assert [candidate.name for candidate in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("entries", "allowed"),
    [
        ([], True),
        (["acEU"], True),
        (["acEU_ALL"], True),
        (["acEU_CZ_ALL"], True),
        (["acALL"], True),
        (["acEU_DE_ALL"], False),
        (["acNA"], False),
        (["a!cEU_CZ"], False),
        (["a!cEU_NONE"], False),
        (["a!cEU_DE"], True),
    ],
)
def test_regions(entries: list[str], allowed: bool) -> None:
    assert region_allowed(entries, "EU_CZ_Prague") is allowed


@given(st.lists(st.sampled_from(["", "50.60.70.80", "9.9.9.9"]), max_size=6), st.integers(0, 2**32))
def test_those_that_target_this_node_come_first(targets: list[str], seed: int) -> None:
    candidates = [
        Candidate(name=str(n), hash=str(n), nodes=(target,) if target else ())
        for n, target in enumerate(targets)
    ]
    chooser = Chooser(address="50.60.70.80:16127", place="EU_CZ_P", enterprise=False, skipped={"0"})
    found = choose(candidates, chooser, random.Random(seed))
    ours = [c for c in candidates[1:] if chooser.targets_us(c)]
    assert found in (ours or candidates[1:] or [None])


def test_a_full_cache_forgets_the_oldest_and_all_forget_in_time() -> None:
    now = [0]
    cache = Cache(2, lambda: now[0])
    for name in "abc":
        cache.put(name, 10)
    assert sorted(cache.hashes()) == ["b", "c"]
    now[0] = 10_000
    assert "b" not in cache
    assert not cache.hashes()
