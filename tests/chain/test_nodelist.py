"""The node-list service under a mock clock: when it asks, and what it keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trionode.chain.nodelist import METHOD, NodeListService
from trionode.chain.port import ChainRpc, RpcParams
from trionode.config.tree import ChainSettings
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.sim.chain import VirtualChain
from trionode.sim.chainnodes import StubNode

ME = "198.18.1.0"
NODES = [StubNode(f"198.18.{n}.0", f"02{n:064x}") for n in range(1, 4)]


class Fetches:
    """A ChainRpc that notes when the list was asked for and may answer something else."""

    def __init__(self, chain: VirtualChain) -> None:
        self._rpc: ChainRpc = chain.rpc_for(ME)
        self.at_s: list[float] = []
        self.instead: object = None
        self.takes_s = 0.0

    async def call(self, method: str, params: RpcParams = (), *, fresh: bool = False) -> object:
        assert (method, fresh) == (METHOD, True)
        self.at_s.append(round(trio.current_time(), 3))
        await trio.sleep(self.takes_s)
        return await self._rpc.call(method) if self.instead is None else self.instead

    async def batch(self, calls: object) -> list[object]:
        raise AssertionError("no batches here")


class World:
    def __init__(self, nodes: list[StubNode]) -> None:
        self.chain = VirtualChain(nodes)
        self.daemon = Fetches(self.chain)
        self.bus = EventBus()
        self.counters = Counters()
        self.rechecks = 0
        self.service = NodeListService(
            ChainSettings(), self.daemon, self.bus, self.counters, self.recheck, self.chain.build_nodes
        )

    async def recheck(self) -> None:
        await trio.lowlevel.checkpoint()
        self.rechecks += 1

    def block(self) -> None:
        self.bus.publish("chain:height", {"height": self.chain.mine()})


@asynccontextmanager
async def running(nodes: list[StubNode]) -> AsyncIterator[World]:
    world = World(nodes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.service.run)
        await trio.testing.wait_all_tasks_blocked()
        yield world
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_the_first_fetch_is_repeated_until_there_is_a_list(autojump_clock: MockClock) -> None:
    async with running([]) as world:
        await trio.sleep(40)
        assert not world.service.populated.is_open
        world.chain.fail("all")
        await trio.sleep(30)
        world.chain.recover("all")
        world.chain.set_nodes(NODES)
        await world.service.populated.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert world.daemon.at_s == [0, 15, 30, 45, 60, 75]
        assert world.service.nodes.addresses() == [node.ip for node in NODES]
        assert (world.counters["chain.nodelist.empty"], world.counters["chain.nodelist.failed"]) == (3, 2)
        assert world.rechecks == 1


@pytest.mark.trio
async def test_without_a_block_there_is_no_refresh(autojump_clock: MockClock) -> None:
    async with running(NODES) as world:
        await trio.sleep(10_000)
        assert world.daemon.at_s == [0]


@pytest.mark.trio
async def test_blocks_refresh_at_most_every_thirty_seconds_with_one_queued(autojump_clock: MockClock) -> None:
    async with running(NODES) as world:
        for _ in range(100):
            await trio.sleep(1)
            world.block()
        await trio.sleep(500)
        assert world.daemon.at_s == [0, 30, 60, 90, 120]
        world.block()
        await trio.sleep(1)
        assert len(world.daemon.at_s) == 6, "after a quiet time a block is followed at once"


@pytest.mark.trio
async def test_a_block_during_a_fetch_is_followed_by_one_more(autojump_clock: MockClock) -> None:
    async with running(NODES) as world:
        world.daemon.takes_s = 10
        await trio.sleep(40)
        world.block()
        await trio.sleep(5)
        for _ in range(3):
            world.block()
        await trio.sleep(500)
        assert world.daemon.at_s == [0, 40, 80]


@pytest.mark.trio
@pytest.mark.parametrize("bad", [[], {}, "text", 0, [None, "row"]])
async def test_a_bad_refresh_keeps_the_old_list(autojump_clock: MockClock, bad: object) -> None:
    async with running(NODES) as world:
        before = world.service.nodes
        world.daemon.instead = bad
        await trio.sleep(31)
        world.block()
        await trio.sleep(1)
        assert len(world.daemon.at_s) == 2
        assert world.service.nodes is before
        assert world.rechecks == 1
        world.daemon.instead = None
        world.chain.remove_node(ME)
        world.block()
        await trio.sleep(31)
        assert len(world.service.nodes) == 2
        assert len(before) == 3, "lists that were handed out never change"


@pytest.mark.trio
async def test_a_new_list_is_told(autojump_clock: MockClock) -> None:
    async with running(NODES) as world:
        told = [(event.name, event.data["count"]) for event in world.bus.replay()]
        assert told == [("chain:nodes", 3)]
