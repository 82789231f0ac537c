"""What the nodes of a local network answer, read over their HTTP API."""

from __future__ import annotations

import http.client
import json
from typing import Any

import msgspec
import trio

from trionode.devnet.layout import API_PORT, Layout, NodePlace

TIMEOUT_S = 2.0


class NodeView(msgspec.Struct, frozen=True):
    """One node as seen from outside. `locations` is None while it does not answer.

    `registered`: names of the apps whose specification is in force there.
    """

    place: NodePlace
    outbound: int = 0
    inbound: int = 0
    height: int | None = None
    can_send: bool = False
    locations: frozenset[tuple[str, str]] | None = None
    registered: frozenset[str] = frozenset()

    @property
    def answers(self) -> bool:
        return self.locations is not None


async def look(layout: Layout) -> list[NodeView]:
    """Ask every node at the same time; a node that does not answer is reported as such."""
    views: dict[int, NodeView] = {}

    async def ask(place: NodePlace) -> None:
        views[place.number] = await trio.to_thread.run_sync(_ask, place, abandon_on_cancel=True)

    async with trio.open_nursery() as nursery:
        for place in layout.nodes:
            nursery.start_soon(ask, place)
    return [views[place.number] for place in layout.nodes]


def agreed(layout: Layout, views: list[NodeView]) -> bool:
    """True when every node lists exactly what the network runs."""
    expected = layout.expected_locations
    return all(view.locations is not None and set(view.locations) == expected for view in views)


def _ask(place: NodePlace) -> NodeView:
    try:
        status = fetch(place.ip, "/trionode/status")
        rows = fetch(place.ip, "/apps/locations")
        specs = fetch(place.ip, "/apps/globalappsspecifications")
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return NodeView(place)
    peers, chain = status["peers"], status["chain"]
    return NodeView(
        place,
        outbound=peers["outbound"],
        inbound=peers["inbound"],
        height=chain["height"],
        can_send=bool(chain["canSend"]),
        locations=frozenset((row["name"], row["ip"]) for row in rows),
        registered=frozenset(spec["name"] for spec in specs),
    )


def fetch(ip: str, path: str) -> Any:
    """`data` of a successful answer, fresh. Raises OSError, HTTPException or ValueError."""
    connection = http.client.HTTPConnection(ip, API_PORT, timeout=TIMEOUT_S)
    try:
        # The response cache would show a picture up to 30 s old.
        connection.request("GET", path, headers={"x-apicache-bypass": "true"})
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    if answer["status"] != "success":
        raise ValueError(f"{path} answered {answer['status']}")
    return answer["data"]
