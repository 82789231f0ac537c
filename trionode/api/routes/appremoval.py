"""Removing and redeploying apps of this node, with progress as it goes (docs/spec/api.md §8.2).

The work goes on when the client leaves: half a removal would be worse than a whole one (`api.appdesk`).
"""

from __future__ import annotations

from trionode.api.answers import Answer, ApiFailure, Stream, message, success
from trionode.api.appcall import (
    GLOBAL,
    TARGET,
    UNKNOWN_APP,
    caller_of,
    containers_of_node,
    desk_of,
    owner_of,
    whole_app,
)
from trionode.api.call import Call
from trionode.api.commandstream import STREAM_HEADERS, CommandStream
from trionode.api.containersport import ContainersPort, LocalRow
from trionode.api.levels import Level
from trionode.api.route import MESSAGE, Param, Route
from trionode.api.routes.appcontrol import send_to_all
from trionode.containers.actions import Outcome
from trionode.containers.operations import Busy
from trionode.errors import HostError
from trionode.plans.control import app_of
from trionode.plans.parts import is_encrypted
from trionode.registry.images import is_vetted

API = "asked for through the API"


async def remove(call: Call) -> Answer | Stream:
    app, force = whole_app(call, "removed"), call.flag("force")
    if call.flag("global"):
        return send_to_all(call, "appremove", app)
    containers, desk = containers_of_node(call), desk_of(call)
    row = containers.installed.get(app)
    if not force:
        require_idle(containers)
        if row is None:
            raise ApiFailure(UNKNOWN_APP)
    if row is not None:
        await _require_right_to_remove(call, containers, row)

    async def work(progress: CommandStream) -> Answer:
        outcome = await containers.actions.remove(app, reason=API, force=force, progress=progress)
        return answer_of(outcome, f"Flux App {app} was successfully removed")

    return Stream(desk.begin(work, caller_of(call)), STREAM_HEADERS)


async def _require_right_to_remove(call: Call, containers: ContainersPort, row: LocalRow) -> None:
    """The node's operator does not remove vetted apps by hand: their owner does, or the team."""
    credentials = call.credentials
    if credentials is None or call.authority.is_team(credentials.flux_id):
        return
    if call.authority.allows_for_app(Level.OWNER, credentials, await owner_of(call, row.name)):
        return
    try:
        lists = await containers.lists.lists()
    except HostError:
        return  # nobody is vetted while it is not known who is
    closed = is_encrypted(row.spec) and not row.spec.get("compose")
    spec = {**row.spec, "compose": []} if closed else row.spec
    if is_vetted(spec, row.hash, lists):
        raise ApiFailure(f"{row.name} is a vetted app: only its owner or the team removes it")


async def redeploy(call: Call) -> Answer | Stream:
    app, hard = whole_app(call, "redeployed here (see redeploycomponent)"), call.flag("force")
    if call.flag("global"):
        return send_to_all(call, "redeploy", app, "true" if hard else "false")
    containers, desk = containers_of_node(call), desk_of(call)
    _require_redeployable(containers, app)

    async def work(progress: CommandStream) -> Answer:
        outcome = await containers.actions.redeploy(app, hard=hard, reason=API, progress=progress)
        await _forget_stops(containers, app, outcome)
        return answer_of(outcome, f"Flux App {app} was successfully redeployed")

    return Stream(desk.begin(work, caller_of(call)), STREAM_HEADERS)


async def redeploy_component(call: Call) -> Stream:
    app, hard = whole_app(call, "named here (give the component apart)"), call.flag("force")
    component = call.text("component")
    if not component:
        raise ApiFailure("No component specified")
    containers, desk = containers_of_node(call), desk_of(call)
    identifier = f"{component}_{app}"
    _require_redeployable(containers, app)
    found = next(row for row in containers.installed.installed() if row.name == app)
    if identifier not in (part.identifier for part in found.components):
        raise ApiFailure(f"{app} has no component {component!r}")

    async def work(progress: CommandStream) -> Answer:
        outcome = await containers.actions.redeploy_component(
            identifier, hard=hard, reason=API, progress=progress
        )
        await _forget_stops(containers, identifier, outcome)
        return answer_of(outcome, f"Flux App component {identifier} was successfully redeployed")

    return Stream(desk.begin(work, caller_of(call)), STREAM_HEADERS)


def _require_redeployable(containers: ContainersPort, app: str) -> None:
    if containers.installed.get(app) is None:
        raise ApiFailure(UNKNOWN_APP)
    if any(app_of(held) == app for held in containers.operations.held):
        raise ApiFailure(f"A backup or restore of {app} is in progress", status="warning")
    require_idle(containers)


def require_idle(containers: ContainersPort) -> None:
    """Raises ApiFailure (a warning) while an operation is under way; `actions` would refuse all the same."""
    current = containers.operations.current
    if current is not None:
        raise ApiFailure(Busy(current).one_line(), status="warning")


async def _forget_stops(containers: ContainersPort, target: str, outcome: Outcome) -> None:
    """What was made anew runs; a stop of its predecessor is over."""
    if outcome.ok:
        names = containers.stops.names
        await containers.stops.drop(name for name in names if target in (name, name.partition("_")[2]))


def answer_of(outcome: Outcome, done: str) -> Answer:
    """The last object of the stream."""
    if outcome.ok:
        return success(done)
    at = f" (at: {outcome.step})" if outcome.step else ""
    return Answer("error", message(f"{outcome.problem}{at}"))


_GROUP = "commands to apps"
HARD = Param("force", "True: its data goes too", kind="boolean")

ROUTES = (
    Route(
        "/apps/appremove",
        remove,
        "Remove an app with its data; force: even while another operation runs",
        _GROUP,
        level=Level.OWNER_OR_ABOVE,
        params=(TARGET, Param("force", "Go ahead in any case", kind="boolean"), GLOBAL),
        result=MESSAGE,
        acts=True,
        streams=True,
    ),
    Route(
        "/apps/redeploy",
        redeploy,
        "Make an app anew by the specification in force",
        _GROUP,
        level=Level.OWNER_OR_ABOVE,
        params=(TARGET, HARD, GLOBAL),
        result=MESSAGE,
        acts=True,
        streams=True,
    ),
    Route(
        "/apps/redeploycomponent",
        redeploy_component,
        "Make one component anew",
        _GROUP,
        level=Level.OWNER_OR_ABOVE,
        params=(
            Param("appname", "Name of the app", required=True),
            Param("component", "Name of the component", required=True),
            HARD,
        ),
        result=MESSAGE,
        acts=True,
        streams=True,
    ),
)
