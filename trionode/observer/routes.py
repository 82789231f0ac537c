"""The routes of an observer: questions that it can answer, and nothing that changes or signs anything.

They are a node's own routes, chosen by name: a route that is new in a node is not served here by accident.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from trionode.api.answers import ApiFailure, Reply
from trionode.api.call import Call
from trionode.api.levels import Level
from trionode.api.route import Route
from trionode.api.routes import ROUTES, documents

SERVED = frozenset(
    {
        "/flux/version",
        "/flux/info",
        "/flux/uptime",
        "/flux/systemuptime",
        "/flux/ip",
        "/flux/apiport",
        "/flux/connectedpeers",
        "/flux/connectedpeersinfo",
        "/flux/incomingconnections",
        "/flux/incomingconnectionsinfo",
        "/flux/peers",
        "/flux/unstablenodes",
        "/flux/topology",
        "/flux/eventstream",
        "/apps/locations",
        "/apps/location",
        "/apps/installinglocations",
        "/apps/installinglocation",
        "/apps/installingerrorslocations",
        "/apps/installingerrorslocation",
        "/daemon/listfluxnodes",
        "/daemon/getblockcount",
        "/daemon/getblockchaininfo",
        "/trionode/status",
        "/trionode/counters",
        "/trionode/apps",
        "/trionode/explain",
        "/trionode/events",
    }
)
OF_SPECIFICATIONS = frozenset(
    {
        "/apps/globalappsspecifications",
        "/apps/appspecifications",
        "/apps/appowner",
        "/trionode/registered",
    }
)


def observer_routes(*, knows_specs: Callable[[], bool]) -> tuple[Route, ...]:
    """The rows of the route table, and the two that describe them.

    `knows_specs`: until it is true, routes about specifications are errors instead of empty lists.
    """
    served = tuple(
        _guarded(route, knows_specs) if route.path in OF_SPECIFICATIONS else route
        for route in ROUTES
        if route.path in SERVED | OF_SPECIFICATIONS and route.method == "GET" and route.level is Level.PUBLIC
    )
    return (*served, *documents.routes(served))


def _guarded(route: Route, knows_specs: Callable[[], bool]) -> Route:
    asked = route.handler

    async def handler(call: Call) -> Reply:
        if not knows_specs():
            raise ApiFailure("No majority of the sources has told specifications yet")
        return await asked(call)

    return msgspec.structs.replace(route, handler=handler)
