"""Ports of an app before its install, and one port at a time all the while."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from spawnrig import HEIGHT, Registry, app_spec
from trio.testing import MockClock

from trionode.appstate.source import LocationView
from trionode.config.tree import BootSettings, PortTestSettings
from trionode.containers.machine.listeners import MemoryListeners
from trionode.containers.memory.disk import MemoryFirewall
from trionode.containers.spawning.porttest import PortCheck, PortDoor, PortTest, Witnesses
from trionode.containers.spawning.portwatch import PortAvailability
from trionode.lifecycle.dos import Knock
from trionode.plans.parts import Part, parts_of
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.dosstate import DosState
from trionode.sync.witness import PortWord
from trionode.wire.nodelist import NodeEntry, NodeList

ME = "9.0.0.1:16137"


class Rig:
    """A node, its firewall and listeners, and others that knock."""

    def __init__(self, others: int = 20, seed: int = 4) -> None:
        rows = [NodeEntry(ip=f"1.0.{n}.1:16127", pubkey="x") for n in range(others)]
        mine = [
            NodeEntry(ip=ME, pubkey="me"),
            NodeEntry(ip="9.0.0.1", pubkey="y"),
            NodeEntry(ip="", pubkey="z"),
        ]
        self.nodes = NodeList([*rows, *mine])
        self.own_address: str | None = ME
        self.height = HEIGHT
        self.synced = self.confirmed = True
        self.firewall, self.listeners = MemoryFirewall(), MemoryListeners()
        self.silent: set[str] = set()
        self.shut: set[int] = set()
        self.asked: list[tuple[float, str, tuple[int, ...]]] = []
        self.registry = Registry()
        self.apps: dict[str, tuple[Part, ...]] = {}
        self.rows: dict[str, list[LocationView]] = {}
        self.settings = PortTestSettings()
        self.dos, self.counters = DosState(EventBus()), Counters()
        rng = random.Random(seed)
        door = PortDoor(self.settings, self.firewall, self.listeners)
        self.test = PortTest(self.settings, chain=self, witness=self, door=door, rng=rng)
        self.check = PortCheck(
            test=self.test,
            chain=self,
            installed=self,
            locations=self,
            specs=self.registry,
            api_ports=(16127, 16137, 16147),
        )
        self.watch = PortAvailability(
            BootSettings(),
            chain=self,
            installed=self,
            witness=self,
            door=door,
            dos=self.dos,
            counters=self.counters,
            rng=rng,
            blocked=(40_000,),
        )

    async def reaches_ports(
        self, ip: str, port: int, *, own_ip: str, own_port: int, ports: Sequence[int], timeout_s: float
    ) -> PortWord:
        assert (own_ip, own_port) == ("9.0.0.1", 16137)
        assert set(ports) <= self.listeners.open
        assert set(ports) <= set(self.firewall.open)
        self.asked.append((trio.current_time(), ip, tuple(ports)))
        if ip in self.silent or "all" in self.silent:
            return PortWord(Knock.SILENT)
        found = next((port for port in ports if port in self.shut or -1 in self.shut), None)
        return PortWord(Knock.REACHED) if found is None else PortWord(Knock.SHUT, found)

    def names(self) -> frozenset[str]:
        return frozenset(self.apps)

    def parts(self, name: str) -> tuple[Part, ...]:
        return self.apps[name]

    def locations(self, name: str | None = None, ip: str | None = None) -> list[LocationView]:
        return self.rows.get(ip or "", [])

    @property
    def is_clean(self) -> bool:
        return not self.firewall.open and not self.listeners.open


@pytest.mark.trio
async def test_ports_that_are_reached(autojump_clock: MockClock) -> None:
    rig = Rig()
    assert await rig.test.problem((31000, 31001)) is None
    ((at_s, ip, ports),) = rig.asked
    assert (at_s, ports) == (15.0, (31000, 31001))
    assert ip.startswith("1.0.")
    assert rig.is_clean
    assert await rig.test.problem(()) is None
    assert len(rig.asked) == 1


@pytest.mark.trio
async def test_a_shut_port_is_named(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.shut = {31001}
    assert await rig.test.problem((31000, 31001)) == "Port 31001 cannot be reached from outside."
    assert len(rig.asked) == 1
    assert rig.is_clean


@pytest.mark.trio
async def test_five_others_are_asked_and_no_more(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.silent = {"all"}
    assert await rig.test.problem((31000,)) == "No other node tested its ports."
    assert len({ip for _, ip, _ in rig.asked}) == 5
    assert rig.is_clean
    alone = Rig(others=0)
    assert await alone.test.problem((31000,)) == "No other node tested its ports."
    assert alone.asked == []
    alone.own_address = None
    assert "own address" in str(await alone.test.problem((31000,)))


def test_everybody_but_us_is_drawn_once() -> None:
    drawn = list(Witnesses(Rig(), random.Random(1)).draw())
    assert len(drawn) == len(set(drawn)) == 20
    assert all(ip != "9.0.0.1" for ip, _ in drawn)


@pytest.mark.trio
@pytest.mark.parametrize("fault", ["allow 31001", "taken"])
async def test_what_cannot_be_opened_is_closed_again(autojump_clock: MockClock, fault: str) -> None:
    rig = Rig()
    if fault == "taken":
        rig.listeners.taken = {31001}
    else:
        rig.firewall.failing[fault] = None
    assert "cannot be opened" in str(await rig.test.problem((31000, 31001, 31002)))
    # what somebody else listens on is never opened to the world
    assert rig.firewall.steps or fault == "taken"
    assert not (rig.firewall.steps and fault == "taken")
    assert rig.asked == []
    assert rig.is_clean


@pytest.mark.trio
async def test_a_firewall_that_does_not_close_costs_only_that_port(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.firewall.failing["forget 31000"] = 1
    assert await rig.test.problem((31000, 31001)) is None
    assert set(rig.firewall.open) == {31000}


@pytest.mark.trio
@pytest.mark.parametrize("at_s", [2, 9])
async def test_a_cancelled_test_leaves_nothing_open(autojump_clock: MockClock, at_s: float) -> None:
    rig = Rig()
    with trio.move_on_after(at_s):
        await rig.test.problem((31000, 31001))
    assert rig.is_clean


def listed(name: str, ip: str) -> LocationView:
    return LocationView(name, "h", ip, 0, 1, None, None, None)


@pytest.mark.trio
async def test_free_ports_here_and_behind_our_address(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.apps = {"old": parts_of(app_spec("old", port=31005)) or ()}
    for spec in (app_spec("far", port=31006), app_spec("own", port=31007)):
        rig.registry.put(spec)
    rig.rows = {"9.0.0.1": [listed("far", "9.0.0.1")], ME: [listed("own", ME)]}
    rig.rows["9.0.0.1:16147"] = [listed("unknown", "9.0.0.1:16147")]
    for port, word in ((31005, "here by old"), (31006, "same address by far"), (22, "may not be used")):
        assert word in str(await rig.check.problem(app_spec("new", port=port)))
    assert rig.asked == []
    assert await rig.check.problem(app_spec("new", port=31007)) is None
    rig.shut = {31008}
    assert "31008" in str(await rig.check.problem(app_spec("new", port=31008)))


async def watched(rig: Rig, *steps: Any) -> None:
    """Run the availability loop; every step is seconds to wait or something to do."""
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.watch.run)
        for step in steps:
            if callable(step):
                step()
            else:
                await trio.sleep(step)
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_reachable_node_is_tested_once_an_hour(autojump_clock: MockClock) -> None:
    rig = Rig()
    await watched(rig, 180 + 5 * 3600)
    assert 4 <= len(rig.asked) <= 5
    assert rig.dos.state == 0
    assert rig.is_clean
    assert rig.watch.status.last == "reachable"


@pytest.mark.trio
async def test_shut_ports_add_up_to_a_penalty_and_are_forgiven(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.shut = {-1}

    def hurts() -> None:
        assert rig.dos.state >= 100
        assert "cannot be reached" in str(rig.dos.message)
        assert rig.dos.sources() == {"ports": rig.watch.status.penalty}
        assert len(rig.watch.status.shut) == 100
        rig.shut = set()

    await watched(rig, 3 * 3600, hurts, 1, 2 * 3600)
    assert rig.dos.state == 0
    assert rig.watch.status.shut == ()


@pytest.mark.trio
async def test_a_silent_node_is_not_asked_again_at_once(autojump_clock: MockClock) -> None:
    rig = Rig(others=4)
    rig.silent = {f"1.0.{n}.1" for n in range(4)}
    await watched(rig, 180 + 4 * 20.5)
    assert sorted(ip for _, ip, _ in rig.asked) == [f"1.0.{n}.1" for n in range(4)]
    assert rig.dos.state == 0
    assert rig.watch.status.shut == ()


@pytest.mark.trio
async def test_nodes_that_were_silent_are_asked_again_when_nobody_else_is_left(
    autojump_clock: MockClock,
) -> None:
    """D-17: one hour in which nobody answered is no reason never to test again."""
    rig = Rig(others=4)
    rig.silent = {f"1.0.{n}.1" for n in range(4)}

    def answers() -> None:
        assert len(rig.asked) == 4
        rig.silent.clear()

    await watched(rig, 180 + 4 * 20.5, answers, 600)
    assert len(rig.asked) > 4
    assert rig.watch.status.last == "reachable"


@pytest.mark.trio
@pytest.mark.parametrize("lack", ["synced", "confirmed", "own_address"])
async def test_nothing_is_tested_before_the_node_has_its_place(autojump_clock: MockClock, lack: str) -> None:
    rig = Rig()
    setattr(rig, lack, None)
    await watched(rig, 20_000)
    assert rig.asked == []


@pytest.mark.trio
async def test_a_walk_passes_over_what_must_not_be_tested(autojump_clock: MockClock) -> None:
    """Shut ports lead upwards; the operator's, those of apps, and those of others are passed over."""
    rig = Rig()
    rig.apps = {"old": parts_of(app_spec("old", port=40_001)) or ()}
    rig.listeners.taken = {40_002}
    rig.watch._rng = Fixed(39_999)  # type: ignore[assignment]
    rig.shut = {-1}
    await watched(rig, 180 + 15 * 4 + 60 + 40)
    tested = [ports[0] for _, _, ports in rig.asked]
    assert tested[:2] == [39_999, 40_003]
    assert not {40_000, 40_001, 40_002} & set(tested)


class Fixed(random.Random):
    """Draws one port."""

    def __init__(self, port: int) -> None:
        super().__init__(1)
        self._port = port

    def randint(self, a: int, b: int) -> int:
        return self._port
