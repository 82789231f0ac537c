"""What a command to an app does to each of its containers (docs/spec/api.md §8.2).

Start and restart go through the components in their order, stop and pause in reverse. An elected component
(`g:`) that does not run here stays so: another node may be the one that runs it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from trionode.lifecycle.local import RUNNING, Component, InstalledApp
from trionode.lifecycle.names import container_name

PAUSED = "paused"


class Command(enum.Enum):
    """What is asked for."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    PAUSE = "pause"
    UNPAUSE = "unpause"


class Do(msgspec.Struct, frozen=True):
    """Do it to this component."""

    identifier: str


class Skip(msgspec.Struct, frozen=True):
    """Leave this one as it is."""

    identifier: str
    reason: str


_BACKWARDS = frozenset({Command.STOP, Command.PAUSE})
_ELECTED = frozenset({Command.START, Command.STOP, Command.RESTART})


def app_of(target: str) -> str:
    """The app of `component_app`, or of the name of an app itself."""
    component, separator, app = target.partition("_")
    return app if separator and component else target


def parts_meant(app: InstalledApp, target: str) -> tuple[Component, ...]:
    """The components a target names: all of an app, or one by `component_app`; none when there is no such."""
    if target == app.name:
        return app.components
    return tuple(part for part in app.components if part.identifier == target)


def plan_command(
    command: Command, parts: tuple[Component, ...], states: Mapping[str, str]
) -> tuple[Do | Skip, ...]:
    """One step for each component, in the order to take them. `states`: container name -> state."""
    ordered = tuple(reversed(parts)) if command in _BACKWARDS else parts
    return tuple(_step(command, part, states.get(container_name(part.identifier))) for part in ordered)


def _step(command: Command, part: Component, state: str | None) -> Do | Skip:
    elected = "g" in part.flags and command in _ELECTED
    if elected and state not in (RUNNING, PAUSED):
        return Skip(part.identifier, "the election of its app decides which node runs it")
    return Do(part.identifier)
