"""What runs and is installed on this node (docs/spec/api.md §7), in the shapes of the container engine.

A node without an engine answers each of them with an error that says so.
"""

from __future__ import annotations

from typing import Any

import trio

from trionode.api.answers import Answer, ApiFailure, JsonText, data
from trionode.api.appcall import containers_of_node, in_time
from trionode.api.call import Call
from trionode.api.closing import closing
from trionode.api.containersport import ContainersPort
from trionode.api.levels import Level
from trionode.api.registrycall import store_of
from trionode.api.route import INTEGER, NUMBER, STRING, Field, Param, Route, list_of, object_of
from trionode.chain.port import ChainRpc
from trionode.containers.engine import ContainerRow, EngineInfo, Image, Port
from trionode.errors import ChainError
from trionode.lifecycle.local import RUNNING
from trionode.lifecycle.names import container_name, is_app_container
from trionode.lifecycle.running import runs_well
from trionode.plans.control import app_of
from trionode.wire.jsjson import is_number, stringify

MIB_BYTES = 1024 * 1024
OBJECT = {"type": "object"}


# ---- containers and images -------------------------------------------------------------------------------


async def running_apps(call: Call) -> Answer:
    """Containers of apps that run, and those a backup or restore stopped for a while."""
    return data(await running_documents(containers_of_node(call)))


async def running_documents(containers: ContainersPort) -> list[dict[str, Any]]:
    """The list above; raises ApiFailure while the engine does not answer."""
    held = containers.operations.held
    held_apps = {app_of(name) for name in held}

    def counts(row: ContainerRow) -> bool:
        return row.state == RUNNING or any(
            row.name == container_name(part.identifier)
            for app in containers.installed.installed()
            if app.name in held_apps
            for part in app.components
            if app.name in held or part.identifier in held
        )

    rows = await in_time(containers.engine.containers())
    return [_container(row) for row in rows if is_app_container(row.name) and counts(row)]


async def all_apps(call: Call) -> Answer:
    rows = await in_time(containers_of_node(call).engine.containers())
    return data([_container(row) for row in rows if is_app_container(row.name)])


async def images(call: Call) -> Answer:
    found = await in_time(containers_of_node(call).engine.images())
    return data([_image(image) for image in found])


def _container(row: ContainerRow) -> dict[str, Any]:
    return {
        "Id": row.id,
        "Names": [f"/{row.name}"],
        "Image": row.image,
        "ImageID": row.image_id,
        # anybody may ask, and arguments may be secret (F_S_CMD): the program alone, and that only of what ran
        "Command": "" if row.state == "created" else row.command.split(" ", 1)[0],
        "Created": row.created_s,
        "Ports": [_port(port) for port in row.ports],
        "Labels": dict(row.labels),
        "State": row.state,
        "Status": row.status,
    }


def _port(port: Port) -> dict[str, Any]:
    found: dict[str, Any] = {"IP": port.ip} if port.ip else {}
    found["PrivatePort"] = port.private
    if port.public is not None:
        found["PublicPort"] = port.public
    return {**found, "Type": port.protocol}


def _image(image: Image) -> dict[str, Any]:
    return {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": list(image.digests),
        "Size": image.size_bytes,
        "Created": image.created_s,
        "Labels": dict(image.labels),
    }


# ---- installed apps ----------------------------------------------------------------------------------------


async def installed_apps(call: Call) -> Answer:
    """The specifications as they lie here, with hash and height; encrypted ones stay so."""
    wanted = call.text("appname")
    rows = containers_of_node(call).installed.rows()
    return data([dict(row.spec) for row in rows if not wanted or row.name == wanted])


async def available_apps(call: Call) -> JsonText:
    """Every specification in force, then those installed here once more."""
    rows = containers_of_node(call).installed.rows()
    async with closing(store_of(call).stream_current()) as current:
        texts = [row.json_text() async for row in current]
    texts += [stringify(dict(row.spec)) for row in rows]
    await trio.lowlevel.checkpoint()
    return JsonText(f"[{','.join(texts)}]")


# ---- what they take ----------------------------------------------------------------------------------------


async def resources(call: Call) -> Answer:
    return data(resources_document(call, containers_of_node(call)))


def resources_document(call: Call, containers: ContainersPort) -> dict[str, Any]:
    """What installed apps have to themselves: cores, MiB, GB."""
    locked = containers.installed.locked(call.context.settings.resources)
    return {
        "appsCpusLocked": locked.cpu,
        "appsRamLocked": locked.ram_mb,
        "appsHddLocked": locked.hdd_gb,
    }


async def usage(call: Call) -> Answer:
    return data(await usage_document(call, containers_of_node(call)))


async def usage_document(call: Call, containers: ContainersPort) -> dict[str, Any]:
    """How many apps are installed, how many of them run as they should, and what the machine has."""
    rows = await in_time(containers.engine.containers())
    about = await in_time(containers.engine.info())
    states = {row.name: row.state for row in rows}
    apps = containers.installed.installed()
    running = sum(bool(app.components) and runs_well(app, states) for app in apps)
    return {
        "totalApps": len(apps),
        "runningApps": running,
        "stoppedApps": len(apps) - running,
        "nodeSpecs": await _machine(about, call.context.bench),
    }


