"""What a pass over the containers of all installed apps does (docs/spec/lifecycle.md §9).

Missing containers are made again, stopped ones started, except what an election or a backup keeps down.
Flags are the true ones (D-2), backups are known by app and by component (D-7), apps of versions 1 to 3 are
treated like all others (D-8), and who is announced is read from what exists after the pass (D-25).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from trionode.lifecycle.local import RUNNING, Component, InstalledApp
from trionode.lifecycle.names import container_name
from trionode.lifecycle.running import STANDBY_FLAGS, runs_well
from trionode.plans.crashes import Crashes, start_due_ms

SIGHTING_MS = 90 * 60_000
"""A stopped container is remembered this long; seen again within it, it is started."""
RECEIVING_MS = 30 * 60_000
"""An `r:` component receives its files for this long before it is started."""
CONTAINER_VANISHED = "container_vanished"
RECREATION_FAILED = "recreation_failed"
NETWORK_PRUNED = "network_pruned"
_NO_NETWORK = re.compile(r"network\b.*\bnot found|no such network", re.IGNORECASE | re.DOTALL)


class HealthFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass looks at. `states`: container name -> state, of the one list call.

    `apps` with their opened components; one that cannot be opened has none and is left alone.
    `known`: apps with a specification in force. `held`: apps and components in backup or restore.
    `stopped`: components somebody stopped on purpose, through the API.
    `since_ms`: app -> start in our own location row. `seen_ms`: stopped component -> first sighting.
    `crashes`: components that ended by themselves. `unmade`: those that could not be made again.
    `mounted`: components whose volume is mounted. `unhealthy`: running containers whose own check fails.
    """

    apps: Sequence[InstalledApp]
    states: Mapping[str, str]
    known: frozenset[str]
    held: frozenset[str] = frozenset()
    stopped: frozenset[str] = frozenset()
    since_ms: Mapping[str, int] = {}
    seen_ms: Mapping[str, int] = {}
    crashes: Mapping[str, Crashes] = {}
    crash_waits_s: Sequence[float] = (0.0,)
    unmade: Mapping[str, Crashes] = {}
    mounted: frozenset[str] = frozenset()
    unhealthy: frozenset[str] = frozenset()
    busy: bool = False
    now_ms: int = 0


class StartContainer(msgspec.Struct, frozen=True):
    """Start it, and watch its use of CPU and disk again. `again`: it runs, and is stopped first."""

    app: str
    identifier: str
    reason: str
    again: bool = False


class Recreate(msgspec.Struct, frozen=True):
    """Make the container again. `keeps_volume`: its volume is there; else volume and all.

    `tampering`: noted first. An elected component is made, but neither started nor watched.
    """

    app: str
    identifier: str
    reason: str
    keeps_volume: bool
    elected: bool = False
    tampering: str | None = None


class Remember(msgspec.Struct, frozen=True):
    """Stopped, seen for the first time: it may be on its way up or down."""

    app: str
    identifier: str
    reason: str = "it is stopped; started if that is still so at the next look"


class Leave(msgspec.Struct, frozen=True):
    """Nothing is done. `until_ms`: when it is worth another look, if that is known."""

    app: str
    identifier: str
    reason: str
    until_ms: int | None = None


class NoteTampering(msgspec.Struct, frozen=True):
    """Somebody else had a hand in it: count it."""

    app: str
    kind: str
    reason: str


class RemoveApp(msgspec.Struct, frozen=True):
    """Remove the app, not by force, and tell the network."""

    app: str
    reason: str


HealthAction = StartContainer | Recreate | Remember | Leave
Consequence = NoteTampering | RemoveApp


def plan_health(facts: HealthFacts) -> tuple[HealthAction, ...]:
    """One action for each component that does not run as it should, in order of the apps."""
    if facts.busy:
        return ()
    return tuple(
        action
        for app in facts.apps
        if app.name in facts.known
        for part in app.components
        if (action := _action(app, part, facts)) is not None
    )


