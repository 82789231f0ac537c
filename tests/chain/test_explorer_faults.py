"""Whatever the daemon does, and whenever the node is killed: the rows are those of an undisturbed run."""

from __future__ import annotations

import msgspec
import pytest
import trio
from explorerworld import TIP, World, make_chain, truth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trionode.sim.chain import Mode, VirtualChain
from trionode.sim.chainpayments import price_transaction

FIRST = TIP - 2600


class Step(msgspec.Struct, frozen=True):
    """Something that happens, and how long the world then goes on."""

    what: str
    amount: int
    seconds: float


STEPS = st.builds(
    Step,
    what=st.sampled_from(
        ["ok", "down", "slow", "garbage", "wrong", "half-batch", "warming", "mine", "reorg", "kill"]
    ),
    amount=st.integers(1, 99),
    seconds=st.floats(0.01, 40),
)


def happen(chain: VirtualChain, step: Step) -> None:
    if step.what == "warming":
        chain.fail("all")
    elif step.what == "mine":
        chain.mine(step.amount)
    elif step.what == "reorg":
        chain.reorg(step.amount, extra=1 + step.amount % 3, fate=("keep", "shift", "drop")[step.amount % 3])
    elif step.what != "kill":
        chain.recover("all")
        chain.behave("all", Mode(step.what), 200 * step.amount)


async def disturbed(steps: list[Step], *, index: bool) -> World:
    world = World(make_chain(apps=700, first=FIRST + 1), index=index)
    for height, price in ((FIRST + 500, "3"), (FIRST + 900, "0.01"), (TIP + 3, "2.1")):
        world.chain.blocks.plant(height, price_transaction(f"p_0.03_0.01_0.004_{price}", height))
    await world.store.set_scanned_height(FIRST)
    world.chain.behave("all", Mode.SLOW, 20)
    left = list(steps)
    while left:
        async with world.running():
            while left:
                step = left.pop(0)
                happen(world.chain, step)
                await trio.sleep(step.seconds)
                if step.what == "kill":
                    break
    world.chain.recover("all")
    world.chain.behave("all", Mode.OK)
    async with world.running():
        await world.at_tip()
    return world


def run_disturbed(steps: list[Step], *, index: bool) -> World:
    async def check() -> World:
        world = await disturbed(steps, index=index)
        assert await world.rows() == await truth(world.chain, FIRST + 1)
        return world

    return trio.run(check, clock=MockClock(autojump_threshold=0))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=8))
def test_block_by_block(steps: list[Step]) -> None:
    run_disturbed(steps, index=False)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=8))
def test_through_the_address_index(steps: list[Step]) -> None:
    run_disturbed(steps, index=True)


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize(
    ("what", "counted"),
    [
        ("down", "explorer.failed.chain.ECONNREFUSED"),
        ("slow", "explorer.failed.chain.ECONNABORTED"),
        ("garbage", "explorer.failed.chain.500"),
        ("warming", "explorer.failed.chain.-28"),
        ("wrong", "explorer.failed.chain-malformed.500"),
    ],
)
def test_every_fault_is_counted_by_name(what: str, counted: str, index: bool) -> None:
    world = run_disturbed([Step("mine", 1, 0.07), Step(what, 99_000, 90), Step("ok", 1, 100)], index=index)
    told = world.counters.snapshot("explorer.failed.")
    assert [name for name in told if name == counted or name.endswith(counted[-4:])], told


def test_half_batches_are_completed() -> None:
    world = run_disturbed([Step("half-batch", 1, 30)], index=True)
    assert world.counters["explorer.bootstrap.unanswered_items"] > 0


@pytest.mark.parametrize("seconds", [0.02, 0.05, 0.3, 1.0, 2.0, 4.0, 6.0])
@pytest.mark.parametrize("index", [False, True])
def test_killed_at_any_moment(seconds: float, index: bool) -> None:
    run_disturbed([Step("kill", 1, seconds)] * 4, index=index)
