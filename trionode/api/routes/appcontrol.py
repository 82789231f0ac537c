"""Commands to the containers of an app: start, stop, restart, pause, unpause (docs/spec/api.md §8.2).

A stop is meant to last: nothing but a start or a restart through the API ends it. With `global` the command
goes to every node that runs the app, this one included, with the credentials of who asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

from trionode.api.answers import Answer, ApiFailure, data, success, warning
from trionode.api.appcall import (
    GLOBAL,
    TARGET,
    caller_of,
    containers_of_node,
    desk_of,
    meant,
    states_of,
    target_of,
)
from trionode.api.appdesk import Target
from trionode.api.call import Call
from trionode.api.containersport import ContainersPort
from trionode.api.levels import Level
from trionode.api.route import STRING, Route
from trionode.config.tree import HostingSettings
from trionode.containers.engine import EngineError
from trionode.errors import HostError
from trionode.hosting.port import in_time
from trionode.lifecycle.local import InstalledApp
from trionode.lifecycle.names import container_name
from trionode.plans.control import Command, Do, Skip, app_of, plan_command
from trionode.plans.health import is_held
from trionode.wire.address import AddressError, bare, is_ipv4, is_routable_ipv4, split_address

DONE = {
    Command.START: "started",
    Command.STOP: "stopped",
    Command.RESTART: "restarted",
    Command.PAUSE: "paused",
    Command.UNPAUSE: "unpaused",
}
BRINGS_UP = frozenset({Command.START, Command.RESTART, Command.UNPAUSE})


def handler(command: Command) -> Callable[[Call], Awaitable[Answer]]:
    """The handler of one command."""

    async def serve(call: Call) -> Answer:
        target = target_of(call)
        if call.flag("global"):
            return send_to_all(call, f"app{command.value}", target)
        containers, desk = containers_of_node(call), desk_of(call)
        app, parts = meant(containers, target)
        require_free(containers, app)
        if command in BRINGS_UP:
            _require_not_held(containers, app)
        steps = plan_command(command, parts, await states_of(containers))
        hosting = call.context.settings.hosting

        async def work() -> Answer:
            return await _carry_out(containers, command, target, steps, hosting)

        return await desk.do(work, caller_of(call))

    return serve


def send_to_all(call: Call, command: str, target: str, *parameters: str) -> Answer:
    """Send a command to every node that runs the app, in the background; the answer comes at once."""
    desk = desk_of(call)
    targets = _nodes_of(call, app_of(target))
    path = "/".join(("/apps", command, quote(target, safe=""), *parameters))
    desk.fan_out(targets, path, call.headers.get("zelidauth", ""), caller_of(call))
    nodes = "1 node" if len(targets) == 1 else f"{len(targets)} nodes"
    return success(f"{target} queried for global {command} on {nodes}")


def _nodes_of(call: Call, app: str) -> list[Target]:
    """The listed nodes that say they run the app. Credentials go to nobody else."""
    context = call.context
    private = context.settings.network.allow_private_addresses
    found: dict[str, Target] = {}
    for row in context.log.index.locations(app):
        try:
            ip, port = split_address(row.ip)
        except AddressError:
            continue
        listed = context.chain.nodes.by_address(bare(ip, port)) is not None
        if listed and is_ipv4(ip) and (private or is_routable_ipv4(ip)):
            found.setdefault(bare(ip, port), Target(ip, port))
    return list(found.values())


def require_free(containers: ContainersPort, app: InstalledApp) -> None:
    """Raises ApiFailure (a warning) while an operation has the app in hand."""
    operation = containers.operations.current
    if app.name in containers.operations.names() and operation is not None:
        raise ApiFailure(f"{operation.work.value} of {operation.app} is in progress", status="warning")


def _require_not_held(containers: ContainersPort, app: InstalledApp) -> None:
    held = containers.operations.held
    if any(is_held(app.name, part.identifier, held) for part in app.components):
        raise ApiFailure(f"A backup or restore of {app.name} is in progress", status="warning")


async def _carry_out(
    containers: ContainersPort,
    command: Command,
    target: str,
    steps: tuple[Do | Skip, ...],
    hosting: HostingSettings,
) -> Answer:
    """All steps in order, and what is remembered of a stop. Raises ApiFailure."""
    meant_here = [step.identifier for step in steps if isinstance(step, Do)]
    if command is Command.STOP:
        # first, so that nobody starts it again between the two
        await containers.stops.add(meant_here)
    elif command in (Command.START, Command.RESTART):
        await containers.stops.drop(step.identifier for step in steps)
    await do_each(containers, command, meant_here, hosting)
    left = [step for step in steps if isinstance(step, Skip)]
    said = "; ".join(f"{step.identifier} is left as it is: {step.reason}" for step in left)
    if not meant_here:
        return warning(said[:1].upper() + said[1:])
    return data(f"Flux App {target} successfully {DONE[command]}.{f' ({said})' if said else ''}")


async def do_each(
    containers: ContainersPort, command: Command, identifiers: Sequence[str], hosting: HostingSettings
) -> None:
    """One after the other, also after one that failed. Raises ApiFailure with all that failed."""
    grace_s = hosting.stop_grace_s
    limit_s = hosting.engine_timeout_s + grace_s
    problems = []
    for identifier in identifiers:
        try:
            doing = f"{command.value} {identifier}"
            await in_time(_do(containers, command, identifier, grace_s), limit_s, doing)
        except (EngineError, HostError) as error:
            problems.append(f"{identifier}: {error.one_line()}")
    if problems:
        raise ApiFailure("; ".join(problems), name="EngineError")


async def _do(containers: ContainersPort, command: Command, identifier: str, grace_s: float) -> None:
    container = container_name(identifier)
    if command is Command.PAUSE:
        await containers.engine.pause(container)
    elif command is Command.UNPAUSE:
        await containers.engine.unpause(container)
    else:
        if command is not Command.START:
            await containers.host.stop(container, grace_s)
        if command is not Command.STOP:
            await containers.host.start(identifier)


_GROUP = "commands to apps"


def _route(command: Command, about: str) -> Route:
    return Route(
        f"/apps/app{command.value}",
        handler(command),
        about,
        _GROUP,
        level=Level.OWNER_OR_ABOVE,
        params=(TARGET, GLOBAL),
        result={"anyOf": [STRING, {"type": "object"}]},
        acts=True,
    )


ROUTES = (
    _route(Command.START, "Start an app or a component"),
    _route(Command.STOP, "Stop it; nothing starts it again by itself"),
    _route(Command.RESTART, "Stop and start it"),
    _route(Command.PAUSE, "Freeze it"),
    _route(Command.UNPAUSE, "Let it go on"),
)
