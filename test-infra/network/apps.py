"""Registering apps on a network the way an owner does (docs/spec/testnet.md §5, docs/spec/api.md §8.1)."""

from __future__ import annotations

from typing import Any

from network.env import OWNER
from network.node import Node
from trionode.devnet.registering import signed_request, specification
from trionode.runtime.clock import SystemClock


def web_app(name: str, **changes: Any) -> dict[str, Any]:
    """A small app of the owner, in canonical form."""
    return specification(name, OWNER.address, **changes)


def request_of(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A request (`fluxappregister`, `fluxappupdate`) of the owner, signed now."""
    return signed_request(kind, spec, OWNER, SystemClock().now_ms())


async def submit(node: Node, body: dict[str, Any]) -> dict[str, Any]:
    """Give a request to a node, as its operator; the whole answer."""
    path = "/apps/appregister" if body["type"] == "fluxappregister" else "/apps/appupdate"
    return await node.ask("POST", path, body, session=await node.sign_in(node.admin))


async def register(node: Node, spec: dict[str, Any]) -> str:
    """Register an app at a node; the hash that has to be paid."""
    answer = await submit(node, request_of("fluxappregister", spec))
    assert answer["status"] == "success", answer
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


async def await_in_force(node: Node, name: str, app_hash: str, within_s: float) -> dict[str, Any]:
    """Wait until that message is the app's specification there; the specification."""
    found = await node.until(
        f"/apps/appspecifications/{name}", lambda spec: spec["hash"] == app_hash, within_s
    )
    return dict(found)