def after_failure(
    action: StartContainer | Recreate, problem: str, *, exists: bool, busy: bool, last_try: bool = True
) -> tuple[Consequence, ...]:
    """What a failed action leads to. `exists`: its container, looked at again; `busy`: asked again.

    `last_try`: what failed is not tried again.
    """
    if busy or not last_try:
        return ()
    if isinstance(action, StartContainer):
        return (RemoveApp(action.app, f"{action.identifier} cannot be started: {problem}"),)
    if exists:  # somebody else made it meanwhile
        return ()
    reason = f"{action.identifier} cannot be made again: {problem}"
    found: list[Consequence] = [NoteTampering(action.app, RECREATION_FAILED, reason)]
    if _NO_NETWORK.search(problem):
        found.append(NoteTampering(action.app, NETWORK_PRUNED, "the network of the app is gone"))
    return (*found, RemoveApp(action.app, reason))


def standing_by(facts: HealthFacts, states: Mapping[str, str]) -> tuple[str, ...]:
    """The `g:` and `r:` apps that count as running after the pass although not all of them run.

    `states`: after the pass. What does not exist does not count (D-25).
    """
    return tuple(
        app.name
        for app in facts.apps
        if app.name in facts.known
        and any(part.flags & STANDBY_FLAGS for part in app.components)
        and any(facts.states.get(container_name(part.identifier)) != RUNNING for part in app.components)
        and runs_well(app, states)
    )


def is_held(app: str, identifier: str, held: frozenset[str]) -> bool:
    """Whether a backup or restore has it, named by app or by component (D-7)."""
    return app in held or identifier in held


def _action(app: InstalledApp, part: Component, facts: HealthFacts) -> HealthAction | None:
    name = part.identifier
    state = facts.states.get(container_name(name))
    held = is_held(app.name, name, facts.held)
    elected = any("g" in other.flags for other in app.components)
    if state == RUNNING:
        sick = container_name(name) in facts.unhealthy and not held and not elected
        return _start(app.name, name, "its own check fails", facts, again=True) if sick else None
    if held:
        return Leave(app.name, name, "a backup or restore has it")
    if name in facts.stopped:
        return Leave(app.name, name, "it was stopped on purpose")
    if state is None:
        return _recreate(app.name, part, facts, elected=elected)
    if elected:
        return Leave(app.name, name, "the election of its app decides which node runs it")
    if "r" in part.flags and (wait := _receiving(app.name, name, facts)) is not None:
        return wait
    if name in facts.crashes:
        return _start(app.name, name, "it ended by itself", facts)
    seen_ms = facts.seen_ms.get(name)
    if seen_ms is None or facts.now_ms - seen_ms > SIGHTING_MS:
        return Remember(app.name, name)
    return StartContainer(app.name, name, "it is still stopped")


def _recreate(app: str, part: Component, facts: HealthFacts, *, elected: bool) -> Recreate | Leave:
    name = part.identifier
    failed = facts.unmade.get(name)
    if failed is not None and facts.now_ms < (due_ms := start_due_ms(failed, facts.crash_waits_s)):
        times = failed.count - 1
        return Leave(
            app, name, f"its container could not be made again, {times} times: it has to wait", due_ms
        )
    # one disappearance is told once
    tampering = None if elected or failed is not None else CONTAINER_VANISHED
    reason = "its container is missing"
    return Recreate(app, name, reason, name in facts.mounted, elected, tampering)


def _receiving(app: str, name: str, facts: HealthFacts) -> Leave | None:
    since_ms = facts.since_ms.get(app)
    if since_ms is None:
        return Leave(app, name, "its files are received; the network does not list it here yet")
    if facts.now_ms - since_ms >= RECEIVING_MS:
        return None
    return Leave(app, name, "its files are received", since_ms + RECEIVING_MS)


def _start(
    app: str, name: str, reason: str, facts: HealthFacts, *, again: bool = False
) -> StartContainer | Leave:
    crashes = facts.crashes.get(name)
    if crashes is not None:
        due_ms = start_due_ms(crashes, facts.crash_waits_s)
        if facts.now_ms < due_ms:
            return Leave(app, name, f"{reason}, {crashes.count} times in a row: it has to wait", due_ms)
    return StartContainer(app, name, reason, again)
