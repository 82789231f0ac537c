"""What a command to an app does to each of its containers (docs/spec/api.md §8.2).

Start and restart go through the components in their order, stop and pause in reverse. An elected component
(`g:`) that does not run here stays so: another node may be the one that runs it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping

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
_UP = frozenset({RUNNING, PAUSED})
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
    return tuple(_step(command, part, _state(part, states)) for part in ordered)


def plan_hold(parts: tuple[Component, ...], states: Mapping[str, str]) -> tuple[str, ...]:
    """Components to stop before their files are backed up or restored, last first."""
    return tuple(part.identifier for part in reversed(parts) if _state(part, states) == RUNNING)


def plan_release(
    parts: tuple[Component, ...], states: Mapping[str, str], stops: Collection[str]
) -> tuple[str, ...]:
    """Components to start afterwards, in order: neither elected nor, as `stops` says, stopped on purpose."""
    return tuple(
        step.identifier
        for part, step in zip(parts, plan_command(Command.START, parts, states), strict=True)
        if isinstance(step, Do) and step.identifier not in stops and _state(part, states) not in _UP
    )


def _state(part: Component, states: Mapping[str, str]) -> str | None:
    return states.get(container_name(part.identifier))


def _step(command: Command, part: Component, state: str | None) -> Do | Skip:
    elected = "g" in part.flags and command in _ELECTED
    if elected and state not in _UP:
        return Skip(part.identifier, "the election of its app decides which node runs it")
    return Do(part.identifier)
