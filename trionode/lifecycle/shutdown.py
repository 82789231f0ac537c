"""Is the machine going down, and what is to be done then (docs/spec/lifecycle.md §5).

A restart of the process alone changes nothing for the apps, so the network is told nothing. Only when the
whole machine stops do the apps stop with it: the peers hear of it, the reason is noted for the next boot, and
the containers are stopped. The signs are data; who looks at files and asks commands is `runtime.machine`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from trionode.lifecycle.local import RUNNING, Container
from trionode.lifecycle.names import bare, is_app_container

SIGTERM_MESSAGE = "fluxnodesigterm"


class FileSign(msgspec.Struct, frozen=True):
    """The machine goes down when this file is there."""

    path: str


class CommandSign(msgspec.Struct, frozen=True):
    """The machine goes down when the command prints something that matches."""

    command: tuple[str, ...]
    form: str

    def matches(self, output: str) -> bool:
        """Whether this output is the sign."""
        return re.search(self.form, output) is not None


Sign = FileSign | CommandSign

COMMAND_SIGNS = (
    CommandSign(("systemctl", "is-system-running"), r"\A\s*stopping\s*\Z"),
    CommandSign(("systemctl", "list-jobs", "--no-pager"), r"\b(?:shutdown|reboot|poweroff|halt)\.target\b"),
    CommandSign(("pgrep", "-x", "shutdown"), r"\S"),
    CommandSign(("runlevel",), r" [06]\s*\Z"),
)


def signs(files: Sequence[str], *, commands: bool = True) -> tuple[Sign, ...]:
    """What to look at, in order: the first file, the commands, the other files."""
    marks = [FileSign(path) for path in files]
    return (*marks[:1], *(COMMAND_SIGNS if commands else ()), *marks[1:])


def goodbye(*, running_apps: int, own_address: str | None, now_ms: int) -> dict[str, Any] | None:
    """The message for the peers; None when no app ran or our address is not known."""
    if not running_apps or own_address is None:
        return None
    return {"type": SIGTERM_MESSAGE, "version": 1, "ip": own_address, "broadcastedAt": now_ms}


def to_stop(containers: Sequence[Container]) -> tuple[str, ...]:
    """The running containers of apps."""
    return tuple(bare(c.name) for c in containers if c.state == RUNNING and is_app_container(c.name))
