"""The containers of this node for its operator: states, what is being done, what would be done (docs/api.md).

Our own routes, public like everything that only reads: nothing in them is secret, never cached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trionode.api.answers import Answer, ApiFailure, data
from trionode.api.appcall import containers_of_node, in_time
from trionode.api.call import Call
from trionode.api.containersport import ContainersPort
from trionode.api.dates import iso
from trionode.api.route import Param, Route, list_of
from trionode.containers.engine import ContainerRow
from trionode.lifecycle.local import Component
from trionode.lifecycle.names import container_name, is_app_container
from trionode.plans.crashes import start_due_ms
from trionode.plans.health import is_held

OBJECT = {"type": "object"}


async def overview(call: Call) -> Answer:
    """Engine, operation under way, every installed app with its components, leftovers."""
    containers = containers_of_node(call)
    wanted = call.text("appname").lower()
    rows: dict[str, ContainerRow] = {}
    engine: dict[str, Any] = {"reachable": True, "version": None, "apiVersion": None, "problem": None}
    try:
        about = await in_time(containers.engine.info())
        rows = {row.name: row for row in await in_time(containers.engine.containers())}
        engine |= {"version": about.version, "apiVersion": about.api_version}
    except ApiFailure as failure:
        engine |= {"reachable": False, "problem": failure.message}
    operation = containers.operations.current
    apps = [
        {
            "name": app.name,
            "hash": app.hash,
            "height": row.height if (row := containers.installed.get(app.name)) is not None else None,
            "components": [_part(call, containers, app.name, part, rows) for part in app.components],
        }
        for app in containers.installed.installed()
        if not wanted or app.name.lower() == wanted
    ]
    return data(
        {
            "engine": engine,
            "operation": None if operation is None else {"work": operation.work.value, "app": operation.app},
            "held": sorted(containers.operations.held),
            "heldUntil": {app: iso(until_ms) for app, until_ms in containers.holds.until_ms.items()},
            "apps": apps,
            "removals": [
                {"app": each.app, "reason": each.reason, "problem": each.problem, "at": iso(each.at_ms)}
                for each in containers.news.removals
                if not wanted or each.app.lower() == wanted
            ],
            "leftovers": [] if wanted else _leftovers(containers, rows),
        }
    )


def _part(
    call: Call, containers: ContainersPort, app: str, part: Component, rows: Mapping[str, ContainerRow]
) -> dict[str, Any]:
    name = container_name(part.identifier)
    row = rows.get(name)
    crashes = containers.health.crashes.get(part.identifier)
    waits_s = call.context.settings.monitors.crash_backoff_s
    return {
        "identifier": part.identifier,
        "container": name,
        "flags": "".join(sorted(part.flags)),
        "state": None if row is None else row.state,
        "status": None if row is None else row.status,
        "image": None if row is None else row.image,
        "id": None if row is None else row.id,
        "ports": [] if row is None else sorted({port.public for port in row.ports if port.public}),
        "stoppedOnPurpose": part.identifier in containers.stops.names,
        "held": is_held(app, part.identifier, containers.operations.held),
        "crashes": None
        if crashes is None
        else {
            "count": crashes.count,
            "last": iso(crashes.ended_ms),
            "startedAgainAt": iso(start_due_ms(crashes, waits_s)),
        },
    }


def _leftovers(containers: ContainersPort, rows: Mapping[str, ContainerRow]) -> list[dict[str, Any]]:
    """Containers named like those of apps that belong to none installed here."""
    known = {
        container_name(part.identifier) for app in containers.installed.installed() for part in app.components
    }
    return [
        {"container": name, "state": row.state, "status": row.status, "image": row.image}
        for name, row in rows.items()
        if is_app_container(name) and name not in known
    ]


async def plan(call: Call) -> Answer:
    """What the node would do to its apps, each with its reason, and when if not at once."""
    actions = await in_time(containers_of_node(call).present_plan(call.text("appname")))
    return data(
        [
            {
                "action": action.kind,
                "app": action.app,
                "component": action.component,
                "reason": action.reason,
                "when": None if action.when_ms is None else iso(action.when_ms),
                "block": action.height,
            }
            for action in actions
        ]
    )


_GROUP = "trionode"

ROUTES = (
    Route(
        "/trionode/containers",
        overview,
        "Installed apps with their containers, what is being done, crashes, and the last removals",
        _GROUP,
        params=(Param("appname", "Only this app, in any letter case"),),
        result=OBJECT,
    ),
    Route(
        "/trionode/containerplan",
        plan,
        "What would be done to the apps here, why, and when",
        _GROUP,
        params=(Param("appname", "Only this app, in any letter case"),),
        result=list_of(OBJECT),
    ),
)
