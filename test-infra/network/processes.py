"""Processes of a network: children of this process, in the network's namespace if it has one."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from pathlib import Path

from network.namespace import Namespace
from trionode.devnet.processes import Child

STOP_WITHIN_S = 10.0


class Running(Child):
    """One process in the namespace, its output in `log`. It dies with the process that started it."""

    def __init__(self, command: list[str], log: Path, namespace: Namespace | None) -> None:
        with nullcontext() if namespace is None else namespace.entered():
            super().__init__(command, log)

    def finish(self, within_s: float = STOP_WITHIN_S) -> None:
        """Wait, outside of Trio, for a process that was told to end, and kill it when it does not."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
