"""Registers and pays for an app on a local network, the way an owner would (docs/spec/api.md §8.1)."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlencode

from trionode.devnet.control import pay
from trionode.devnet.layout import API_PORT, Layout, NodePlace
from trionode.devnet.observe import fetch
from trionode.errors import PeerError
from trionode.registry.formats import format_spec
from trionode.registry.messages import signed_text
from trionode.wire.jsjson import stringify
from trionode.wire.keys import NodeKey

REQUEST_TIMEOUT_S = 20.0


def specification(name: str, owner: str, **changes: Any) -> dict[str, Any]:
    """A small web app of spec version 8 in canonical form, with `changes` to its top level.

    `owner`: a Flux ID. Raises Rejected for changes that do not format.
    """
    component = {
        "name": "web",
        "description": "pages",
        "repotag": "library/nginx:1.27",
        "ports": [36_001],
        "domains": [""],
        "environmentParameters": [],
        "commands": [],
        "containerPorts": [80],
        "containerData": "/data",
        "cpu": 0.5,
        "ram": 500,
        "hdd": 5,
        "repoauth": "",
    }
    return format_spec(
        {
            "version": 8,
            "name": name,
            "description": "a shop",
            "owner": owner,
            "compose": [component],
            "instances": 3,
            "contacts": [],
            "geolocation": [],
            "expire": 88_000,
            "nodes": [],
            "staticip": False,
            "enterprise": "",
            **changes,
        }
    )


def signed_request(kind: str, spec: dict[str, Any], owner: NodeKey, now_ms: int) -> dict[str, Any]:
    """The body of a request to register (`fluxappregister`) or update (`fluxappupdate`) an app."""
    signature = owner.sign(signed_text(kind, 1, stringify(spec), now_ms))
    return {
        "type": kind,
        "version": 1,
        "appSpecification": spec,
        "timestamp": now_ms,
        "signature": signature,
    }


def ask(place: NodePlace, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
    """The whole envelope of an answer; bodies go as text/plain, as established clients send them.

    Raises OSError, HTTPException or ValueError.
    """
    connection = http.client.HTTPConnection(place.ip, API_PORT, timeout=REQUEST_TIMEOUT_S)
    try:
        text = None if body is None else json.dumps(body)
        every = {"x-apicache-bypass": "1", "Content-Type": "text/plain", **headers}
        connection.request(method, path, body=text, headers=every)
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise ValueError(f"{path} answered no envelope")
    return answer


def sign_in(place: NodePlace, owner: NodeKey) -> str:
    """Sign in at a node; the `zelidauth` header for later requests. Raises PeerError when refused."""
    phrase = ask(place, "GET", "/id/emergencyphrase")["data"]
    session = {"zelid": owner.address, "loginPhrase": phrase, "signature": owner.sign(phrase)}
    answer = ask(place, "POST", "/id/verifylogin", session)
    if answer["status"] != "success":
        raise PeerError(f"{place.ip} refused the sign-in: {answer['data'].get('message')}")
    return urlencode(session)


def ready_node(layout: Layout) -> NodePlace | None:
    """A node that follows the chain and has links both ways, which registering asks for."""
    for place in layout.nodes:
        peers = fetch(place.ip, "/trionode/status")["peers"]
        if peers["outbound"] and peers["inbound"] and fetch(place.ip, "/explorer/issynced"):
            return place
    return None


def register_and_pay(
    place: NodePlace, layout: Layout, spec: dict[str, Any], owner: NodeKey, now_ms: int
) -> str:
    """Register an app at one node and pay for it in the next block; its hash.

    Raises PeerError with the node's own words when it refuses.
    """
    session = sign_in(place, owner)
    body = signed_request("fluxappregister", spec, owner, now_ms)
    answer = ask(place, "POST", "/apps/appregister", body, zelidauth=session)
    if answer["status"] != "success":
        raise PeerError(f"{place.ip} refused the app: {answer['data'].get('message')}")
    pay(layout, answer["data"])
    return str(answer["data"])
