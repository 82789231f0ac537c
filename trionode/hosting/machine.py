"""The real machine under a node: its boot id, and the signs that it is going down (lifecycle.md §4, §5)."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import trio

from trionode.config.tree import SystemSettings
from trionode.lifecycle.shutdown import CommandSign, FileSign, Sign, signs
from trionode.runtime.logs import get_logger

log = get_logger("hosting.machine")


class Commands(Protocol):
    """Asks the machine."""

    def exists(self, path: str) -> bool:
        """Whether a file is there."""
        ...

    async def output(self, command: Sequence[str], within_s: float) -> str:
        """What a command prints; empty when it is not there, fails to start or takes too long."""
        ...


async def first_sign(wanted: Sequence[Sign], commands: Commands, within_s: float) -> Sign | None:
    """The first sign that the machine goes down, None when there is none."""
    for sign in wanted:
        if isinstance(sign, FileSign):
            if commands.exists(sign.path):
                return sign
        elif sign.matches(await commands.output(sign.command, within_s)):
            return sign
    return None


class SystemCommands:
    """`Commands` of the real machine."""

    def exists(self, path: str) -> bool:
        """See `Commands.exists`; what cannot be looked at is not there."""
        try:
            return Path(path).exists()
        except OSError:
            return False

    async def output(self, command: Sequence[str], within_s: float) -> str:
        """See `Commands.output`. Many of these end with an error code and mean it as an answer."""
        with trio.move_on_after(within_s):
            try:
                done = await trio.run_process(
                    list(command),
                    capture_stdout=True,
                    stderr=subprocess.DEVNULL,
                    check=False,
                    deliver_cancel=_kill,
                )
            except OSError:
                return ""
            return done.stdout.decode(errors="replace")
        log.warning("a question about the machine was not answered", command=" ".join(command))
        return ""


async def _kill(process: trio.Process) -> None:
    """Trio's own way waits 5 s between asking and killing, which is more than there may be left."""
    process.kill()
    await trio.lowlevel.checkpoint()


class SystemMachine:
    """The real machine, as the settings say where to look."""

    def __init__(self, settings: SystemSettings, commands: Commands | None = None) -> None:
        self._settings = settings
        self._commands = commands if commands is not None else SystemCommands()

    def boot_id(self) -> str | None:
        """See `Machine.boot_id`."""
        try:
            return Path(self._settings.boot_id_file).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    async def is_going_down(self) -> bool:
        """See `Machine.is_going_down`. Says no when no sign was seen in time."""
        settings = self._settings
        wanted = signs(settings.shutdown_marker_files, commands=settings.shutdown_commands)
        sign = await first_sign(wanted, self._commands, settings.shutdown_check_s)
        if sign is not None:
            log.info("the machine is going down", sign=_shown(sign))
        return sign is not None


def _shown(sign: Sign) -> str:
    return " ".join(sign.command) if isinstance(sign, CommandSign) else sign.path
