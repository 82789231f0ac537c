"""Child processes of a local network: started in their own session, stopped by pid, never orphaned."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from trionode.errors import StartupError

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux to kill this child when the parent is gone, even by kill -9; elsewhere a no-op.

    Linux means the thread that started the child, so that must be one that lives as long as the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A started process. Started in this very thread: one of Trio's ends when it has been idle, see above."""

    def __init__(self, command: list[str], log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def send_signal(self, number: int) -> None:
        """Does nothing when the process has ended."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for the end; the exit code."""
        await trio.lowlevel.checkpoint()
        if self.returncode is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                trio.lowlevel.notify_closing(descriptor)
                os.close(descriptor)
        return self._process.wait()


@asynccontextmanager
async def child_process(command: list[str], log: Path, *, stop_within_s: float) -> AsyncIterator[Child]:
    """Run `command` with its output in `log`; at the end SIGTERM, then SIGKILL after `stop_within_s`.

    The child has its own session, so that Ctrl-C reaches only the parent, which stops the children in
    order. Raises StartupError when the program cannot be started.
    """
    try:
        process = Child(command, log)
    except OSError as error:
        raise StartupError(f"cannot start {command[0]}: {error}", remedy="install trionode again") from error
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            await _stop(process, stop_within_s)


async def _stop(process: Child, within_s: float) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    with trio.move_on_after(within_s):
        await process.wait()
        return
    process.kill()
    await process.wait()


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of this very installation."""
    return [sys.executable, "-m", module, *arguments]
