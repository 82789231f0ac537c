"""The departure inside a whole orderly stop: what is told, and what cannot stretch it past its deadline."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from trionode.appstate.decision import Decision
from trionode.config.tree import HostingSettings, NodeSettings, SystemSettings
from trionode.errors import PeerError
from trionode.hosting.departure import Departure
from trionode.hosting.heartbeat import META_KEY, Heartbeat
from trionode.hosting.memory import MemoryHost
from trionode.hosting.port import RunningApp
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.runtime.machine import MemoryMachine
from trionode.runtime.supervisor import StopCutShort, Supervisor
from trionode.store.memory import MemoryStore
from trionode.wire.envelope import Envelope

NODE, HOSTING = NodeSettings(), HostingSettings()
SHORT_S = NODE.shutdown_grace_s
LONG_S = HOSTING.stop_grace_s + HOSTING.stop_extra_s
APPS = tuple(RunningApp(name, "") for name in ("web", "shop", "db"))


class Store(MemoryStore):
    """A store that may stop answering."""

    hanging = False

    async def put_meta(self, key: str, value: str) -> None:
        if self.hanging:
            await trio.sleep_forever()
        await super().put_meta(key, value)


class Peers:
    """Peers that take a time to read; the log that goes with them."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.applied = 0
        self.flush_s = 0.1
        self.log_s = 0.0
        self.fails = False

    def broadcast_last(self, data: dict[str, Any]) -> Envelope:
        if self.fails:
            raise PeerError("cannot sign")
        self.said.append(data)
        return cast("Envelope", object())

    async def flushed(self) -> None:
        await trio.sleep(self.flush_s)

    async def apply_local(self, envelope: Envelope) -> Decision:
        await trio.sleep(self.log_s)
        self.applied += 1
        return Decision(accepted=True)


class Machine(MemoryMachine):
    """A machine that may take its time to say whether it goes down."""

    answer_s = 0.0

    async def is_going_down(self) -> bool:
        await trio.sleep(self.answer_s)
        return self.going_down


class Facts:
    own_address: str | None = "1.2.3.4:16127"


