"""Gate (docs/spec/lifecycle.md §2, with the re-check that the original lacks)."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trionode.runtime.gate import Gate


@pytest.mark.trio
async def test_open_gate_lets_through_at_once() -> None:
    gate = Gate(is_open=True)
    with trio.fail_after(60):
        await gate.wait()


@pytest.mark.trio
async def test_waiters_wait_until_open(autojump_clock: trio.abc.Clock) -> None:
    gate = Gate()
    passed: list[int] = []

    async def waiter(number: int) -> None:
        await gate.wait()
        passed.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(waiter, number)
        await wait_all_tasks_blocked()
        assert passed == []
        gate.open()
        await wait_all_tasks_blocked()
        assert sorted(passed) == [0, 1, 2]


@pytest.mark.trio
async def test_waiter_released_and_shut_out_again_goes_on_waiting() -> None:
    gate = Gate()
    passed = False

    async def waiter() -> None:
        nonlocal passed
        await gate.wait()
        passed = True
        assert gate.is_open

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter)
        await wait_all_tasks_blocked()
        gate.open()
        gate.close()
        await wait_all_tasks_blocked()
        assert not passed
        gate.open()
        await wait_all_tasks_blocked()
        assert passed


@pytest.mark.trio
async def test_closing_twice_keeps_the_waiters() -> None:
    gate = Gate(is_open=True)
    gate.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gate.wait)
        await wait_all_tasks_blocked()
        gate.close()
        gate.set(True)
        gate.set(True)
        with trio.fail_after(60):
            await gate.wait()
    gate.set(False)
    assert not gate.is_open


@pytest.mark.trio
async def test_wait_is_a_checkpoint_and_can_be_cancelled() -> None:
    gate = Gate(is_open=True)
    with trio.CancelScope() as scope:
        scope.cancel()
        await gate.wait()
        pytest.fail("a cancelled wait returned")
    assert scope.cancelled_caught
