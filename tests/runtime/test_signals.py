"""Signals: in one process against a recorder, and whole processes that must end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import trio

from trionode.runtime.signals import EXIT_CUT_SHORT, HARD_EXIT_S, HardExit, watch_signals

PROGRAM = """
import os, random, sys, threading, trio
from trionode.cli.main import _tell_exception
from trionode.runtime import signals
from trionode.runtime.counters import Counters
from trionode.runtime.signals import HardExit, watch_signals
from trionode.runtime.supervisor import Supervisor

async def for_a(_):
    await a_stopped.wait()

a_stopped = trio.Event()
a_told = threading.Event()
waits_for = {{"time": trio.sleep, "a": for_a}}
signals.HARD_EXIT_S = {hard_exit_s}

class Service:
    def __init__(self, name):
        self.name = name
    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                if self.name == "b":
                    print("b stopping", flush=True)
                    await waits_for[{waits_for!r}]({stop_s})
            print(self.name, "stopped", flush=True)
            if self.name == "a":
                a_stopped.set()
                a_told.set()

class SaysReady:
    def started(self, value=None):
        print("ready", flush=True)

def end(code):
    # On a busy machine the loop may be later than the timer; what it has to say is waited for.
    a_told.wait(60)
    os._exit(code)

async def main():
    grace_s = {grace_s}
    supervisor = Supervisor(Counters(), random.Random(1), grace_s=grace_s)
    supervisor.add(Service("a"), essential=True)
    supervisor.add(Service("b"), essential=True)
    async with trio.open_nursery() as nursery:
        watch = lambda task_status: watch_signals(
            supervisor, grace_s=grace_s, hard_exit=HardExit(end), task_status=task_status)
        await nursery.start(watch)
        await supervisor.run(task_status=SaysReady())
        nursery.cancel_scope.cancel()

try:
    trio.run(main)
except* Exception as group:
    code = _tell_exception(group, verbose=False)
else:
    code = 0
sys.exit(code)
"""


ENDS_WITHIN_S = 120


class Recorder:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.called = trio.Event()

    def stop(self, reason: str) -> None:
        self.calls.append(f"stop {reason}")
        self.called.set()

    def cut_short(self, reason: str) -> None:
        self.calls.append(f"cut short {reason}")
        self.called.set()


@pytest.mark.trio
async def test_first_stops_second_cuts_short() -> None:
    recorder = Recorder()
    async with trio.open_nursery() as nursery:

        async def watch(task_status: trio.TaskStatus[None]) -> None:
            await watch_signals(recorder, grace_s=1, task_status=task_status)

        await nursery.start(watch)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            recorder.called = trio.Event()
            os.kill(os.getpid(), number)
            with trio.fail_after(60):
                await recorder.called.wait()
        nursery.cancel_scope.cancel()
    assert recorder.calls == ["stop SIGTERM", "cut short second SIGINT", "cut short second SIGTERM"]


def test_hard_exit_ends_the_process_unless_disarmed(capfd: pytest.CaptureFixture[str]) -> None:
    ended: list[int] = []

    def end(code: int) -> None:
        ended.append(code)

    guard = HardExit(end)  # type: ignore[arg-type]  # a real one never returns
    guard.arm(30, "never seen")
    guard.arm(0.01, "still running")
    for _ in range(6000):
        if ended:
            break
        time.sleep(0.01)
    assert ended == [EXIT_CUT_SHORT]
    assert "trionode: still running - " in capfd.readouterr().err
    others = set(threading.enumerate())
    guard.arm(60, "disarmed")
    (timer,) = (one for one in set(threading.enumerate()) - others if isinstance(one, threading.Timer))
    guard.disarm()
    # A timer that was called off ends at once, and has ended nothing.
    timer.join(30)
    assert not timer.is_alive()
    assert ended == [EXIT_CUT_SHORT]


def start(
    grace_s: float, stop_s: float, *, waits_for: str = "time", hard_exit_s: float = HARD_EXIT_S
) -> subprocess.Popen[str]:
    """Services a and b, of which b stops first. It takes `stop_s`, or waits for a."""
    program = textwrap.dedent(PROGRAM).format(
        grace_s=grace_s, stop_s=stop_s, waits_for=waits_for, hard_exit_s=hard_exit_s
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.process
def test_process_stops_in_order_with_code_zero() -> None:
    with start(grace_s=60, stop_s=0.1) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=ENDS_WITHIN_S)
    assert (process.returncode, out) == (0, "b stopping\nb stopped\na stopped\n"), err


@pytest.mark.process
def test_process_cut_short_by_a_second_signal() -> None:
    with start(grace_s=60, stop_s=0, waits_for="a", hard_exit_s=60) as process:
        process.send_signal(signal.SIGINT)
        # The kernel keeps one signal of a kind: the second must not come before the first was heard.
        assert process.stdout is not None
        assert process.stdout.readline() == "b stopping\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == EXIT_CUT_SHORT
    assert out == "a stopped\nb stopped\n", "b was still busy when a was cancelled: it waited for that"
    assert err.strip().splitlines()[-1].startswith("trionode: stopped at once: second SIGINT - ")


@pytest.mark.process
def test_process_with_a_service_that_never_stops_ends_hard() -> None:
    with start(grace_s=0.2, stop_s=3600) as process:
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=ENDS_WITHIN_S)
    # Grace and HARD_EXIT_S; that it ends at all says that it is neither an hour nor for ever.
    assert time.monotonic() - begin > 1.1
    assert process.returncode == EXIT_CUT_SHORT
    assert out == "b stopping\na stopped\n"
    assert "the grace of an orderly stop is over" in err
    assert "trionode: still running 1.2 s after SIGTERM" in err
