"""Commands of the machine: whole, in time, without a shell."""

from __future__ import annotations

import os

import pytest
import trio

from trionode.containers.machine.commands import CommandError, ProgramMissing, SystemRun, must

pytestmark = pytest.mark.process


@pytest.mark.trio
async def test_words_arrive_as_they_are() -> None:
    words = ["a b", "$HOME", ";reboot", "`id`", "*"]
    assert await must(SystemRun(), "printf", "%s\\n", *words) == "\n".join(words) + "\n"


@pytest.mark.trio
async def test_what_is_given_is_its_input() -> None:
    assert await must(SystemRun(), "cat", given="ä\n") == "ä\n"
    assert await must(SystemRun(), "cat") == ""


@pytest.mark.trio
async def test_a_failure_tells_what_the_command_said() -> None:
    with pytest.raises(CommandError, match="failed with 3: no good"):
        await must(SystemRun(), "sh", "-c", "echo no good >&2; exit 3")
    done = await SystemRun()("sh", "-c", "echo half; exit 4")
    assert (done.status, done.output) == (4, "half\n")


@pytest.mark.trio
async def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(ProgramMissing, match="mkfs-of-nobody") as caught:
        await SystemRun()("mkfs-of-nobody")
    assert "install" in caught.value.remedy


@pytest.mark.trio
async def test_one_that_takes_too_long_is_killed() -> None:
    with pytest.raises(CommandError, match="did not end"):
        await SystemRun(0.1)("sleep", "60")


@pytest.mark.trio
async def test_a_cancelled_one_is_dead_when_the_cancellation_is_through() -> None:
    # it ignores SIGTERM, and writes its number before it waits
    read, write = os.pipe()
    with trio.move_on_after(55) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                SystemRun(), "sh", "-c", f"trap '' TERM; echo $$ > /proc/{os.getpid()}/fd/{write}; sleep 60"
            )
            number = int(await trio.to_thread.run_sync(os.read, read, 100))
            nursery.cancel_scope.cancel()
    os.close(read)
    os.close(write)
    assert not scope.cancelled_caught
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
