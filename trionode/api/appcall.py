"""What routes about installed apps have in common: target, owner, containers (docs/spec/api.md §8.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import trio

from trionode.api.answers import ApiFailure
from trionode.api.appdesk import AppDesk
from trionode.api.call import Call
from trionode.api.containersport import ContainersPort
from trionode.api.registrycall import find_current
from trionode.api.route import Param
from trionode.containers.engine import NotFound
from trionode.errors import HostError
from trionode.lifecycle.local import Component, InstalledApp
from trionode.lifecycle.names import container_name
from trionode.plans.control import app_of, parts_meant

ENGINE_ANSWER_S = 30.0
"""Time for a question to the engine; commands have `hosting.engine_timeout_s`."""
UNKNOWN_APP = "Application not found"
TARGET = Param("appname", "Name of the app, or component_app for one of its components", required=True)
GLOBAL = Param("global", "On all nodes that run the app", kind="boolean")

T = TypeVar("T")


def containers_of_node(call: Call) -> ContainersPort:
    """The containers of this node. Raises ApiFailure when it runs none."""
    found = call.context.containers
    if found is None:
        raise ApiFailure("This node runs no apps: no container engine is configured (hosting.engine)")
    return found


def desk_of(call: Call) -> AppDesk:
    """Where commands are handed in. Raises ApiFailure."""
    if call.context.desk is None:
        raise ApiFailure("This node does not take commands to apps")
    return call.context.desk


def caller_of(call: Call) -> str:
    """Who asks, as the route has verified."""
    return "" if call.credentials is None else call.credentials.flux_id


def asked_target(call: Call) -> str:
    """The app or component a request is about, empty when it names none."""
    return call.text("appname") or call.body_text("appname")


def target_of(call: Call) -> str:
    """The same; raises ApiFailure when there is none."""
    target = asked_target(call)
    if not target:
        raise ApiFailure("No Flux App specified")
    return target


def whole_app(call: Call, verb: str) -> str:
    """The name of an app; raises ApiFailure for one of its components."""
    target = target_of(call)
    if app_of(target) != target:
        raise ApiFailure(f"Components of an app cannot be {verb} alone")
    return target


async def owner_of(call: Call, app: str) -> str | None:
    """Whom an app belongs to: by its registration (any letter case), else by what is installed here."""
    if not app:
        return None
    current = await find_current(call, app)
    if current is not None:
        owner = current.spec().get("owner")
        return owner if isinstance(owner, str) else None
    containers = call.context.containers
    if containers is None:
        return None
    for row in containers.installed.rows():
        if row.name.lower() == app.lower():
            owner = row.spec.get("owner")
            return owner if isinstance(owner, str) else None
    return None


def installed_app(containers: ContainersPort, name: str) -> InstalledApp:
    """The app of exactly that name. Raises ApiFailure."""
    found = next((app for app in containers.installed.installed() if app.name == name), None)
    if found is None:
        raise ApiFailure(UNKNOWN_APP)
    if not found.components:
        raise ApiFailure(f"The specification of {name} is encrypted and cannot be opened here")
    return found


def meant(containers: ContainersPort, target: str) -> tuple[InstalledApp, tuple[Component, ...]]:
    """The app of a target and the components it names. Raises ApiFailure when there are none."""
    app = installed_app(containers, app_of(target))
    parts = parts_meant(app, target)
    if not parts:
        raise ApiFailure(UNKNOWN_APP)
    return app, parts


def one_container(call: Call) -> tuple[ContainersPort, str]:
    """The name of the one container a request is about. Raises ApiFailure when it may be several."""
    containers = containers_of_node(call)
    app, parts = meant(containers, target_of(call))
    if len(parts) > 1:
        names = ", ".join(part.identifier for part in parts)
        raise ApiFailure(f"{app.name} has several components, name one of them: {names}")
    return containers, container_name(parts[0].identifier)


async def states_of(containers: ContainersPort) -> Mapping[str, str]:
    """Container name -> state, asked of the engine."""
    return {row.name: row.state for row in await in_time(containers.engine.containers())}


async def in_time(question: Awaitable[T], limit_s: float = ENGINE_ANSWER_S) -> T:
    """The engine's answer; raises ApiFailure with what is wrong when there is none."""
    with engine_troubles():
        with trio.move_on_after(limit_s):
            return await question
        raise ApiFailure(f"The container engine did not answer within {limit_s:g} s", name="EngineError")


@contextmanager
def engine_troubles() -> Iterator[None]:
    """Turns what the engine says no to into the answer that tells it."""
    try:
        yield
    except NotFound as error:
        raise ApiFailure(error.one_line(), name="NotFound") from error
    except HostError as error:
        raise ApiFailure(error.one_line(), name="EngineError") from error
