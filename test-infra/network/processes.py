"""Processes of a network, started and stopped from ordinary code, waited for from Trio without polling."""

from __future__ import annotations

import os
import subprocess
from contextlib import nullcontext
from pathlib import Path

import trio

from network.namespace import Namespace
from trionode.devnet.processes import die_with_parent

STOP_WITHIN_S = 10.0


class Running:
    """One process in the namespace, its output in `log`. It dies with the process that started it."""

    def __init__(self, command: list[str], log: Path, namespace: Namespace | None) -> None:
        with log.open("ab") as output, nullcontext() if namespace is None else namespace.entered():
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
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        if self.exit_code is None:
            self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end; the exit code (negative: the signal)."""
        await trio.lowlevel.checkpoint()
        if self.exit_code is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                trio.lowlevel.notify_closing(descriptor)
                os.close(descriptor)
        return self._process.wait()

    def finish(self, within_s: float = STOP_WITHIN_S) -> None:
        """Wait for a process that was told to end, and kill it when it does not."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