async def _machine(about: EngineInfo, bench: ChainRpc) -> dict[str, Any]:
    try:
        found = await bench.call("getbenchmarks")
    except ChainError:
        found = None
    ssd = found.get("ssd") if isinstance(found, dict) else None
    return {
        "cpuCores": about.cpus,
        "ram": about.memory_bytes // MIB_BYTES,
        "ssdStorage": ssd if is_number(ssd) else 0,
    }


async def tampering(call: Call) -> Answer:
    events = containers_of_node(call).tampering.events(call.text("appname") or None)
    return data(
        [
            {"name": event.app, "type": event.kind, "details": event.reason, "timestamp": event.at_ms}
            for event in events
        ]
    )


# ---- what the operator does not want here ------------------------------------------------------------------


async def blocked_ports(call: Call) -> Answer:
    return data(list(call.context.settings.hosting.blocked_ports))


async def blocked_repositories(call: Call) -> Answer:
    return data(list(call.context.settings.hosting.blocked_repositories))


async def adjust_blocked_ports(call: Call) -> Answer:
    raise ApiFailure(_BY_HAND.format("hosting.blocked_ports"))


async def adjust_blocked_repositories(call: Call) -> Answer:
    raise ApiFailure(_BY_HAND.format("hosting.blocked_repositories"))


_BY_HAND = "This node does not change its own configuration: set {} in it and start the node again"
_GROUP = "apps of this node"
_DAY_S = 86_400
_CONTAINER = {
    "type": "object",
    "properties": {
        "Id": STRING,
        "Names": list_of(STRING),
        "Image": STRING,
        "ImageID": STRING,
        "Command": STRING,
        "Created": INTEGER,
        "Ports": list_of(OBJECT),
        "Labels": OBJECT,
        "State": STRING,
        "Status": STRING,
    },
    "required": ["Id", "Names", "State", "Status"],
}

ROUTES = (
    Route(
        "/apps/listrunningapps",
        running_apps,
        "Containers of apps that run here",
        _GROUP,
        cache_s=15,
        result=list_of(_CONTAINER),
    ),
    Route(
        "/apps/listallapps",
        all_apps,
        "Containers of apps here, stopped ones too",
        _GROUP,
        cache_s=30,
        result=list_of(_CONTAINER),
    ),
    Route(
        "/apps/listappsimages",
        images,
        "Images on this machine",
        _GROUP,
        cache_s=30,
        result=list_of(OBJECT),
    ),
    Route(
        "/apps/installedapps",
        installed_apps,
        "Specifications of the apps installed here",
        _GROUP,
        cache_s=30,
        params=(Param("appname", "Only the app of exactly this name"),),
        result=list_of(OBJECT),
    ),
    Route(
        "/apps/availableapps",
        available_apps,
        "All specifications in force, then those installed here",
        _GROUP,
        cache_s=30,
        result=list_of(OBJECT),
    ),
    Route(
        "/apps/appsresources",
        resources,
        "What installed apps have to themselves: cores, MiB, GB",
        _GROUP,
        cache_s=30,
        result=object_of(appsCpusLocked=NUMBER, appsRamLocked=NUMBER, appsHddLocked=NUMBER),
    ),
    Route(
        "/apps/fluxusage",
        usage,
        "Apps installed, running and stopped here, and what the machine has",
        _GROUP,
        cache_s=30,
        result=object_of(totalApps=INTEGER, runningApps=INTEGER, stoppedApps=INTEGER, nodeSpecs=OBJECT),
    ),
    Route(
        "/apps/tamperingevents",
        tampering,
        "Signs that somebody else had a hand in the apps here, newest first",
        _GROUP,
        cache_s=30,
        params=(Param("appname", "Only of the app of exactly this name"),),
        result=list_of(object_of(name=STRING, type=STRING, details=STRING, timestamp=INTEGER)),
    ),
    Route(
        "/flux/blockedports",
        blocked_ports,
        "Ports no app may use on this node",
        "node",
        cache_s=_DAY_S,
        result=list_of(INTEGER),
    ),
    Route(
        "/flux/blockedrepositories",
        blocked_repositories,
        "Image repositories this node refuses",
        "node",
        cache_s=_DAY_S,
        result=list_of(STRING),
    ),
    Route(
        "/flux/adjustblockedports",
        adjust_blocked_ports,
        "Not supported: says which setting it is",
        "node",
        method="POST",
        level=Level.ADMIN_OR_TEAM,
        body=(Field("blockedPorts", "array"),),
    ),
    Route(
        "/flux/adjustblockedrepositories",
        adjust_blocked_repositories,
        "Not supported: says which setting it is",
        "node",
        method="POST",
        level=Level.ADMIN_OR_TEAM,
        body=(Field("blockedRepositories", "array"),),
    ),
)
