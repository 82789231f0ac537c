"""The routes of an observer: questions that it can answer, and nothing that changes or signs anything.

They are a node's own routes, chosen by name: a route that is new in a node is not served here by accident.
"""

from __future__ import annotations

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


def observer_routes() -> tuple[Route, ...]:
    """The rows of the route table, and the two that describe them."""
    served = tuple(
        route
        for route in ROUTES
        if route.path in SERVED and route.method == "GET" and route.level is Level.PUBLIC
    )
    return (*served, *documents.routes(served))