class Node:
    """A node with one service besides the heartbeat, under a supervisor."""

    def __init__(self, apps: tuple[RunningApp, ...] = APPS) -> None:
        self.machine = Machine()
        self.machine.going_down = True
        self.host = MemoryHost(apps, stop_s=3)
        self.store = Store()
        self.peers = Peers()
        self.facts = Facts()
        self.counters = Counters()
        self.clock = VirtualClock()
        self.extensions: list[float] = []
        self.hushed = 0
        self.service_stopped_s: float | None = None
        self.heartbeat = Heartbeat(SystemSettings(), self.store, self.machine, self.clock, self.counters)
        self.departure = Departure(
            NODE,
            HOSTING,
            machine=self.machine,
            host=self.host,
            heartbeat=self.heartbeat,
            peers=self.peers,
            own_log=self.peers,
            facts=self.facts,
            clock=self.clock,
            counters=self.counters,
            running=lambda: [app.name for app in apps],
            hush=self.hush,
        )
        self.supervisor = Supervisor(
            self.counters,
            random.Random(1),
            grace_s=NODE.shutdown_grace_s,
            farewell=lambda reason: self.departure.leave(reason, self.extend),
        )
        self.supervisor.add(self.heartbeat, essential=True)
        self.supervisor.add(self, essential=True)

    name = "other"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.service_stopped_s = trio.current_time()

    def hush(self) -> None:
        self.hushed += 1

    def extend(self, grace_s: float) -> None:
        self.extensions.append(grace_s)
        self.supervisor.extend_grace(grace_s)

    async def stop(self, reason: str = "SIGTERM", second_after_s: float | None = None) -> float:
        """Start, stop after a while; the seconds the stop took."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.supervisor.run)
            await trio.sleep(100)
            self.began_s = trio.current_time()
            self.supervisor.stop(reason)
            if second_after_s is not None:
                await trio.sleep(second_after_s)
                self.supervisor.cut_short("second SIGTERM")
        return trio.current_time() - self.began_s

    async def record(self) -> str:
        return await self.store.get_meta(META_KEY) or ""

    def done(self, what: str) -> list[str]:
        return sorted(target for action, target in self.host.actions if action == what)


ALL = ["fluxdb", "fluxshop", "fluxweb"]


@pytest.mark.trio
async def test_a_machine_that_goes_down_is_left_whole(autojump_clock: MockClock) -> None:
    node = Node()
    took_s = await node.stop()
    said = [{"type": "fluxnodesigterm", "version": 1, "ip": "1.2.3.4:16127"}]
    assert [{k: v for k, v in data.items() if k != "broadcastedAt"} for data in node.peers.said] == said
    assert node.peers.said[0]["broadcastedAt"] == node.clock.epoch_ms + 100_000
    assert (node.peers.applied, node.hushed) == (1, 1)
    assert '"shutdownReason":"sigterm"' in await node.record()
    assert node.done("stop") == ALL
    assert node.done("kill") == []
    assert took_s == pytest.approx(3), "as long as the containers take, side by side"
    assert node.service_stopped_s == pytest.approx(node.began_s + 3), "services outlive the departure"
    assert node.extensions == [LONG_S]


@pytest.mark.trio
@pytest.mark.parametrize("reason", ["SIGTERM", "SIGINT", "crash loop of peers"])
async def test_what_concerns_only_the_process_leaves_apps_alone(
    autojump_clock: MockClock, reason: str
) -> None:
    node = Node()
    node.machine.going_down = reason != "SIGTERM"
    assert await node.stop(reason) == 0
    assert (node.peers.said, node.host.actions, node.hushed) == ([], [], 0)
    assert "shutdownReason" not in await node.record()


@pytest.mark.trio
async def test_without_running_apps_the_grace_is_not_extended(autojump_clock: MockClock) -> None:
    node = Node(apps=())
    assert await node.stop() < 1
    assert (node.peers.said, node.extensions) == ([], [])
    assert "sigterm" in await node.record()


@pytest.mark.trio
async def test_without_an_address_only_the_containers_are_stopped(
    autojump_clock: MockClock,
) -> None:
    node = Node()
    node.facts.own_address = None
    await node.stop()
    assert node.peers.said == []
    assert node.done("stop") == ALL


@pytest.mark.trio
async def test_a_peer_that_does_not_read_holds_nothing_up(autojump_clock: MockClock) -> None:
    node = Node(apps=())
    node.departure._running = lambda: ["web"]
    node.peers.flush_s = 3600
    assert await node.stop() <= SHORT_S
    assert node.peers.applied == 1
    assert "sigterm" in await node.record()
    assert node.counters["departure.slow.peers"] == 1


@pytest.mark.trio
async def test_a_store_that_blocks_holds_nothing_up(autojump_clock: MockClock) -> None:
    node = Node()
    node.peers.log_s = 3600
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.stop)
        await trio.sleep(50)
        node.store.hanging = True
    assert trio.current_time() - node.began_s <= LONG_S
    assert len(node.peers.said) == 1
    assert node.done("stop") == ALL
    assert node.service_stopped_s is not None


@pytest.mark.trio
async def test_an_engine_that_blocks_holds_nothing_up(autojump_clock: MockClock) -> None:
    node = Node()
    node.host.hanging = True
    assert await node.stop() <= SHORT_S, "nobody knows of a container, so the short grace holds"
    assert len(node.peers.said) == 1
    assert "sigterm" in await node.record()
    assert node.counters["departure.overdue"] == 1


@pytest.mark.trio
async def test_an_engine_that_blocks_while_it_stops_containers(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node()

    async def hang(container: str, grace_s: float) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(node.host, "stop", hang)
    assert await node.stop() <= LONG_S
    assert node.done("kill") == ALL, "and what does not stop is killed"
    assert node.counters["departure.overdue"] == 0


@pytest.mark.trio
async def test_all_three_hang_at_once(autojump_clock: MockClock) -> None:
    node = Node()
    node.peers.flush_s = node.peers.log_s = 3600
    node.host.hanging = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.stop)
        await trio.sleep(50)
        node.store.hanging = True
    assert trio.current_time() - node.began_s <= SHORT_S


@pytest.mark.trio
async def test_a_machine_that_does_not_say_is_taken_for_staying_up(autojump_clock: MockClock) -> None:
    node = Node()
    node.machine.answer_s = 3600
    assert await node.stop() <= SHORT_S
    assert node.counters["departure.undecided"] == 1
    assert (node.peers.said, node.host.actions) == ([], [])


@pytest.mark.trio
async def test_one_failure_takes_nothing_along(autojump_clock: MockClock) -> None:
    node = Node()
    node.peers.fails = True
    node.host.failing = {"fluxweb"}
    await node.stop()
    assert "sigterm" in await node.record()
    assert node.done("stop") == ALL
    assert node.done("kill") == ["fluxweb"]
    assert node.counters["departure.failed.broadcast"] == 1


@pytest.mark.trio
async def test_a_second_signal_cuts_the_departure_short(autojump_clock: MockClock) -> None:
    node = Node()
    with pytest.RaisesGroup(pytest.RaisesExc(StopCutShort, match="second SIGTERM")):
        await node.stop(second_after_s=1)
    assert trio.current_time() - node.began_s == pytest.approx(1)


@pytest.mark.trio
async def test_a_signal_before_the_node_has_started(autojump_clock: MockClock) -> None:
    node = Node()
    node.supervisor.stop("SIGTERM")
    begin = trio.current_time()
    await node.supervisor.run()
    assert trio.current_time() - begin <= LONG_S
    assert '"pending"' in await node.record(), "the apps found here are still to be decided about"
    assert node.done("stop") == ALL, "the machine goes down, so its containers are stopped all the same"
