"""Checks that nodes do for one another: "can you reach me?" (docs/spec/api.md §6).

The answers raise or clear penalties at the asking node, so their texts are part of the contract. All
of them make this node connect elsewhere on request; therefore only to listed nodes, or on the word of
a signature from one, and never to private addresses unless the network allows them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import trio

from trionode.api.answers import Answer, ApiFailure, success
from trionode.api.call import Call
from trionode.api.levels import Level
from trionode.api.route import MESSAGE, Field, Param, Route
from trionode.wire import jsjson
from trionode.wire.address import DEFAULT_PORT, bare, is_ipv4, is_routable_ipv4
from trionode.wire.signing import verify_message

CHECK_TIMEOUT_S = 5.0
MAX_PORTS = 1000
PARALLEL_CHECKS = 10
PORT_RANGE = range(1, 65536)


async def check_node(call: Call) -> Answer:
    """Version, home page and the port after next of another node."""
    context = call.context
    ip = call.text("ip")
    if not ip or not all(character.isdigit() or character == "." for character in ip) or not is_ipv4(ip):
        raise ApiFailure("Invalid ip provided")
    network = context.settings.network
    port = call.number("port", default=DEFAULT_PORT, low=1, high=65535)
    if port not in network.allowed_api_ports:
        raise ApiFailure(f"Port {port} is no API port of the network")
    if context.chain.nodes.by_address(bare(ip, port)) is None:
        raise ApiFailure(f"{bare(ip, port)} is not in the node list")
    if not _may_contact(call, ip):
        # anybody may ask, and a node is listed under the address it claims
        raise ApiFailure(f"Asking Flux {bare(ip, port)} is not available: a private address")
    verdicts: list[bool] = []

    async def version() -> None:
        verdicts.append(await _has_version(call, ip, port, network.minimum_compatible_version))

    async def home() -> None:
        verdicts.append(await _has_home_page(call, ip, port - 1))

    async def file_sync() -> None:
        verdicts.append(await context.probe.tcp_connects(ip, port + 2, timeout_s=CHECK_TIMEOUT_S))

    async with trio.open_nursery() as nursery:
        for check in (version, home, file_sync):
            nursery.start_soon(check)
    if not all(verdicts):
        raise ApiFailure(f"Asking Flux {bare(ip, port)} is not available")
    return success("Asking Flux is available")


async def _has_version(call: Call, ip: str, port: int, minimum: str) -> bool:
    answer = await call.context.probe.http_get(ip, port, "/flux/version", timeout_s=CHECK_TIMEOUT_S)
    if answer is None or answer.status != 200:
        return False
    try:
        body = json.loads(answer.body)
    except ValueError:
        return False
    if not isinstance(body, dict) or body.get("status") != "success":
        return False
    return version_numbers(body.get("data")) >= version_numbers(minimum)


def version_numbers(version: object) -> tuple[int, ...]:
    """Three numbers of a version; every character but digits and dots is dropped first (api.md §5)."""
    kept = "".join(c for c in str(version) if c in "0123456789.")
    numbers = [int(part[:9] or "0") for part in kept.split(".")[:3]]
    return tuple(numbers + [0] * (3 - len(numbers)))


async def _has_home_page(call: Call, ip: str, port: int) -> bool:
    answer = await call.context.probe.http_get(ip, port, "/health", timeout_s=CHECK_TIMEOUT_S)
    if answer is None or answer.status != 200:
        return False
    return answer.body.strip() == b"OK" or b"<title>" in answer.body


async def check_app(call: Call) -> Answer:
    """Do the ports of an app on another node accept connections?"""
    if not signed_by_node(call) and not call.allowed(Level.ADMIN_OR_TEAM):
        raise ApiFailure("Unauthorized. Access denied.", name="Unauthorized", number=401)
    ip = call.body_text("ip")
    ports = _ports(call.body.get("ports"))
    if not _may_contact(call, ip):
        raise ApiFailure(f"Invalid ip: {ip[:60]!r}")
    # no app may use a banned port, so nobody listens there
    banned = call.context.registry.constants.banned_ports
    tested = [port for port in ports if port in PORT_RANGE and port not in banned]
    failed = await _closed_ports(call, ip, tested)
    if failed:
        first = next(port for port in tested if port in failed)
        raise ApiFailure(f"Flux Applications on {ip} are not available. Failed port: {first}")
    return success(f"Flux Applications on {ip}:{call.body.get('port', '')} are available.")


async def _closed_ports(call: Call, ip: str, ports: Sequence[int]) -> set[int]:
    closed: set[int] = set()
    limiter = trio.CapacityLimiter(PARALLEL_CHECKS)

    async def check(port: int) -> None:
        async with limiter:
            if not await call.context.probe.tcp_connects(ip, port, timeout_s=CHECK_TIMEOUT_S):
                closed.add(port)

    async with trio.open_nursery() as nursery:
        for port in ports:
            nursery.start_soon(check, port)
    return closed


def signed_by_node(call: Call) -> bool:
    """Is the body (its JSON text without `signature`, members in received order) signed by a listed key?"""
    key, signature = call.body_text("pubKey"), call.body_text("signature")
    if not key or not signature or not call.context.chain.nodes.has_pubkey(key):
        return False
    unsigned: dict[str, Any] = {name: value for name, value in call.body.items() if name != "signature"}
    return verify_message(jsjson.stringify(unsigned), key, signature)


def _may_contact(call: Call, ip: str) -> bool:
    return is_routable_ipv4(ip) or (call.context.settings.network.allow_private_addresses and is_ipv4(ip))


def _ports(value: object) -> list[int]:
    """Port numbers from numbers or their texts; raises ApiFailure for anything else."""
    if not isinstance(value, list) or len(value) > MAX_PORTS:
        raise ApiFailure(f"ports must be a list of at most {MAX_PORTS} numbers")
    ports: list[int] = []
    for item in value:
        if isinstance(item, str) and item.isascii() and item.isdigit() and len(item) < 6:
            ports.append(int(item))
        elif isinstance(item, int) and not isinstance(item, bool):
            ports.append(item)
        else:
            raise ApiFailure(f"ports must hold numbers only, not {item!r}"[:120])
    return ports


_SIGNED_BODY = (
    Field("ip", "string", "Address to test"),
    Field("port", "integer", "API port of that node"),
    Field("appname", "string", "Name of the app", required=False),
    Field("ports", "array", "Ports to test"),
    Field("pubKey", "string", "Node key the body is signed with"),
    Field("signature", "string", "Over the JSON text of the body without this member"),
)

ROUTES = (
    Route(
        "/flux/checkfluxavailability",
        check_node,
        "Is that node reachable from here?",
        "availability",
        cache_s=30,
        params=(
            Param("ip", "Address of the node", required=True),
            Param("port", "Its API port", kind="integer"),
        ),
        result=MESSAGE,
    ),
    Route(
        "/flux/checkappavailability",
        check_app,
        "Are these ports reachable from here? Needs a node's signature or admin or team rights",
        "availability",
        method="POST",
        body=_SIGNED_BODY,
        result=MESSAGE,
    ),
)
