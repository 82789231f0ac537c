"""Commands of the machine (mount, mkfs, iptables, ...): run whole, in time, never through a shell.

Words are handed over as they are. A cancelled command is killed and waited for, so that nothing of it goes
on behind the back of whoever clears up.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Protocol

import msgspec
import trio

from trionode.errors import HostError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LONGEST_COMPLAINT = 300


class CommandError(HostError):
    """A command of the machine failed."""

    code = "command"


class ProgramMissing(CommandError):
    """The command is not installed."""

    code = "program_missing"


class Done(msgspec.Struct, frozen=True):
    """What a command ended with."""

    status: int
    output: str = ""
    complaint: str = ""


class Run(Protocol):
    """Runs a command to its end, whatever its status. `given` is its standard input.

    `holding`: open files it holds too. A lock on one of them lasts until the command has ended, even if the
    node was killed meanwhile and the command goes on alone.
    """

    async def __call__(self, *words: str, given: str = "", holding: Sequence[int] = ()) -> Done: ...


class SystemRun:
    """`Run` on this machine. A command that takes longer than `within_s` is killed."""

    def __init__(self, within_s: float = 300.0) -> None:
        self._within_s = within_s

    async def __call__(self, *words: str, given: str = "", holding: Sequence[int] = ()) -> Done:
        """See `Run`. Raises ProgramMissing, or CommandError when it took too long."""
        with trio.move_on_after(self._within_s):
            try:
                done = await trio.run_process(
                    list(words),
                    stdin=given.encode(),
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                    deliver_cancel=_kill,
                    env={**os.environ, "PATH": SYSTEM_PATH, "LC_ALL": "C"},
                    # a Ctrl-C in the terminal is the node's to answer, not half-way through a mount
                    start_new_session=True,
                    pass_fds=tuple(holding),
                )
            except FileNotFoundError as error:
                raise ProgramMissing(
                    f"the command {words[0]} is not there", remedy=f"install {words[0]} on this machine"
                ) from error
            except OSError as error:
                raise CommandError(f"{words[0]} could not be started: {error}") from error
            return _done(done)
        raise CommandError(f"{' '.join(words[:3])} did not end within {self._within_s:g} s")


async def must(run: Run, *words: str, given: str = "", holding: Sequence[int] = ()) -> str:
    """Run it; its output. Raises CommandError with what it said when it fails."""
    done = await run(*words, given=given, holding=holding)
    if done.status != 0:
        said = " ".join((done.complaint or done.output).split())[:LONGEST_COMPLAINT]
        raise CommandError(f"{' '.join(words)} failed with {done.status}: {said or 'it said nothing'}")
    return done.output


async def _kill(process: trio.Process) -> None:
    """At once: Trio's own way gives it 5 s, in which it would go on."""
    process.kill()
    await trio.lowlevel.checkpoint()


def _done(process: subprocess.CompletedProcess[bytes]) -> Done:
    return Done(
        process.returncode,
        process.stdout.decode(errors="replace"),
        process.stderr.decode(errors="replace"),
    )
