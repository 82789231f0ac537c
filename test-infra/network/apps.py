"""Registering apps on a network the way an owner does (docs/spec/testnet.md §5, docs/spec/api.md §8.1)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import trio

from network.env import OWNER
from network.node import LOOK_EVERY_S, PATIENCE, Node
from trionode.devnet.registering import signed_request, specification
from trionode.registry.messages import app_message, message_document
from trionode.runtime.clock import SystemClock
from trionode.sim.sealing import seal_spec

if TYPE_CHECKING:
    from network.network import Connected

NOT_YET = ("enough peers", "not yet synced", "may not send messages", "Try again later")
"""A node says so soon after its start, and while its peers are busy: an owner tries again."""


def web_app(name: str, **changes: Any) -> dict[str, Any]:
    """A small app of the owner, in canonical form."""
    return specification(name, OWNER.address, **changes)


def container_app(name: str, image: str, port: int, **changes: Any) -> dict[str, Any]:
    """A small app of one component `web` that a container engine can run; `port` leads to its port 80."""
    component = {**web_app(name)["compose"][0], "repotag": image, "ports": [port]}
    return web_app(name, compose=[{**component, "cpu": 0.1, "ram": 100, "hdd": 1}], **changes)


def sealed(spec: dict[str, Any]) -> dict[str, Any]:
    """The same app encrypted: only secure nodes can open it."""
    return seal_spec(spec, random.Random(f"key of app {spec['name']}"))


async def launch(net: Connected, node: Node, spec: dict[str, Any]) -> str:
    """Register an app at a node and pay for it in the next block; its hash."""
    app_hash = await register(node, spec)
    await net.chain.queue_app(app_hash)
    return app_hash


async def launch_sealed(net: Connected, spec: dict[str, Any]) -> str:
    """The same for an encrypted app, whose message the peer stubs have and hand out; its hash."""
    request = request_of("fluxappregister", spec)
    message = app_message(
        request["type"], request["version"], spec, request["timestamp"], request["signature"]
    )
    for stub in net.stubs:
        await stub.load(message_document(message))
    await net.chain.queue_app(message.hash)
    return message.hash


def request_of(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A request (`fluxappregister`, `fluxappupdate`) of the owner, signed now."""
    return signed_request(kind, spec, OWNER, SystemClock().now_ms())


async def submit(node: Node, body: dict[str, Any]) -> dict[str, Any]:
    """Give a request to a node, as its operator; the whole answer."""
    path = "/apps/appregister" if body["type"] == "fluxappregister" else "/apps/appupdate"
    return await node.ask("POST", path, body, session=await node.sign_in(node.admin))


async def register(node: Node, spec: dict[str, Any], within_s: float = 30.0) -> str:
    """Register an app at a node, as soon as that may be done there; the hash that has to be paid."""
    return await _accepted(node, "fluxappregister", spec, within_s)


async def update(node: Node, spec: dict[str, Any], within_s: float = 30.0) -> str:
    """The same for a new specification of an app."""
    return await _accepted(node, "fluxappupdate", spec, within_s)


async def _accepted(node: Node, kind: str, spec: dict[str, Any], within_s: float) -> str:
    answer: dict[str, Any] = {}
    with trio.move_on_after(within_s * PATIENCE):
        while not answer or any(words in str(answer["data"]) for words in NOT_YET):
            answer = await submit(node, request_of(kind, spec))
            await trio.sleep(LOOK_EVERY_S)
    assert answer.get("status") == "success", answer
    app_hash = str(answer["data"])
    assert len(app_hash) == 64
    assert set(app_hash) <= set("0123456789abcdef"), app_hash
    return app_hash


async def await_message(node: Node, app_hash: str, within_s: float = 30.0) -> None:
    """Wait until the unpaid message has arrived."""
    await node.until(
        f"/apps/temporarymessages/{app_hash}",
        lambda rows: [row["hash"] for row in rows] == [app_hash],
        within_s,
    )


async def await_resolved(node: Node, app_hash: str, within_s: float) -> None:
    """Wait until the payment is known there and has its message."""
    await node.until(
        "/apps/hashes",
        lambda rows: any(row["hash"] == app_hash and row["message"] for row in rows),
        within_s,
    )
    await node.until(f"/apps/permanentmessages/{app_hash}", lambda rows: len(rows) == 1, within_s)


async def installed(node: Node) -> dict[str, dict[str, Any]]:
    """What is installed on a node, by name."""
    return {row["name"]: row for row in await node.data("/apps/installedapps")}


async def await_in_force(node: Node, name: str, app_hash: str, within_s: float) -> dict[str, Any]:
    """Wait until that message is the app's specification there; the specification."""
    found = await node.until(
        f"/apps/appspecifications/{name}", lambda spec: spec["hash"] == app_hash, within_s
    )
    return dict(found)
