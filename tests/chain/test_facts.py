"""ChainFacts against VirtualChain: confirmation, capability, node list and events, on a mock clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trionode.chain.facts import ChainFacts
from trionode.config.tree import ChainSettings
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.sim.chain import Mode, VirtualChain
from trionode.sim.chainnodes import StubNode

ME = "198.18.1.0"
KEY = "02" + "aa" * 32


def make_chain(count: int = 4) -> VirtualChain:
    others = [StubNode(f"198.18.{n}.0", f"02{n:064x}") for n in range(2, count + 1)]
    return VirtualChain([StubNode(ME, KEY), *others])


@asynccontextmanager
async def running(
    chain: VirtualChain, *, key: str = KEY, settings: ChainSettings | None = None, address: str = ""
) -> AsyncIterator[tuple[ChainFacts, EventBus]]:
    bus = EventBus()
    facts = ChainFacts(
        settings or ChainSettings(),
        chain.rpc_for(ME),
        chain.bench_for(ME),
        bus,
        Counters(),
        public_key=key,
        address=address,
        build_nodes=chain.build_nodes,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(facts.run)
        yield facts, bus
        nursery.cancel_scope.cancel()


def names(bus: EventBus) -> list[str]:
    return [event.name for event in bus.replay()]


@pytest.mark.trio
async def test_nothing_is_claimed_before_the_daemon_answered(autojump_clock: MockClock) -> None:
    chain = make_chain()
    chain.behave("all", Mode.DOWN)
    async with running(chain) as (facts, bus):
        await trio.sleep(100)
        assert (facts.height, facts.synced, facts.confirmed, facts.can_send) == (0, False, False, False)
        assert facts.confirmation.confirmed is None
        assert facts.daemon_reachable is False
        assert facts.last_error is not None
        assert "ECONNREFUSED" in facts.last_error
        assert len(facts.nodes) == 0
        assert names(bus) == ["daemon:unreachable"]


@pytest.mark.trio
async def test_a_healthy_chain_is_taken_over_at_once(autojump_clock: MockClock) -> None:
    chain = make_chain()
    async with running(chain) as (facts, bus):
        await facts.can_send_gate.wait()
        assert trio.current_time() < 1
        assert facts.height == facts.headers == 2_100_000
        assert facts.synced
        assert facts.confirmed
        assert facts.own_address == ME
        assert len(facts.nodes) == 4
        for name in ("daemon:polled", "daemon:recovered", "chain:height", "chain:nodes", "chain:address"):
            assert names(bus).count(name) == 1, name
        assert names(bus).count("messageCapability:changed") == 1


@pytest.mark.trio
async def test_another_key_in_the_list_gives_no_capability(autojump_clock: MockClock) -> None:
    async with running(make_chain(), key="02" + "bb" * 32) as (facts, _):
        await trio.sleep(200)
        assert facts.confirmed
        assert not facts.can_send


@pytest.mark.trio
async def test_removal_from_the_list_costs_the_capability_after_the_next_block(
    autojump_clock: MockClock,
) -> None:
    chain = make_chain()
    async with running(chain) as (facts, bus):
        await trio.sleep(45)
        chain.remove_node(ME)
        await trio.sleep(300)
        assert facts.can_send, "without a block the list is not read again"
        chain.mine()
        await trio.sleep(61)
        assert facts.confirmed
        assert not facts.can_send
        last = [event for event in bus.replay() if event.name == "messageCapability:changed"][-1]
        assert last.data == {"capable": False}


@pytest.mark.trio
async def test_losing_the_confirmation_is_told_without_a_capability_event(autojump_clock: MockClock) -> None:
    chain = make_chain()
    async with running(chain) as (facts, bus):
        await trio.sleep(10)
        start = bus.last_id
        chain.unconfirm(ME)
        await trio.sleep(31)
        assert not facts.confirmed
        assert not facts.can_send
        quiet = ("daemon:polled", "chain:nodes")
        told = [(e.name, dict(e.data)) for e in bus.replay(start) if e.name not in quiet]
        assert told == [
            ("confirmation:changed", {"confirmed": False}),
            ("chain:capability", {"capable": False}),
        ]
        chain.confirm(ME)
        await trio.sleep(31)
        assert facts.can_send


@pytest.mark.trio
async def test_an_outage_goes_through_stale_to_unconfirmed_and_back(autojump_clock: MockClock) -> None:
    chain = make_chain()
    async with running(chain) as (facts, bus):
        await trio.sleep(1)
        chain.fail(ME)
        await trio.sleep(400)
        assert facts.daemon_reachable is False
        assert not facts.synced, "the last answer is older than 300 s"
        assert facts.confirmed
        await trio.sleep(7200)
        assert facts.confirmation.stale
        assert facts.confirmed
        await trio.sleep(12_000)
        assert not facts.confirmed
        assert names(bus).count("chain:stale") == 1
        chain.recover(ME)
        await trio.sleep(31)
        assert facts.can_send
        assert facts.synced
        assert not facts.confirmation.stale


@pytest.mark.trio
async def test_a_dead_benchmark_daemon_costs_the_address(autojump_clock: MockClock) -> None:
    chain = VirtualChain([StubNode("198.18.9.0", KEY)])
    async with running(chain) as (facts, _):
        await trio.sleep(100)
        assert facts.own_address == ME, "the stub answers an unlisted caller with its source address"
        assert not facts.can_send


@pytest.mark.trio
async def test_the_address_setting_replaces_the_benchmark_daemon(autojump_clock: MockClock) -> None:
    chain = make_chain()
    async with running(chain, address=f"{ME}:16127") as (facts, _):
        await facts.can_send_gate.wait()
        assert facts.own_address == f"{ME}:16127"
        assert not chain.journal("getbenchmarks")


@pytest.mark.trio
@pytest.mark.parametrize("lag", [4, 5])
async def test_synced_means_less_than_five_blocks_behind(autojump_clock: MockClock, lag: int) -> None:
    chain = make_chain()
    async with running(chain) as (facts, _):
        await trio.sleep(1)
        chain.set_height(chain.height - lag)
        await trio.sleep(31)
        assert facts.headers == 2_100_000, "headers never fall"
        assert facts.synced == (lag < 5)


@pytest.mark.trio
async def test_how_far_behind_counts_as_synced_is_a_setting(autojump_clock: MockClock) -> None:
    chain = make_chain()
    async with running(chain, settings=ChainSettings(synced_within_blocks=9)) as (facts, _):
        await trio.sleep(1)
        chain.set_height(chain.height - 8)
        await trio.sleep(31)
        assert facts.synced
        chain.set_height(chain.height - 1)
        await trio.sleep(31)
        assert not facts.synced


@pytest.mark.trio
@pytest.mark.parametrize(("gate_s", "answered_at_s"), [(2.0, 12.0), (5.0, 15.0), (90.0, 30.0)])
async def test_a_daemon_absent_at_the_start_is_asked_more_often(
    autojump_clock: MockClock, gate_s: float, answered_at_s: float
) -> None:
    chain = make_chain()
    chain.fail(ME)
    async with running(chain, settings=ChainSettings(start_gate_interval_s=gate_s)) as (_, bus):
        await trio.sleep(11)
        chain.recover(ME)
        with trio.fail_after(100), bus.subscribe("daemon:polled", buffer=4) as news:
            await news.receive()
            assert trio.current_time() == pytest.approx(answered_at_s, abs=0.1)
            await news.receive()
            assert trio.current_time() == pytest.approx(answered_at_s + 30, abs=0.1)


@pytest.mark.trio
async def test_garbage_heights_are_a_failed_poll(autojump_clock: MockClock) -> None:
    chain = make_chain()
    async with running(chain) as (facts, _):
        await trio.sleep(1)
        chain.blocks.height = -7
        await trio.sleep(31)
        assert facts.height == 2_100_000
        assert facts.last_error is not None
        assert "blocks = -7" in facts.last_error
