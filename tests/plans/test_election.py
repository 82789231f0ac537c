"""The election: never two primaries while the facts agree, and what is not known is not nobody."""

from __future__ import annotations

from collections.abc import Collection

from hypothesis import given, settings
from hypothesis import strategies as st

from trionode.lifecycle.local import Component
from trionode.plans.election import (
    AskManager,
    AskRunning,
    Election,
    ElectionFacts,
    Member,
    Memory,
    StartPrimary,
    StopApp,
    elect,
    manager_urls,
    ranked,
)

APP = (Component("web_app", "/w"), Component("db_app", "g:/d"))
CYCLE_MS = 30_000


class Net:
    """Nodes that all see the same: the managers list who runs the app, and who is asked tells the truth."""

    def __init__(self, size: int, old: int | None) -> None:
        self.members = [Member(f"1.1.1.{n}:16127", n) for n in range(size)]
        self.memory = [Memory(None if old is None else f"1.1.1.{old}") for _ in range(size)]
        self.running: set[int] = set()
        self.alive = set(range(size))
        self.managers_up = True
        self.most = 0

    def turn(self, node: int, now_ms: int, *, ready: bool = True) -> Election:
        facts = ElectionFacts(
            app="app",
            components=APP,
            members=self.members,
            own_address=f"1.1.1.{node}",
            running=frozenset({"fluxdb_app"} if node in self.running else ()),
            ready=ready,
            now_ms=now_ms,
        )
        result = outcome(facts, self.memory[node], self.answer)
        self.memory[node] = result.memory
        if isinstance(result.action, StartPrimary):
            self.running.add(node)
        elif isinstance(result.action, StopApp):
            self.running.discard(node)
        self.most = max(self.most, len(self.running & self.alive))
        return result

    def answer(self, need: AskManager | AskRunning) -> Collection[str] | None:
        running = sorted(self.running & self.alive)
        if isinstance(need, AskManager):
            return [f"1.1.1.{n}" for n in running] if self.managers_up else None
        node = int(need.address.partition(":")[0].rpartition(".")[2])
        if node not in self.alive:
            return None
        return ["/fluxdb_app"] if node in self.running else []


def outcome(facts: ElectionFacts, memory: Memory, answer: object) -> Election:
    steps = elect(facts, memory, manager_urls(facts.app))
    try:
        need = next(steps)
        while True:
            need = steps.send(answer(need))  # type: ignore[operator]
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.data())
def test_never_two_primaries_while_the_facts_agree(size: int, data: st.DataObject) -> None:
    net = Net(size, data.draw(st.none() | st.integers(0, size - 1)))
    for cycle in range(40):
        fate = data.draw(st.sampled_from(["", "", "", "dies", "managers"]))
        if fate == "dies" and len(net.alive) > 1:
            lost = data.draw(st.sampled_from(sorted(net.alive)))
            net.alive.discard(lost)
            net.running.discard(lost)
        elif fate == "managers":
            net.managers_up = not net.managers_up
        for node in data.draw(st.permutations(sorted(net.alive))):
            net.turn(node, cycle * CYCLE_MS, ready=data.draw(st.booleans()))
        assert net.most <= 1


@given(st.integers(1, 6), st.integers(0, 5))
def test_somebody_takes_over(size: int, lost: int) -> None:
    net = Net(size, None)
    if size > 1:
        net.alive.discard(lost % size)
    for cycle in range(60):
        for node in sorted(net.alive):
            net.turn(node, cycle * CYCLE_MS)
    assert len(net.running) == 1


def test_silent_managers_start_nobody_and_keep_what_was_planned() -> None:
    net = Net(2, None)
    net.managers_up = False
    net.memory[1] = Memory("1.1.1.0", 5)
    first, second = net.turn(0, 10), net.turn(1, 10)
    assert first.action is None
    assert second.action is None
    assert net.memory[1] == Memory("1.1.1.0", 5)


def test_another_primary_stops_the_whole_app_last_component_first() -> None:
    net = Net(2, None)
    net.running = {0, 1}
    result = net.turn(1, 0)
    assert isinstance(result.action, StopApp)
    assert result.action.identifiers == ("db_app", "web_app")


def test_the_start_sequence() -> None:
    result = Net(1, None).turn(0, 0)
    assert isinstance(result.action, StartPrimary)
    steps = [(s.what, s.target, s.folder_type, s.must_succeed) for s in result.action.steps]
    assert steps == [
        ("folder", "fluxdb_app", "receiveonly", False),
        ("open", "fluxdb_app", "", True),
        ("folder", "fluxdb_app", "sendreceive", True),
        ("restart", "web_app", "", True),
        ("restart", "db_app", "", True),
    ]


def test_nobody_asks_himself() -> None:
    asked: list[object] = []
    facts = ElectionFacts(
        app="app", components=APP, members=[Member("1.1.1.0:16127")], own_address="1.1.1.0:16127"
    )

    def answer(need: object) -> list[str]:
        asked.append(need)
        return []

    result = outcome(facts, Memory("1.1.1.0"), answer)
    assert isinstance(result.action, StartPrimary)
    assert not [need for need in asked if isinstance(need, AskRunning)]


def test_members_without_a_start_come_first() -> None:
    members = [Member("3", 5), Member("2"), Member("1", 5), Member("4", 1)]
    assert [member.address for member in ranked(members)] == ["2", "4", "1", "3"]


def test_no_elected_component_no_election() -> None:
    facts = ElectionFacts(app="a", components=(Component("a", "/d"),), members=[], own_address="1.1.1.1")
    assert outcome(facts, Memory(), None).action is None
    held = ElectionFacts(app="app", components=APP, members=[], own_address="1.1.1.1", held=True)
    assert outcome(held, Memory(), None).action is None
